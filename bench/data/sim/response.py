"""Linear static response: how far a force or a wind shifts an object in the picture, from its springs alone.

It sizes all forces, so that every species moves by a like share of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.data.sim.body import STATIC, Shape
from bench.data.sim.exact import quantise
from bench.data.sim.physics import World
from bench.data.sim.scene import Camera, Scene


def picture_step(camera: Camera, place: np.ndarray) -> np.ndarray:
    """How a point near `place [3]` moves in the picture (fractions of the side) with its place, `[2, 3]`."""
    seen = place - camera.position
    depth = float(seen @ camera.forward)
    right, up = float(seen @ camera.right) / depth, float(seen @ camera.up) / depth
    half = 0.5 / (depth * camera.tangent)
    return half * np.stack([camera.right - right * camera.forward, up * camera.forward - camera.up])


def picture_force(camera: Camera, force: np.ndarray) -> np.ndarray:
    """The world force (N) that acts in the picture plane as `force [2]` (right, down)."""
    return quantise(force[0] * camera.right - force[1] * camera.up)


@dataclass(frozen=True)
class Response:
    """Linear static response of one point and of the whole object to a force at that point, in the picture.

    Attributes:
        own: `[2, 2]`: shift of the point (fractions of the side) per newton right and down.
        others: `[N, 2, 2]`: the same for points all over the object.
    """

    own: np.ndarray
    others: np.ndarray


class Compliance:
    """Linear static responses of a scene at rest."""

    def __init__(self, world: World) -> None:
        world.restore(world.rest_state())
        self.world, self.camera = world, world.scene.camera
        self.give = world.give()
        rows = []
        for body, point in sample_points(world.scene):
            rows.append(self._picture_jacobian(body, point))
        self.seen = np.stack(rows)
        self.plane = np.stack([self.camera.right, -self.camera.up])

    def _picture_jacobian(self, body: int, point: np.ndarray) -> np.ndarray:
        world = self.world
        rest = world.scene.rest
        place = rest.position[0, body] + rest.rotation[0, body] @ point
        return picture_step(self.camera, place) @ world.jacobian(body, point)

    def at(self, body: int, point: np.ndarray) -> Response:
        """Response to a force at `point` (in the frame of `body`)."""
        self.world.restore(self.world.rest_state())
        motion = self.give @ self.world.jacobian(body, point).T @ self.plane.T
        return Response(self._picture_jacobian(body, point) @ motion, self.seen @ motion)

    def wind(self, load: np.ndarray, acceleration: np.ndarray) -> float:
        """Largest shift in the picture (fraction of the side) under a steady acceleration of `load [B]` (kg)."""
        world = self.world
        world.restore(world.rest_state())
        torque = np.zeros(world.model.nv)
        for body in np.flatnonzero(load):
            centre = np.array(world.model.body_ipos[body])
            torque += world.jacobian(int(body), centre).T @ (load[body] * acceleration)
        shift = self.seen @ (self.give @ torque)
        return float(np.sqrt((shift**2).sum(-1)).max())


STRONGEST = 12.0
"""Most that a hand pulls, in newtons per kilogram of the object; stiff places then hardly move."""


def touch_force(response: Response, heading: np.ndarray, shift: float, reach: float, mass: float) -> np.ndarray:
    """Force `[2]` (N, right and down) along `heading` that statically shifts its point by `shift`.

    It is smaller where any other point would shift by more than `reach` (both fractions of the side), and at most
    STRONGEST for an object of `mass` kg.
    """
    own = _length(response.own @ heading)
    others = float(np.sqrt(((response.others @ heading) ** 2).sum(-1)).max())
    strength = min(shift / max(own, 1e-9), reach / max(others, 1e-9), STRONGEST * mass)
    return quantise(heading * strength)


def _length(vector: np.ndarray) -> float:
    return float(np.sqrt((vector**2).sum()))


def sample_points(scene: Scene) -> list[tuple[int, np.ndarray]]:
    """Material points (body, place in its frame) at the far ends of all moving primitives."""
    points = []
    for p in scene.primitives:
        if p.body == STATIC:
            continue
        along = {
            Shape.ELLIPSOID: np.zeros(3),
            Shape.FRUSTUM: p.rotation[:, 2] * p.size[2],
            Shape.LEAF: p.rotation[:, 0] * p.size[0],
        }
        points.append((p.body, p.offset + along[p.shape]))
    return points
