"""A scene: one object, a room, a lamp and a camera, all drawn from (kind, seed)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.data.sim.assembly import Assembly
from bench.data.sim.body import STATIC, Anchor, Body, Freedom, Material, Primitive, Shape
from bench.data.sim.exact import Random, compose, cosine, cross, direction, dot, quantise, sine, turn, unit
from bench.data.sim.grow import grow_plant
from bench.data.sim.human import grow_human
from bench.data.sim.species import HUMAN, PLANTS
from metrics.errors import DataError

FLOORS = ("checker", "planks", "tiles", "carpet", "plain")
WALLS = ("plain", "brick", "stripes", "dots", "gradient", "clouds", "tiles")
FRAMING_STEPS = 15


@dataclass(frozen=True)
class Pose:
    """Bodies over F frames: `position [F, B, 3]` (metres) and `rotation [F, B, 3, 3]`, float64, quantised."""

    position: np.ndarray
    rotation: np.ndarray

    def __len__(self) -> int:
        return len(self.position)

    def __getitem__(self, frames: slice | np.ndarray | list[int]) -> Pose:
        return Pose(self.position[frames], self.rotation[frames])


@dataclass(frozen=True)
class Camera:
    """A pinhole with a square picture. `tangent` is that of half the field of view."""

    position: np.ndarray
    forward: np.ndarray
    right: np.ndarray
    up: np.ndarray
    tangent: float

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places `[..., 2]` in the picture, (0, 0) top left to (1, 1) bottom right, and depths of `points [..., 3]`."""
        seen = points - self.position
        depth = np.maximum(dot(seen, self.forward), 1e-6)
        x = (dot(seen, self.right) / depth / self.tangent + 1) * 0.5
        y = (1 - dot(seen, self.up) / depth / self.tangent) * 0.5
        return np.stack([x, y], -1), depth

    def pixels(self, points: np.ndarray, size: int) -> np.ndarray:
        """(x, y) `[..., 2]` in pixels at `size`; whole numbers are pixel centres."""
        return self.project(points)[0] * size - 0.5

    def rays(self, size: int) -> np.ndarray:
        """Directions `[size, size, 3]` through the pixel centres; their length makes depth the ray parameter."""
        at = ((np.arange(size) + 0.5) / size * 2 - 1) * self.tangent
        return self.forward + at[None, :, None] * self.right - at[:, None, None] * self.up


@dataclass(frozen=True)
class Room:
    """Floor z = 0, and a wall: the plane `wall_normal . x = wall_offset`, with a skirting board."""

    floor: Material
    wall: Material
    wall_normal: np.ndarray
    wall_offset: float
    skirting: float
    skirting_colour: float


@dataclass(frozen=True)
class Lamp:
    """A distant lamp in `direction` (unit vector towards it), its colour, and the light from everywhere else."""

    direction: np.ndarray
    colour: np.ndarray
    ambient: np.ndarray


@dataclass(frozen=True)
class Scene:
    """Everything about a scene except time. It does not depend on the picture's size.

    Attributes:
        kind: species name or "human".
        parts: name of each part id; 0 is the background.
        centre, radius: a ball around the object, metres.
    """

    kind: str
    seed: str
    bodies: tuple[Body, ...]
    primitives: tuple[Primitive, ...]
    materials: tuple[Material, ...]
    parts: tuple[str, ...]
    anchors: tuple[Anchor, ...]
    freedoms: tuple[Freedom, ...]
    camera: Camera
    room: Room
    lamp: Lamp
    centre: np.ndarray
    radius: float
    rest: Pose


def build_scene(kind: str, seed: str) -> Scene:
    """The scene of `kind` (a species name or "human") drawn from `seed`.

    Raises:
        DataError: no such kind.
    """
    if kind != HUMAN and kind not in PLANTS:
        raise DataError(f"unknown kind of object {kind!r}; there are {', '.join([*PLANTS, HUMAN])}")
    rng = Random("scene", kind, seed)
    assembly = grow_human(rng) if kind == HUMAN else grow_plant(kind, rng)
    assembly.sort_bodies()
    rest = Pose(*assembly.rest_pose())
    corners = primitive_corners(assembly.primitives, rest)[0]
    everything = corners.reshape(-1, 3)
    low, high = everything.min(0), everything.max(0)
    centre = quantise(0.5 * (low + high))
    radius = float(quantise(1.12 * np.sqrt(dot(everything - centre, everything - centre).max())))
    camera = _camera(kind, assembly, corners, centre, rng)
    return Scene(
        kind=kind,
        seed=seed,
        bodies=tuple(assembly.bodies),
        primitives=tuple(assembly.primitives),
        materials=tuple(assembly.materials),
        parts=tuple(assembly.parts),
        anchors=tuple(assembly.anchors),
        freedoms=tuple(assembly.freedoms),
        camera=camera,
        room=_room(everything, rng),
        lamp=_lamp(rng),
        centre=centre,
        radius=radius,
        rest=rest,
    )


