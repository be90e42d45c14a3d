"""The true answer to any poke: the outside force that takes a point to its target, and what that force does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.data.sim.body import STATIC
from bench.data.sim.clips import CONTEXT, LENGTH
from bench.data.sim.exact import quantise
from bench.data.sim.flow import material_point, surface
from bench.data.sim.physics import UnstableError
from bench.data.sim.poking import Stage
from bench.data.sim.scene import Pose
from metrics.errors import DataError

TOLERANCE = 0.05
"""Pixels by which the poked point may miss its target."""
STAGES = 3
"""The target is approached in this many steps, so that large bends are solved from smaller ones."""
CORRECTIONS = 12
"""Corrections of the force at each step."""
SLOW = 0.5
"""A correction that leaves more than this share of the error has the Jacobian measured anew."""
BACKTRACKS = 4
LEAST_DAMPING, FIRST_DAMPING = 1e-6, 1e-3


@dataclass(frozen=True)
class Answer:
    """What really happens when a poke is tried.

    Attributes:
        pose: poses `[12]` of the clip.
        force: float64 `[2]`: (right, down) in newtons, at the end of the pull.
        displacement: float64 `[2]`: where the point went, (dx, dy) in pixels.
        residual: distance in pixels between that and the displacement asked for.
        feasible: whether the residual is at most TOLERANCE.
        runs: simulations spent.
    """

    pose: Pose
    force: np.ndarray
    displacement: np.ndarray
    residual: float
    feasible: bool
    runs: int


def answer(
    stage: Stage, location: tuple[float, float], displacement: np.ndarray, size: int, mode: str = "pull"
) -> Answer:
    """Pulls the point that the pixel nearest to `location` (x, y) shows in x0 by `displacement` (dx, dy) pixels.

    The force has a fixed profile in time, that of a "pull" or of an "impulse" (`motion.pull_profile`,
    `motion.impulse_profile`), and a direction in the picture plane; its two components are found by a damped
    Gauss-Newton iteration on the simulation. Stems cannot be stretched, so some
    pokes are infeasible: the answer is then the nearest response found, and its residual says by how much it misses.
    At a place that cannot move, nothing happens and the residual is the length of the poke.

    Raises:
        DataError: the location is outside the picture, or the displacement is not two finite numbers.
    """
    wanted = np.asarray(displacement, np.float64)
    x, y = (int(np.floor(v + 0.5)) for v in location)
    if not (0 <= x < size and 0 <= y < size):
        raise DataError(
            f"a poke at {tuple(location)} lies outside the {size} x {size} px picture; choose a pixel in it"
        )
    if wanted.shape != (2,) or not np.isfinite(wanted).all():
        raise DataError(f"expected a displacement of two finite numbers (dx, dy) in px, found {displacement}")
    seen = surface(stage.world.scene, stage.before[CONTEXT - 1 :], size)
    body, point = material_point(stage.world.scene, seen, x, y)
    if body == STATIC:
        return _nothing(stage, wanted, x, y, size)
    return _Search(stage, body, point, size, mode).solve(wanted)


def _nothing(stage: Stage, wanted: np.ndarray, x: int, y: int, size: int) -> Answer:
    force = np.zeros(2)
    if stage.wind:
        pose = stage.respond(1, np.zeros(3), force, "pull")
    else:
        pose = stage.before[[CONTEXT - 1] * LENGTH]
    residual = float(np.sqrt((wanted**2).sum()))
    return Answer(pose, force, np.zeros(2), residual, residual <= TOLERANCE, 0)


class _Search:
    """The shift of one point as a function of the force, and the search for a force."""

    def __init__(self, stage: Stage, body: int, point: np.ndarray, size: int, mode: str) -> None:
        self.stage, self.body, self.point, self.size, self.mode = stage, body, point, size, mode
        self.runs = 0

    def shift(self, force: np.ndarray) -> tuple[Pose, np.ndarray]:
        """Poses, and where the point goes in pixels."""
        self.runs += 1
        pose = self.stage.respond(self.body, self.point, force, self.mode)
        return pose, self.stage.path(self.body, self.point, pose)[-1] * self.size

    def solve(self, wanted: np.ndarray) -> Answer:
        force = np.zeros(2)
        pose, reached = self.shift(force)
        best = (_miss(wanted, reached), force, pose, reached)
        slope = self.stage.compliance.at(self.body, self.point).own * self.size
        if self.mode != "pull":  # the static response says little about where a blow ends
            slope = self._differences(force, reached, slope)
        for step in range(1, STAGES + 1):
            goal = wanted * step / STAGES
            damping = FIRST_DAMPING
            for correction in range(CORRECTIONS):
                error = goal - reached
                if _length(error) <= (TOLERANCE / 2 if step == STAGES else 0.5):
                    break
                tried = self._step(force, reached, goal, slope, damping)
                if tried is None:
                    damping *= 10
                    if damping > 1:
                        break
                    slope = self._differences(force, reached, slope)
                    continue
                change, pose, moved = tried
                slow = _miss(goal, moved) > SLOW * _length(error)
                slope = _secant(slope, change, moved - reached)
                force, reached = quantise(force + change), moved
                if slow and correction >= 1:
                    slope = self._differences(force, reached, slope)
                damping = max(damping * 0.3, LEAST_DAMPING)
                if _miss(wanted, reached) < best[0]:
                    best = (_miss(wanted, reached), force, pose, reached)
        miss, force, pose, reached = best
        return Answer(pose, force, reached, miss, miss <= TOLERANCE, self.runs)

    def _step(
        self, force: np.ndarray, reached: np.ndarray, goal: np.ndarray, slope: np.ndarray, damping: float
    ) -> tuple[np.ndarray, Pose, np.ndarray] | None:
        """A change of force that comes nearer to `goal`, with what it does; None if none is found."""
        error = goal - reached
        scale = damping * max(float((slope**2).sum()), 1e-30)
        change = slope.T @ np.linalg.solve(slope @ slope.T + scale * np.eye(2), error)
        for _ in range(BACKTRACKS):
            change = quantise(change)
            try:
                pose, moved = self.shift(force + change)
            except UnstableError:
                change = change * 0.3
                continue
            if _miss(goal, moved) < _length(error):
                return change, pose, moved
            change = change * 0.4
        return None

    def _differences(self, force: np.ndarray, reached: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """The Jacobian at `force` by finite differences; `slope` again where the simulation does not allow it."""
        width = max(0.02 * _length(force), 0.5 / max(_length(slope.reshape(-1)), 1e-9))
        columns = []
        for axis in np.eye(2):
            try:
                _, moved = self.shift(quantise(force + width * axis))
            except UnstableError:
                return slope
            columns.append((moved - reached) / width)
        return np.stack(columns, -1)


def _secant(slope: np.ndarray, change: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Broyden's update: the least change of the Jacobian that explains the last step."""
    return slope + np.outer(moved - slope @ change, change) / max(float(change @ change), 1e-30)


def _miss(goal: np.ndarray, reached: np.ndarray) -> float:
    return _length(goal - reached)


def _length(vector: np.ndarray) -> float:
    return float(np.sqrt((vector**2).sum()))
