"""Draws a scene: every visible surface, one lamp with soft shadows, light from the sky and the floor.

The same pixels on every CPU: a ray meets quadrics (`raycast`), colours are procedural (`textures`), and nothing
but + - * / sqrt and integer hashing takes part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.data.sim.body import Shape
from bench.data.sim.exact import cross, dot, turn, unit
from bench.data.sim.raycast import NOTHING, camera_rays, cast, quadric
from bench.data.sim.scene import Camera, Pose, Scene, primitive_frames
from bench.data.sim.shadows import ShadowMap
from bench.data.sim.textures import Place, plane_colour, solid_colour
from metrics.errors import DataError

SMALLEST, LARGEST = 64, 256
"""Sides in pixels that can be drawn."""
OVERSAMPLING = 2
"""Rays per pixel and direction."""
SURFACE_LIFT = 0.006
"""A shadow is looked up this far above the surface (metres)."""
FLOOR_SHARE = 0.55
"""Light that comes up from the floor, as a share of the light from above."""
TEXTURE_SHIFTS = 7
OWN_COORDINATES = frozenset({"head", "cloth", "rings", "ribs"})
"""Textures whose markings sit at fixed places of a primitive; the others are shifted between primitives."""


def check_size(size: int) -> None:
    """Raises DataError unless a picture of `size` px can be drawn."""
    if isinstance(size, bool) or not isinstance(size, int) or not SMALLEST <= size <= LARGEST:
        raise DataError(
            f"the simulated world draws square pictures of {SMALLEST} to {LARGEST} px a side, found {size!r}; "
            "choose a size in that range"
        )


def render(scene: Scene, pose: Pose, size: int) -> np.ndarray:
    """Frames uint8 `[F, 3, size, size]`, RGB, of the scene at the F frames of `pose`.

    Raises:
        DataError: `size` is not from 64 to 256.
    """
    check_size(size)
    changed = [k for k in range(len(pose)) if k == 0 or _differ(pose, k - 1, k)]
    if len(changed) < len(pose):
        drawn = np.searchsorted(changed, np.arange(len(pose)), "right") - 1
        return render(scene, pose[changed], size)[drawn]
    side = size * OVERSAMPLING
    rays = camera_rays(scene.camera, side)
    hits = cast(scene.primitives, pose, rays)
    shadows = ShadowMap(scene, pose, size)
    picture = _room_picture(scene, side, hits.primitive == NOTHING, shadows, len(pose))
    frame, row, column = np.nonzero(hits.primitive != NOTHING)
    along = scene.camera.rays(side)[row, column]
    points = scene.camera.position + hits.depth[frame, row, column][:, None] * along
    found = hits.primitive[frame, row, column].astype(np.int64)
    picture[frame, row, column] = _object_colours(scene, pose, frame, found, points, along, shadows)
    small = _average(picture, size)
    frames = np.floor(small * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return np.ascontiguousarray(frames.transpose(0, 3, 1, 2))


def _differ(pose: Pose, one: int, other: int) -> bool:
    return bool(
        (pose.position[one] != pose.position[other]).any() or (pose.rotation[one] != pose.rotation[other]).any()
    )


def _average(picture: np.ndarray, size: int) -> np.ndarray:
    cells = picture.reshape(len(picture), size, OVERSAMPLING, size, OVERSAMPLING, 3)
    total = np.zeros((len(picture), size, size, 3), np.float32)
    for i in range(OVERSAMPLING):
        for j in range(OVERSAMPLING):
            total += cells[:, :, i, :, j]
    return total / np.float32(OVERSAMPLING * OVERSAMPLING)


@dataclass(frozen=True)
class _Light:
    """The lamp and the ambient light as float32."""

    direction: np.ndarray
    colour: np.ndarray
    above: np.ndarray
    below: np.ndarray

    @staticmethod
    def of(scene: Scene) -> _Light:
        above = scene.lamp.ambient.astype(np.float32)
        return _Light(
            scene.lamp.direction.astype(np.float32),
            scene.lamp.colour.astype(np.float32),
            above,
            above * np.float32(FLOOR_SHARE),
        )

    def ambient(self, normal: np.ndarray) -> np.ndarray:
        up = (np.float32(0.5) + np.float32(0.5) * normal[..., 2])[..., None]
        return self.below * (1 - up) + self.above * up


def _display(linear: np.ndarray) -> np.ndarray:
    return np.sqrt(np.clip(linear, 0, 1))


def _room_picture(scene: Scene, side: int, visible: np.ndarray, shadows: ShadowMap, frames: int) -> np.ndarray:
    """Floor and wall `[F, side, side, 3]`, shadowed where `visible [F, side, side]`."""
    light = _Light.of(scene)
    colour, points, normal = _room_surface(scene, side)
    facing = np.maximum(dot(normal, light.direction), 0)[:, None]
    base, direct = colour * light.ambient(normal), colour * light.colour * facing
    picture = np.repeat(_display(base + direct).reshape(1, side, side, 3), frames, 0)
    darkened = shadows.may_darken(points).reshape(side, side)
    frame, row, column = np.nonzero(visible & darkened[None])
    place = row * side + column
    lit = shadows.lit(points[place], frame)
    change = np.flatnonzero(lit < 1)
    place, lit = place[change], lit[change]
    picture[frame[change], row[change], column[change]] = _display(base[place] + direct[place] * lit[:, None])
    return picture


def _room_surface(scene: Scene, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colour, place and normal, float32 `[side * side, 3]`, of the floor or wall behind each ray."""
    camera: Camera = scene.camera
    room = scene.room
    along = camera.rays(side).reshape(-1, 3)
    down, towards = along[:, 2], dot(along, room.wall_normal)
    far = np.float64(1e9)
    to_floor = np.where(down < -1e-6, -camera.position[2] / np.minimum(down, -1e-6), far)
    gap = room.wall_offset - dot(camera.position, room.wall_normal)
    to_wall = np.where(towards < -1e-6, gap / np.minimum(towards, -1e-6), far)
    on_floor = to_floor < to_wall
    points = camera.position + np.minimum(to_floor, to_wall)[:, None] * along
    sideways = cross(np.array([0.0, 0.0, 1.0]), room.wall_normal)
    colour = np.empty((len(along), 3), np.float32)
    floor, wall = np.flatnonzero(on_floor), np.flatnonzero(~on_floor)
    colour[floor] = plane_colour(room.floor, points[floor, 0], points[floor, 1])
    colour[wall] = plane_colour(room.wall, dot(points[wall], sideways), points[wall, 2])
    colour[~on_floor & (points[:, 2] < room.skirting)] = np.float32(room.skirting_colour)
    normal = np.where(on_floor[:, None], np.array([0, 0, 1], np.float32), room.wall_normal.astype(np.float32))
    return colour, points.astype(np.float32), normal