def primitive_frames(primitives: tuple[Primitive, ...] | list[Primitive], pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """World rotations `[F, P, 3, 3]` and origins `[F, P, 3]` of the primitives."""
    body = np.array([p.body for p in primitives])
    local = np.stack([p.rotation for p in primitives])
    offset = np.stack([p.offset for p in primitives])
    carried = pose.rotation[:, body]
    return compose(carried, local[None]), pose.position[:, body] + turn(carried, offset[None])


def primitive_corners(primitives: tuple[Primitive, ...] | list[Primitive], pose: Pose) -> np.ndarray:
    """Corners `[F, P, 8, 3]` of boxes around the primitives in the world."""
    boxes = [_box(p) for p in primitives]
    low, high = (np.stack(side) for side in zip(*boxes, strict=True))
    unit_cube = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], np.float64)
    local = low[:, None] + unit_cube[None] * (high - low)[:, None]
    rotations, origins = primitive_frames(primitives, pose)
    return origins[:, :, None] + turn(rotations[:, :, None], local[None])


def _box(p: Primitive) -> tuple[np.ndarray, np.ndarray]:
    a, b, c, d = p.size
    if p.shape is Shape.ELLIPSOID:
        return np.array([-a, -b, -c]), np.array([a, b, c])
    if p.shape is Shape.FRUSTUM:
        r = max(a, b)
        wide = r * max(d, 0.0)
        return np.array([-r, -wide, 0.0]), np.array([r, wide, c])
    heights = (0.0, c * a * a, d * b * b, c * a * a + d * b * b)
    return np.array([0.0, -b, min(heights)]), np.array([a, b, max(heights)])


def _camera(kind: str, assembly: Assembly, corners: np.ndarray, centre: np.ndarray, rng: Random) -> Camera:
    """Frames the moving parts and the upper part of the pot so that they fill most of the picture."""
    human = kind == HUMAN
    azimuth = rng.uniform(-0.3, 0.3)
    elevation = rng.uniform(0.0, 0.22) if human else rng.uniform(0.06, 0.38)
    tangent = float(quantise(rng.uniform(0.27, 0.41)))
    fill = rng.uniform(0.78, 0.90) if human else rng.uniform(0.86, 0.98)
    towards = direction(azimuth, elevation)
    moving = np.array([p.body != STATIC for p in assembly.primitives])
    shown = corners[moving].reshape(-1, 3)
    if not human:
        above = corners.reshape(-1, 3)
        shown = np.concatenate([shown, above[above[:, 2] > 0.10]])
    aim, distance = centre, 3.0
    shift = (rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03))
    for step in range(FRAMING_STEPS + 1):
        camera = _look(aim + towards * distance, aim, tangent)
        if step == FRAMING_STEPS:
            return camera
        place, depth = camera.project(shown)
        low, high = place.min(0), place.max(0)
        middle = 0.5 * (low + high) - 0.5
        if step == FRAMING_STEPS - 1:
            middle = np.array(shift)
        else:
            distance *= float((high - low).max()) / fill
        reach = 2 * tangent * float(np.sort(depth)[len(depth) // 2])
        aim = aim + middle[0] * reach * camera.right - middle[1] * reach * camera.up
    raise AssertionError("unreachable")


def _look(position: np.ndarray, aim: np.ndarray, tangent: float) -> Camera:
    forward = unit(aim - position)
    right = unit(cross(forward, np.array([0.0, 0.0, 1.0])))
    up = cross(right, forward)
    return Camera(quantise(position), quantise(forward), quantise(right), quantise(up), tangent)


def _room(everything: np.ndarray, rng: Random) -> Room:
    floor = _surface(rng, rng.choice(FLOORS), (0.12, 0.62), (2.5, 6.0))
    wall = _surface(rng, rng.choice(WALLS), (0.22, 0.80), (2.0, 6.0))
    turned = rng.uniform(-0.3, 0.3)
    normal = quantise([-cosine(turned), sine(turned), 0.0])
    furthest = float(dot(everything, normal).min())
    return Room(
        floor,
        wall,
        normal,
        float(quantise(furthest - rng.uniform(0.15, 1.2))),
        rng.choice((0.0, 0.08)),
        rng.uniform(0.2, 0.85),
    )


def _surface(rng: Random, kind: str, brightness: tuple[float, float], scale: tuple[float, float]) -> Material:
    low = rng.colour(*brightness)
    factor = rng.uniform(0.55, 1.6)
    high_r, high_g, high_b = (min(max(v * factor * rng.uniform(0.85, 1.15), 0.02), 0.92) for v in low)
    high = (high_r, high_g, high_b)
    if kind == "planks":
        wood = rng.uniform(0.6, 1.5)
        low, high = (0.27 * wood, 0.165 * wood, 0.095 * wood), (0.45 * wood, 0.29 * wood, 0.17 * wood)
    return Material(kind, low, high, scale=rng.within(scale), seed=rng.integer(1, 99))


def _lamp(rng: Random) -> Lamp:
    warmth, power = rng.uniform(-0.08, 0.08), rng.uniform(0.75, 1.05)
    ambient = rng.uniform(0.36, 0.54)
    return Lamp(
        quantise(direction(rng.uniform(-1.2, 1.2), rng.uniform(0.65, 1.2))),
        quantise([(1 + warmth) * power, power, (1 - warmth) * power]),
        quantise([0.92 * ambient, 0.98 * ambient, 1.05 * ambient]),
    )
