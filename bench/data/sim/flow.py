"""Exact optical flow: where every surface point of x0 is in every frame, what part it is of, and whether it is seen.

Pixels count from centre to centre: (x, y) = (0, 0) is the centre of the top left pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.data.sim.body import STATIC
from bench.data.sim.exact import turn
from bench.data.sim.raycast import NOTHING, camera_rays, cast
from bench.data.sim.scene import Pose, Scene, primitive_frames

SAME_SURFACE = 0.02
"""A point counts as seen when the surface met at the pixel that it is nearest to is at most this much nearer (metres).

Where surfaces are steep, or edges cross a pixel, that is coarse: of 2010 moving pixels of five plants at 64 px, against
rays eight times denser, 3.8 % were called hidden that are seen, and 2.5 % seen that are hidden."""


@dataclass(frozen=True)
class Surface:
    """What the centres of the pixels of one frame show, at one size.

    Attributes:
        primitive: int16 `[S, S]`, -1 for floor and wall.
        local: float64 `[S, S, 3]`: the point in the frame of its primitive.
        depth: float64 `[S, S]`, metres along the view, infinite for floor and wall.
        parts: uint8 `[S, S]`: part ids, 0 is the background.
        moving: bool `[S, S]`: whether the point belongs to something that can move.
    """

    primitive: np.ndarray
    local: np.ndarray
    depth: np.ndarray
    parts: np.ndarray
    moving: np.ndarray

    @property
    def size(self) -> int:
        """Side in pixels."""
        return len(self.depth)


def surface(scene: Scene, pose: Pose, size: int) -> Surface:
    """The surface that the pixel centres show in the first frame of `pose`."""
    first = pose[:1]
    hits = cast(scene.primitives, first, camera_rays(scene.camera, size))
    primitive, depth = hits.primitive[0], hits.depth[0]
    row, column = np.nonzero(primitive != NOTHING)
    found = primitive[row, column].astype(np.int64)
    points = scene.camera.position + depth[row, column][:, None] * scene.camera.rays(size)[row, column]
    rotations, origins = primitive_frames(scene.primitives, first)
    local = np.zeros((size, size, 3))
    local[row, column] = turn(np.swapaxes(rotations[0], -1, -2)[found], points - origins[0, found])
    part_of = np.array([p.part for p in scene.primitives] + [0], np.uint8)
    can_move = np.array([p.body != STATIC for p in scene.primitives] + [False])
    return Surface(primitive, local, depth, part_of[primitive], can_move[primitive])


def material_point(scene: Scene, seen: Surface, x: int, y: int) -> tuple[int, np.ndarray]:
    """The body, and the place in its frame `[3]`, that pixel (x, y) shows; body 0 where nothing can move."""
    index = int(seen.primitive[y, x])
    if index == NOTHING:
        return STATIC, np.zeros(3)
    p = scene.primitives[index]
    return p.body, p.offset + turn(p.rotation, seen.local[y, x])


def track_points(
    scene: Scene, seen: Surface, pose: Pose, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Places (x, y) in pixels `[N, F, 2]` and depths `[N, F]` over time of what the pixels (x, y) `[N]` show in x0.

    Points that cannot move stay at their pixel exactly; their depth is that in x0.
    """
    frames = len(pose)
    found = seen.primitive[y, x].astype(np.int64)
    places = np.repeat(np.stack([x, y], -1).astype(np.float64)[:, None], frames, 1)
    depth = np.repeat(seen.depth[y, x][:, None], frames, 1)
    k = np.flatnonzero(seen.moving[y, x])
    rotations, origins = primitive_frames(scene.primitives, pose)
    points = origins[:, found[k]] + turn(rotations[:, found[k]], seen.local[y, x][k][None])
    projected, distance = scene.camera.project(points)
    places[k] = (projected * seen.size - 0.5).transpose(1, 0, 2)
    depth[k] = distance.T
    return places, depth


def dense_flow(scene: Scene, seen: Surface, pose: Pose) -> np.ndarray:
    """Flow float64 `[F, 2, S, S]`: (dx, dy) in pixels from x0, shown by `seen`, to every frame of `pose`.

    Pixels that show nothing movable are exactly 0.
    """
    size = seen.size
    flow = np.zeros((len(pose), 2, size, size))
    y, x = np.nonzero(seen.moving)
    places, _ = track_points(scene, seen, pose, x, y)
    flow[:, 0, y, x] = (places[..., 0] - x[:, None]).T
    flow[:, 1, y, x] = (places[..., 1] - y[:, None]).T
    return flow


def visibility(scene: Scene, seen: Surface, pose: Pose) -> np.ndarray:
    """Bool `[F, S, S]`: whether the point that a pixel shows in x0 lies in the picture, unhidden, in each frame.

    Hidden is what has another surface at least SAME_SURFACE metres in front of it at its pixel.
    """
    size, frames = seen.size, len(pose)
    y, x = (a.reshape(-1) for a in np.meshgrid(np.arange(size), np.arange(size), indexing="ij"))
    places, depth = track_points(scene, seen, pose, x, y)
    nearest = cast(scene.primitives, pose, camera_rays(scene.camera, size)).depth
    column = np.floor(places[..., 0].T + 0.5).astype(np.int64)
    row = np.floor(places[..., 1].T + 0.5).astype(np.int64)
    within = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    frame = np.arange(frames)[:, None]
    there = nearest[frame, np.clip(row, 0, size - 1), np.clip(column, 0, size - 1)]
    return (within & (there >= depth.T - SAME_SURFACE)).reshape(frames, size, size)
