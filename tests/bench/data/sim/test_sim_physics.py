"""Physics: stable, elastic, sized by its linear response, and loud when it fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.data.sim.exact import Random
from bench.data.sim.motion import (
    PointForce,
    gestures,
    impulse_profile,
    pull_profile,
    touch_profile,
)
from bench.data.sim.natural import largest_shift, natural_poses
from bench.data.sim.physics import UnstableError, World
from bench.data.sim.response import Compliance, picture_force, picture_step, sample_points
from bench.data.sim.scene import build_scene
from bench.data.sim.species import HUMAN, PLANTS


@pytest.mark.parametrize("kind", [*PLANTS, HUMAN])
def test_natural_motion_is_stable_and_visible(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    world = World(build_scene(kind, "stable"))
    pieces = natural_poses(world, Random("stable", kind), 2)
    assert [len(piece) for piece in pieces] == [12, 12]
    widest = max(largest_shift(world, piece) for piece in pieces)
    assert 0.01 < widest < 0.6
    for piece in pieces:
        steps = np.abs(np.diff(piece.position, axis=0)).max()
        assert steps < 0.6  # metres in a tenth of a second: nothing pops
    assert not (tmp_path / "MUJOCO_LOG.TXT").exists()


@pytest.mark.parametrize("kind", ["ficus", "aloe", HUMAN])
def test_motion_dies_away_without_forces(kind: str) -> None:
    world = World(build_scene(kind, "decay"))
    state = world.rest_state()
    state.velocities[:] = 0.3
    pose = world.run([], 60, state)
    start = max(largest_shift(world, pose[[k]]) for k in range(1, 8))
    assert start > 0.002
    assert largest_shift(world, pose[[-1]]) < 0.25 * start


@pytest.mark.parametrize("kind", ["ficus", "cactus", "monstera", HUMAN])
def test_a_small_steady_force_gives_the_linear_response(kind: str) -> None:
    world = World(build_scene(kind, "linear"))
    compliance = Compliance(world)
    points = sample_points(world.scene)
    body, point = max(points, key=lambda p: float(np.abs(compliance.at(*p).own).max()))
    own = compliance.at(body, point).own
    heading = np.array([1.0, 0.0])
    force = heading * 0.0004 / np.abs(own[:, 0]).max()
    push = PointForce(body, point, picture_force(world.scene.camera, force), lambda time: min(time, 1.0))
    pose = world.run([push], 60, world.rest_state())
    place = pose.position[:, body] + pose.rotation[:, body] @ point
    seen = world.scene.camera.project(place)[0]
    assert np.allclose(seen[-1] - seen[0], own @ force, atol=0.03 * 0.0004)


def test_picture_step_is_the_derivative_of_the_projection(monstera_world: World) -> None:
    camera = monstera_world.scene.camera
    place = monstera_world.scene.centre + np.array([0.1, -0.2, 0.05])
    numeric = np.stack(
        [(camera.project(place + h)[0] - camera.project(place - h)[0]) / 2e-6 for h in np.eye(3) * 1e-6], -1
    )
    assert np.allclose(picture_step(camera, place), numeric, atol=1e-6)


def test_runs_repeat_and_start_where_told(monstera_world: World) -> None:
    world = monstera_world
    body, point = sample_points(world.scene)[-1]
    force = np.array([0.0, 0.05, 0.02])
    push = PointForce(body, point, force, pull_profile(0.0, 1.0))
    one, again = (world.run([push], 10, world.rest_state()) for _ in range(2))
    assert np.array_equal(one.position, again.position)
    assert np.array_equal(one.rotation, again.rotation)
    first = world.run([push], 4, world.rest_state())
    rest = world.run([push], 6, world.state())
    assert np.allclose(np.concatenate([first.position, rest.position[1:]]), one.position, atol=1e-6)


def test_a_blow_up_is_an_error_and_not_a_silent_reset(monstera_world: World) -> None:
    body, point = sample_points(monstera_world.scene)[-1]
    push = PointForce(body, point, np.array([0.0, 3e6, 0.0]), pull_profile(0.0, 1.0))
    with pytest.raises(UnstableError, match=r"monstera \(seed test\) became unstable"):
        monstera_world.run([push], 10, monstera_world.rest_state())
    pose = monstera_world.run([], 1, monstera_world.rest_state())
    assert np.allclose(pose.position[1], monstera_world.scene.rest.position[0], atol=1e-6)


def test_force_profiles_at_known_times() -> None:
    pull = pull_profile(1.0, 1.0)
    assert [pull(t) for t in (0.5, 1.0, 1.3, 1.6, 2.0)] == pytest.approx([0, 0, 0.5, 1, 1])
    blow = impulse_profile(1.0, 1.0)
    assert [blow(t) for t in (1.0, 1.25, 1.5, 1.9)] == pytest.approx([0, 1, 0, 0])
    touch = touch_profile(0.0, 1.0, 1.0, 1.0)
    assert [touch(t) for t in (0.0, 0.5, 1.5, 2.5, 3.0)] == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_a_person_moves_by_itself_and_a_plant_does_not(monstera_world: World) -> None:
    world = World(build_scene(HUMAN, "own"))
    pose = world.run([gestures(world, Random("own"), 4.0)], 40, world.rest_state())
    assert largest_shift(world, pose) > 0.05
    feet = [a.body for a in world.scene.anchors]
    assert np.abs(pose.position[:, feet] - world.scene.rest.position[:, feet]).max() < 0.03
    with pytest.raises(ValueError, match="does not move by itself"):
        gestures(monstera_world, Random("own"), 1.0)
