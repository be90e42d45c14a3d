"""Natural motion: long sequences in which wind, hands and own movement keep an object moving, cut into clips."""

from __future__ import annotations

import numpy as np

from bench.data.sim.clips import LENGTH
from bench.data.sim.exact import Random, quantise
from bench.data.sim.motion import (
    Gust,
    PointForce,
    Wind,
    gestures,
    gusts,
    heading_force,
    touch_profile,
)
from bench.data.sim.physics import FRAME_RATE, Driver, UnstableError, World
from bench.data.sim.response import Compliance, picture_force, sample_points, touch_force
from bench.data.sim.scene import Pose
from metrics.errors import DataError

WINDOW = 16
"""Frames of the sequence that each clip has to itself; it begins at a random frame of them."""
WARM_UP = 8
"""Frames before the first window, in which the motion sets in."""
WIND_SHIFT = (0.06, 0.13)
"""Static shift, as a fraction of the side, of the point that the strongest gust moves most."""
TOUCH_SHIFT = (0.06, 0.15)
"""Static shift of the point that a hand pulls."""
TOUCH_REACH = 0.18
"""The most that a hand may shift any other point."""
PERSON_TOUCH_SHIFT = (0.02, 0.06)
WIDEST = 0.33
"""Largest shift from rest of any point, as a fraction of the side; stronger motion is made weaker and run again."""
ATTEMPTS = 6


def natural_poses(world: World, rng: Random, clips: int) -> list[Pose]:
    """`clips` pieces of 12 frames from one sequence of the object's natural motion, in order, without overlap.

    Raises:
        DataError: no motion that stays stable was found.
    """
    frames = WARM_UP + WINDOW * clips
    drivers = _drivers(world, rng, frames / FRAME_RATE)
    starts = [WARM_UP + WINDOW * k + rng.integer(0, WINDOW - LENGTH) for k in range(clips)]
    strength = 1.0
    for _ in range(ATTEMPTS):
        try:
            sequence = world.run([_weaker(d, strength) for d in drivers], frames, world.rest_state())
        except UnstableError:
            strength *= 0.5
            continue
        widest = largest_shift(world, sequence)
        if world.scene.freedoms or widest <= WIDEST:
            return [sequence[start : start + LENGTH] for start in starts]
        strength *= 0.85 * WIDEST / widest
    raise DataError(f"found no stable motion for the {world.scene.kind} with seed {world.scene.seed}; use another seed")


def largest_shift(world: World, pose: Pose) -> float:
    """Largest shift from rest in the picture of any sampled point, as a fraction of the side."""
    points = sample_points(world.scene)
    body = np.array([b for b, _ in points])
    local = np.stack([p for _, p in points])
    rest = world.scene.rest
    camera = world.scene.camera
    place = pose.position[:, body] + np.einsum("fnij,nj->fni", pose.rotation[:, body], local)
    still = rest.position[0, body] + np.einsum("nij,nj->ni", rest.rotation[0, body], local)
    shift = camera.project(place)[0] - camera.project(still)[0]
    return float(np.sqrt((shift**2).sum(-1)).max())


def breeze(world: World, compliance: Compliance, rng: Random, seconds: float, shift: float) -> Wind:
    """Wind whose strongest gust would, if it lasted, move some point by `shift` (fraction of the side)."""
    exposure = np.array([rng.uniform(0.6, 1.4) for _ in world.scene.bodies])
    wind = Wind(world, gusts(rng, seconds), exposure)
    strongest = max(compliance.wind(wind.load, gust.acceleration) for gust in wind.gusts)
    return _weaker_wind(wind, shift / max(strongest, 1e-9))


def _drivers(world: World, rng: Random, seconds: float) -> list[Driver]:
    compliance = Compliance(world)
    person = bool(world.scene.freedoms)
    drivers: list[Driver] = []
    if person:
        drivers.append(gestures(world, rng, seconds))
    else:
        drivers.append(breeze(world, compliance, rng, seconds, rng.within(WIND_SHIFT)))
    points = sample_points(world.scene)
    shift = PERSON_TOUCH_SHIFT if person else TOUCH_SHIFT
    start = rng.uniform(0.2, 1.0)
    while start < seconds:
        body, point = rng.choice(points)
        force = touch_force(compliance.at(body, point), heading_force(rng), rng.within(shift), TOUCH_REACH, world.mass)
        profile = touch_profile(start, rng.uniform(0.35, 0.7), rng.uniform(0.0, 0.5), rng.uniform(0.25, 0.6))
        drivers.append(PointForce(body, point, picture_force(world.scene.camera, force), profile))
        start += rng.uniform(2.0, 4.0) if person else rng.uniform(0.7, 1.6)
    return drivers


def _weaker(driver: Driver, strength: float) -> Driver:
    if isinstance(driver, Wind):
        return _weaker_wind(driver, strength)
    if isinstance(driver, PointForce):
        return PointForce(driver.body, driver.point, quantise(driver.force * strength), driver.gain)
    return driver


def _weaker_wind(wind: Wind, strength: float) -> Wind:
    scaled = [
        Gust(g.start, g.rise, g.hold, g.release, quantise(g.acceleration * strength), g.speed) for g in wind.gusts
    ]
    return Wind(wind.world, scaled, wind.exposure)