def _object_colours(
    scene: Scene,
    pose: Pose,
    frame: np.ndarray,
    found: np.ndarray,
    points: np.ndarray,
    along: np.ndarray,
    shadows: ShadowMap,
) -> np.ndarray:
    """Displayed colours float32 `[N, 3]` of the points `[N, 3]` that rays `along [N, 3]` meet on primitives `found`."""
    primitives = scene.primitives
    rotations, origins = primitive_frames(primitives, pose)
    rotation = rotations[frame, found]
    local = turn(np.swapaxes(rotation, -1, -2), points - origins[frame, found]).astype(np.float32)
    rows = np.array([quadric(p) for p in primitives], np.float32)[found]
    slope = 2 * rows[:, :3] * local
    slope[:, 2] += rows[:, 3]
    normal = turn(rotation.astype(np.float32), slope)
    normal = normal / np.sqrt(dot(normal, normal) + np.float32(1e-20))[:, None]
    view = unit(along).astype(np.float32)
    normal = np.where((dot(normal, view) > 0)[:, None], -normal, normal)

    albedo = _albedo(scene, frame, found, local)
    materials = np.array([p.material for p in primitives])[found]
    through = np.array([m.translucency for m in scene.materials], np.float32)[materials]
    gloss = np.array([m.gloss for m in scene.materials], np.float32)[materials]

    light = _Light.of(scene)
    lit = shadows.lit(points + normal * SURFACE_LIFT, frame)
    facing = dot(normal, light.direction)
    diffuse = np.maximum(facing, 0) + through * np.maximum(-facing, 0)
    colour = albedo * (light.ambient(normal) + light.colour * (diffuse * lit)[:, None])
    shine = np.maximum(dot(unit(light.direction - view), normal), 0)
    for _ in range(4):
        shine = shine * shine
    return _display(colour + (gloss * shine * lit)[:, None] * light.colour)


def _albedo(scene: Scene, frame: np.ndarray, found: np.ndarray, local: np.ndarray) -> np.ndarray:
    primitives = scene.primitives
    size = np.array([p.size if p.shape is Shape.LEAF else (1.0, 1.0, 0, 0) for p in primitives], np.float32)[found]
    span = np.array([p.span for p in primitives], np.float32)[found]
    along = span[:, 0] + (span[:, 1] - span[:, 0]) * local[:, 0] / size[:, 0]
    across = local[:, 1] / size[:, 1]
    shift = (found % TEXTURE_SHIFTS).astype(np.float32) * np.float32(0.37)
    colour = np.empty((len(found), 3), np.float32)
    materials = np.array([p.material for p in primitives])[found]
    order = np.argsort(materials, kind="stable")
    starts = np.searchsorted(materials[order], np.arange(len(scene.materials) + 1))
    for index, material in enumerate(scene.materials):
        k = order[starts[index] : starts[index + 1]]
        if len(k) == 0:
            continue
        own = np.float32(0) if material.kind in OWN_COORDINATES else shift[k]
        place = Place(local[k, 0] + own, local[k, 1] + own, local[k, 2] + own, along[k], across[k])
        colour[k] = solid_colour(material, place)
    tint = np.array([p.tint for p in primitives], np.float32)[found]
    return colour * tint[:, None]
