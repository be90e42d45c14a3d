"""Soft shadows of one distant lamp."""

from __future__ import annotations

import numpy as np

from bench.data.sim.exact import cross, dot, unit
from bench.data.sim.raycast import Rays, cast
from bench.data.sim.scene import Pose, Scene

SHADOW_TAPS = ((-1.2, -0.4), (-0.4, 1.2), (1.2, 0.4), (0.4, -1.2), (0.0, 0.0))
"""Where a shadow is looked up, in cells of the shadow map; the mean gives soft rims."""
SHADOW_BIAS = 0.012
"""A surface shadows only what lies this much behind it (metres), so that none shadows itself."""
LAMP_DISTANCE = 6.0


class ShadowMap:
    """Distance from the lamp to the first surface on a grid of parallel rays, for every frame."""

    def __init__(self, scene: Scene, pose: Pose, size: int) -> None:
        self.side = size
        light = scene.lamp.direction
        self.across = unit(cross(light, np.array([0.3, 0.9, 0.1])))
        self.down = cross(light, self.across)
        self.light, self.centre, self.radius = light, scene.centre, scene.radius
        at = (np.arange(self.side) + 0.5) / self.side * 2 - 1
        start = np.stack([scene.centre + LAMP_DISTANCE * light, self.across, self.down], -1)
        zero = np.zeros(3)
        rays = Rays(start, np.stack([-light, zero, zero], -1), at * scene.radius, at * scene.radius, False)
        self.depth = cast(scene.primitives, pose, rays).depth.astype(np.float32)

    def cells(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Column, row and distance from the lamp of `points [N, 3]`, in cells and metres, float32."""
        seen = (points - self.centre).astype(np.float32)
        scale = np.float32(self.side / 2 / self.radius)
        column = dot(seen, self.across.astype(np.float32)) * scale + np.float32(self.side / 2)
        row = dot(seen, self.down.astype(np.float32)) * scale + np.float32(self.side / 2)
        return column, row, np.float32(LAMP_DISTANCE) - dot(seen, self.light.astype(np.float32))

    def lit(self, points: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """Share of the lamp's light, float32 `[N]` in [0, 1], that reaches `points [N, 3]` in frames `frame [N]`."""
        column, row, distance = self.cells(points)
        distance = distance - np.float32(SHADOW_BIAS)
        hidden = np.zeros(len(points), np.float32)
        flat = self.depth.reshape(-1)
        base = frame * (self.side * self.side)
        last = self.side - 1
        for dx, dy in SHADOW_TAPS:
            x = np.floor(column + np.float32(dx)).astype(np.int64)
            y = np.floor(row + np.float32(dy)).astype(np.int64)
            within = (x >= 0) & (x <= last) & (y >= 0) & (y <= last)
            cell = base + np.clip(y, 0, last) * self.side + np.clip(x, 0, last)
            hidden += within & (flat[cell] < distance)
        return 1 - hidden / np.float32(len(SHADOW_TAPS))

    def may_darken(self, points: np.ndarray) -> np.ndarray:
        """Whether anything passes between the lamp and `points [N, 3]` in any frame."""
        occupied = np.isfinite(self.depth).any(0)
        padded = np.pad(occupied, 3)
        near = np.zeros_like(occupied)
        for dy in range(1, 6):
            for dx in range(1, 6):
                near |= padded[dy : dy + self.side, dx : dx + self.side]
        column, row, _ = self.cells(points)
        within = (column >= -2) & (column < self.side + 2) & (row >= -2) & (row < self.side + 2)
        last = self.side - 1
        return (
            within
            & near[
                np.clip(np.floor(row).astype(np.int64), 0, last), np.clip(np.floor(column).astype(np.int64), 0, last)
            ]
        )
