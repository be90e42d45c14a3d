"""What moves an object: gusts of wind, hands that pull and let go, and a person's own gestures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.data.sim.body import STATIC
from bench.data.sim.exact import PI, Random, cosine, quantise, sine
from bench.data.sim.physics import World

Profile = Callable[[float], float]

PULL_RISE = 0.6
"""Share of a pull's time in which its force grows; then it holds."""
IMPULSE_LENGTH = 0.5
"""Share of the time in which an impulse acts."""


def pull_profile(start: float, duration: float) -> Profile:
    """Force of a pull over time: grows smoothly to 1 in the first 60 % of `duration` (s), then holds."""

    def gain(time: float) -> float:
        return _rise((time - start) / (PULL_RISE * duration))

    return gain


def impulse_profile(start: float, duration: float) -> Profile:
    """Force of an impulse: a parabola over the first half of `duration` (s), peak 1; then nothing."""

    def gain(time: float) -> float:
        t = (time - start) / (IMPULSE_LENGTH * duration)
        return 4 * t * (1 - t) if 0 < t < 1 else 0.0

    return gain


def touch_profile(start: float, rise: float, hold: float, release: float) -> Profile:
    """A hand that pulls, holds and lets go; all in seconds."""

    def gain(time: float) -> float:
        return _rise((time - start) / rise) - _rise((time - start - rise - hold) / release)

    return gain


def _rise(t: float) -> float:
    t = min(max(t, 0.0), 1.0)
    return t * t * (3 - 2 * t)


@dataclass(frozen=True)
class PointForce:
    """A force (N, world) at a point of a body (in its frame), over time."""

    body: int
    point: np.ndarray
    force: np.ndarray
    gain: Profile

    def act(self, world: World, time: float) -> None:
        """Pushes the point."""
        share = self.gain(time)
        if share:
            world.push(self.body, self.point, self.force * share)


@dataclass(frozen=True)
class Gust:
    """A puff of wind: an acceleration (m/s^2, world) that passes along its own direction at `speed` m/s."""

    start: float
    rise: float
    hold: float
    release: float
    acceleration: np.ndarray
    speed: float = 2.0


class Wind:
    """Gusts that act on every body in proportion to its mass and to `exposure [B]`, later where they arrive later."""

    def __init__(self, world: World, gusts: list[Gust], exposure: np.ndarray) -> None:
        self.world, self.gusts, self.exposure = world, gusts, exposure
        self.load = np.array(world.model.body_mass) * exposure
        self.load[STATIC] = 0.0
        self.delays = []
        for gust in gusts:
            strength = float(np.sqrt((gust.acceleration**2).sum()))
            way = gust.acceleration / max(strength, 1e-9)
            self.delays.append((world.scene.rest.position[0] - world.scene.centre) @ way / gust.speed)

    def act(self, world: World, time: float) -> None:
        """Adds the force of every gust that blows somewhere."""
        for gust, delay in zip(self.gusts, self.delays, strict=True):
            t = time - gust.start - delay
            if t.max() < 0 or t.min() > gust.rise + gust.hold + gust.release:
                continue
            rise = np.clip(t / gust.rise, 0, 1)
            fall = np.clip((t - gust.rise - gust.hold) / gust.release, 0, 1)
            share = rise * rise * (3 - 2 * rise) - fall * fall * (3 - 2 * fall)
            world.data.xfrc_applied[:, :3] += (self.load * share)[:, None] * gust.acceleration


class Gestures:
    """Own movement: the springs' rest angles go smoothly from one pose to the next.

    Args:
        times: when each change begins and ends, s, `[K, 2]`, in order.
        poses: offsets from the rest angles, `[K + 1, joints]`.
    """

    def __init__(self, times: np.ndarray, poses: np.ndarray) -> None:
        self.times, self.poses = times, poses

    def act(self, world: World, time: float) -> None:
        """Aims the springs."""
        change = np.array(self.poses[0])
        for (begin, end), before, after in zip(self.times, self.poses[:-1], self.poses[1:], strict=True):
            change += _rise((time - begin) / (end - begin)) * (after - before)
        world.aim(change)


def gusts(rng: Random, seconds: float, first: float = 0.0) -> list[Gust]:
    """Puffs of unit strength, mostly across the picture, one every 0.7 to 1.6 s."""
    found: list[Gust] = []
    start = first + rng.uniform(-0.3, 0.3)
    side = rng.choice((-1.0, 1.0))
    while start < seconds:
        side = -side if rng.chance(0.55) else side
        heading = rng.uniform(-0.9, 0.9)
        strength = rng.uniform(0.45, 1.0)
        way = np.array([sine(heading), side * cosine(heading), rng.uniform(-0.2, 0.2)])
        found.append(
            Gust(start, rng.uniform(0.25, 0.6), rng.uniform(0.0, 0.4), rng.uniform(0.35, 0.8), quantise(way * strength))
        )
        start += rng.uniform(0.7, 1.6)
    return found


def gestures(world: World, rng: Random, seconds: float) -> Gestures:
    """A person's own movement: a new pose every 0.5 to 1.5 s, in which most joints take part."""
    scene, model = world.scene, world.model
    poses, times = [_random_stance(world, rng)], []
    start = rng.uniform(0.0, 0.3)
    while start < seconds:
        end = start + rng.uniform(0.5, 1.1)
        times.append((start, end))
        poses.append(_random_stance(world, rng))
        start = end + (rng.uniform(0.1, 0.4) if rng.chance(0.4) else 0.0)
    if not scene.freedoms:
        raise ValueError(f"a {scene.kind} does not move by itself")
    return Gestures(np.array(times), quantise(np.stack(poses)).reshape(-1, int(model.njnt)))


def _random_stance(world: World, rng: Random) -> np.ndarray:
    change = np.zeros(int(world.model.njnt))
    for freedom in world.scene.freedoms:
        if rng.chance(0.85):
            first = int(world.model.body_jntadr[freedom.body])
            change[first + freedom.joint] = rng.uniform(freedom.low, freedom.high)
    return change


def heading_force(rng: Random) -> np.ndarray:
    """A random unit direction in the picture, `[2]`."""
    angle = rng.uniform(0, 2 * PI)
    return np.array([cosine(angle), sine(angle)])
