"""True pokes: an outside force at one point of the object, and what it does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.data.sim.body import STATIC
from bench.data.sim.clips import CONTEXT, HORIZON, LENGTH, TruePoke
from bench.data.sim.exact import PI, Random, cosine, quantise, sine
from bench.data.sim.flow import Surface, material_point, surface
from bench.data.sim.motion import (
    PointForce,
    Wind,
    heading_force,
    impulse_profile,
    pull_profile,
)
from bench.data.sim.natural import breeze
from bench.data.sim.physics import FRAME_RATE, Driver, State, UnstableError, World
from bench.data.sim.response import Compliance, Response, picture_force, sample_points
from bench.data.sim.scene import Pose, build_scene
from metrics.errors import DataError

SHIFT = (0.04, 0.17)
"""Length of a poke, as a fraction of the side."""
LEAST_SHIFT = {"pull": 0.02, "impulse": 0.01}
"""A place that is not this far away in the last frame is not poked; after an impulse most of the motion has decayed."""
REACH = 0.25
"""The most that a poke may shift any point of the object."""
SWAY_SHIFT = 0.02
"""Static shift of the wind in which a swaying object stands."""
SWAY_FRAMES = 12
"""Frames for which a swaying object has been in the wind at x0."""
TRIALS = 4
"""Runs in which the force is brought to the length wanted."""
CLOSE_ENOUGH = 1.25
PLACES = 60
"""Places tried before a scene is given up."""
DRAWS = 2000


@dataclass(frozen=True)
class Stage:
    """A scene in which pokes begin: everything up to x0 has happened.

    Attributes:
        before: poses of the context frames, `[2]`; the second is x0.
        start: state at x0.
        wind: what acts on besides the poke.
    """

    world: World
    compliance: Compliance
    before: Pose
    start: State
    wind: tuple[Wind, ...] = ()

    @staticmethod
    def build(kind: str, seed: str, sway: bool = False) -> Stage:
        """The stage of scene (kind, seed): at rest, or swaying in a light wind that goes on."""
        world = World(build_scene(kind, seed))
        compliance = Compliance(world)
        if not sway:
            still = world.run([], 0, world.rest_state())
            return Stage(world, compliance, still[[0] * CONTEXT], world.rest_state())
        seconds = (SWAY_FRAMES + HORIZON) / FRAME_RATE
        wind = breeze(world, compliance, Random("sway", kind, seed), seconds, SWAY_SHIFT)
        poses = world.run([wind], SWAY_FRAMES, world.rest_state())
        return Stage(world, compliance, poses[-CONTEXT:], world.state(), (wind,))

    def respond(self, body: int, point: np.ndarray, force: np.ndarray, mode: str) -> Pose:
        """Poses of the whole clip `[12]` when `force [2]` (N, right and down) acts at `point` of `body` from x0 on.

        Raises:
            UnstableError: the force is too large for the simulation.
        """
        profile = pull_profile if mode == "pull" else impulse_profile
        gain = profile(self.start.time, HORIZON / FRAME_RATE)
        push = PointForce(body, point, picture_force(self.world.scene.camera, force), gain)
        drivers: list[Driver] = [*self.wind, push]
        after = self.world.run(drivers, HORIZON, self.start)[1:]
        return Pose(
            np.concatenate([self.before.position, after.position]),
            np.concatenate([self.before.rotation, after.rotation]),
        )

    def path(self, body: int, point: np.ndarray, pose: Pose) -> np.ndarray:
        """Shift of `point` of `body` from x0 in every frame, `[F, 2]`, in fractions of the side."""
        return self._paths([(body, point)], pose)[:, 0]

    def widest(self, pose: Pose) -> float:
        """Largest shift from x0 of any sampled point in any frame, as a fraction of the side."""
        return float(np.sqrt((self._paths(sample_points(self.world.scene), pose) ** 2).sum(-1)).max())

    def _paths(self, points: list[tuple[int, np.ndarray]], pose: Pose) -> np.ndarray:
        body = np.array([b for b, _ in points])
        local = np.stack([p for _, p in points])
        place = pose.position[:, body] + np.einsum("fnij,nj->fni", pose.rotation[:, body], local)
        seen = self.world.scene.camera.project(place)[0]
        return seen - seen[CONTEXT - 1]


@dataclass(frozen=True)
class Poking:
    """A poke and the poses `[12]` that follow from it; `seen` is x0."""

    poke: TruePoke
    pose: Pose
    seen: Surface


def random_poke(stage: Stage, rng: Random, size: int, mode: str) -> Poking:
    """A poke at a random movable pixel of x0, in a random direction, of random length.

    Raises:
        DataError: no place of the object could be moved.
    """
    seen = surface(stage.world.scene, stage.before[CONTEXT - 1 :], size)
    for _ in range(PLACES):
        place = _pixel(seen, rng, movable=True)
        found = poke_at(stage, seen, place, rng, mode)
        if found is not None:
            return found
    scene = stage.world.scene
    raise DataError(f"no place of the {scene.kind} with seed {scene.seed} could be poked; use another seed")


def background_poke(stage: Stage, rng: Random, size: int) -> Poking:
    """A poke beside the object: nothing moves. Meant for a stage at rest."""
    seen = surface(stage.world.scene, stage.before[CONTEXT - 1 :], size)
    place = _pixel(seen, rng, movable=False)
    shift = rng.within(SHIFT) * size
    angle = rng.uniform(0, 2 * PI)
    displacement = quantise([shift * cosine(angle), shift * sine(angle)])
    pose = stage.before[[CONTEXT - 1] * LENGTH]
    return Poking(TruePoke("background", place, displacement, np.zeros(2)), pose, seen)


def poke_at(stage: Stage, seen: Surface, place: tuple[int, int], rng: Random, mode: str) -> Poking | None:
    """A poke of random direction and length at the pixel `place`; None where the object hardly gives way.

    The linear response gives the first force; up to TRIALS runs bring the shift near the length wanted. For a pull
    that is the shift in the last frame, for an impulse the largest on the way.
    """
    body, point = material_point(stage.world.scene, seen, *place)
    response = stage.compliance.at(body, point)
    heading, wanted = heading_force(rng), rng.within(SHIFT)
    if body == STATIC or not _gives_way(response, heading):
        return None
    strength = wanted / _length(response.own @ heading)
    for _ in range(TRIALS):
        force = quantise(heading * strength)
        try:
            pose = stage.respond(body, point, force, mode)
        except UnstableError:
            return None
        path = np.sqrt((stage.path(body, point, pose) ** 2).sum(-1))
        shift = float(path[-1]) if mode == "pull" else float(path.max())
        change = min(wanted / max(shift, 1e-9), REACH / max(stage.widest(pose), 1e-9))
        if 1 / CLOSE_ENOUGH < change < CLOSE_ENOUGH:
            break
        strength *= min(max(change, 0.1), 4.0)
    final = stage.path(body, point, pose)[-1]
    displacement = final * seen.size
    target = np.array(place) + displacement
    outside = bool((target < 0).any() or (target > seen.size - 1).any())
    if _length(final) < LEAST_SHIFT[mode] or stage.widest(pose) > REACH * CLOSE_ENOUGH or outside:
        return None
    return Poking(TruePoke(mode, place, displacement, force), pose, seen)


def _gives_way(response: Response, heading: np.ndarray) -> bool:
    """Whether a force along `heading` moves its point by 2 % of the side before any other by REACH."""
    own = _length(response.own @ heading)
    others = float(np.sqrt(((response.others @ heading) ** 2).sum(-1)).max())
    return own > 1e-9 and own * REACH > LEAST_SHIFT["pull"] * others


def _length(vector: np.ndarray) -> float:
    return float(np.sqrt((vector**2).sum()))


def _pixel(seen: Surface, rng: Random, *, movable: bool) -> tuple[int, int]:
    """A random pixel (x, y) on what can move, or of the background. Drawn in fractions of the side, so that one
    scene is poked at nearly the same places at all sizes."""
    for _ in range(DRAWS):
        x, y = (int(rng.uniform() * seen.size) for _ in range(2))
        if seen.moving[y, x] if movable else seen.parts[y, x] == 0:
            return x, y
    raise DataError("the object cannot be seen in x0; use another seed")
