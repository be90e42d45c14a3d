"""Exact flow: still pixels, tracks, warping, and a second cast in the last frame that leads back."""

from __future__ import annotations

import numpy as np
import pytest

from bench.data.sim.clips import SimClip, film
from bench.data.sim.exact import Random
from bench.data.sim.flow import dense_flow, material_point, surface, track_points, visibility
from bench.data.sim.natural import natural_poses
from bench.data.sim.physics import World
from bench.data.sim.scene import Pose, Scene, build_scene, primitive_frames

KINDS = ["ficus", "cactus", "human", "gerbera"]
SIZE = 96


@pytest.fixture(scope="module", params=KINDS)
def moved(request: pytest.FixtureRequest) -> tuple[Scene, Pose, SimClip]:
    world = World(build_scene(request.param, "flow"))
    pose = natural_poses(world, Random("flow", request.param), 1)[0]
    return world.scene, pose, film(world.scene, pose, SIZE, "flow-test", "flow")


def bilinear(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    u, v = x - left, y - top
    left, top = np.clip(left, 0, image.shape[-1] - 2), np.clip(top, 0, image.shape[-2] - 2)
    above = image[:, top, left] * (1 - u) + image[:, top, left + 1] * u
    below = image[:, top + 1, left] * (1 - u) + image[:, top + 1, left + 1] * u
    return above * (1 - v) + below * v


def test_what_cannot_move_has_exactly_no_flow(moved: tuple[Scene, Pose, SimClip]) -> None:
    scene, pose, clip = moved
    seen = surface(scene, pose[1:], SIZE)
    flow = dense_flow(scene, seen, pose)
    assert (flow[:, :, ~seen.moving] == 0).all()
    assert (clip.flow[:, ~seen.moving] == 0).all()
    assert (clip.flow[:, clip.parts == 0] == 0).all()
    assert np.abs(flow[1]).max() < 1e-4  # x0 itself, up to the rounding of the poses
    assert np.abs(clip.flow - flow[-1]).max() <= 1 / 256 + 1e-9


def test_the_pot_is_part_of_the_object_and_does_not_move() -> None:
    world = World(build_scene("ficus", "flow"))
    pose = natural_poses(world, Random("flow", "ficus"), 1)[0]
    seen = surface(world.scene, pose[1:], SIZE)
    pot = seen.parts == world.scene.parts.index("pot")
    assert pot.sum() > 100
    assert (dense_flow(world.scene, seen, pose)[:, :, pot] == 0).all()


def test_tracks_are_the_flow_at_their_points(moved: tuple[Scene, Pose, SimClip]) -> None:
    _, _, clip = moved
    assert clip.tracks.shape == (32, 12, 2)
    start = clip.tracks[:, 1]
    x, y = np.round(start).astype(int).T
    assert np.abs(start - np.stack([x, y], -1)).max() < 1 / 128
    assert np.allclose(clip.tracks[:, -1] - np.stack([x, y], -1), clip.flow[:, y, x].T, atol=1e-6)


def test_the_last_frame_warped_back_looks_like_x0(moved: tuple[Scene, Pose, SimClip]) -> None:
    _, _, clip = moved
    first, last = clip.frames[1].astype(float), clip.frames[-1].astype(float)
    y, x = np.nonzero(clip.visible & (np.hypot(*clip.flow) > 1))
    assert len(x) > 30
    warped = bilinear(last, x + clip.flow[0, y, x], y + clip.flow[1, y, x])
    with_flow = np.abs(first[:, y, x] - warped).mean()
    without = np.abs(first[:, y, x] - last[:, y, x]).mean()
    assert with_flow < 0.65 * without
    assert with_flow < 22


def test_a_cast_in_the_last_frame_leads_back_to_x0(moved: tuple[Scene, Pose, SimClip]) -> None:
    scene, pose, _ = moved
    seen, end = surface(scene, pose[1:], SIZE), surface(scene, pose[11:], SIZE)
    visible = visibility(scene, seen, pose[11:])[0]
    y, x = np.nonzero(visible & seen.moving)
    places, _ = track_points(scene, seen, pose[11:], x, y)
    column, row = np.round(places[:, 0]).astype(int).T
    same = end.primitive[row, column] == seen.primitive[y, x]
    assert same.mean() > 0.7
    k = np.flatnonzero(same)
    x, y, column, row, places = x[k], y[k], column[k], row[k], places[k, 0]
    # The surface point at the rounded target, carried back to x0 with plain numpy.
    rotations, origins = primitive_frames(scene.primitives, pose[1:2])
    index = end.primitive[row, column]
    points = origins[0, index] + np.einsum("nij,nj->ni", rotations[0, index], end.local[row, column])
    back = scene.camera.pixels(points, SIZE)
    rounding = np.stack([column, row], -1) - places
    residual = np.sqrt(((back - np.stack([x, y], -1) - rounding) ** 2).sum(-1))
    assert np.median(residual) < 0.15


def test_visibility_is_whole_in_x0_and_lost_behind_other_parts(moved: tuple[Scene, Pose, SimClip]) -> None:
    scene, pose, clip = moved
    seen = surface(scene, pose[1:], SIZE)
    at_once, later = visibility(scene, seen, pose[[1, 11]])
    assert at_once.all()
    assert 0.85 < later.mean() < 1
    assert np.array_equal(later, clip.visible)


def test_hidden_points_have_something_in_front() -> None:
    world = World(build_scene("human", "hide"))
    pose = natural_poses(world, Random("hide"), 1)[0]
    scene = world.scene
    seen, end = surface(scene, pose[1:], SIZE), surface(scene, pose[11:], SIZE)
    hidden = ~visibility(scene, seen, pose[11:])[0] & ~seen.moving
    assert hidden.any()
    assert np.isfinite(end.depth[hidden]).all()
    assert (end.depth[hidden] < seen.depth[hidden]).all()


def test_material_points_lie_where_their_pixel_looks(ficus: Scene) -> None:
    seen = surface(ficus, ficus.rest, 64)
    y, x = (int(v) for v in np.argwhere(seen.moving)[100])
    body, point = material_point(ficus, seen, x, y)
    world = ficus.rest.position[0, body] + ficus.rest.rotation[0, body] @ point
    assert np.allclose(ficus.camera.pixels(world, 64), [x, y], atol=1e-5)
    assert material_point(ficus, seen, 0, 0)[0] == 0


def test_flow_in_fractions_of_the_side_does_not_depend_on_size() -> None:
    world = World(build_scene("cactus", "scale"))
    pose = natural_poses(world, Random("scale"), 1)[0]
    flows = []
    for size in (64, 192):
        seen = surface(world.scene, pose[1:], size)
        flows.append(dense_flow(world.scene, seen, pose[11:])[0] / size)
    centres = flows[1][:, 1::3, 1::3]  # the pixel centres of 64 px are those of every third pixel of 192 px
    assert np.abs(centres - flows[0]).max() < 1e-9


def test_natural_clips_move(moved: tuple[Scene, Pose, SimClip]) -> None:
    _, _, clip = moved
    assert (np.hypot(*clip.flow) > 0.01 * SIZE).mean() > 0.005
    assert (clip.frames[0] != clip.frames[1]).any()
