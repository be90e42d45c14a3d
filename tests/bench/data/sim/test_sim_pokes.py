"""True pokes: the poked point, the pull, the blow, the background, and the oracle that answers any poke."""

from __future__ import annotations

import numpy as np
import pytest

from bench.data.sim.clips import SimClip, film
from bench.data.sim.exact import Random
from bench.data.sim.flow import material_point
from bench.data.sim.oracle import TOLERANCE, answer
from bench.data.sim.poking import REACH, SHIFT, Stage, background_poke, random_poke
from bench.data.sim.response import sample_points
from bench.data.sim.splits import SPLITS, Split, make_scene, stage_of
from metrics.errors import DataError

SIZE = 64


@pytest.fixture(scope="module", params=["ficus", "cactus", "human", "orchid"])
def poked(request: pytest.FixtureRequest) -> tuple[Stage, SimClip]:
    stage = Stage.build(request.param, "poked", sway=request.param == "orchid")
    found = random_poke(stage, Random("poked"), SIZE, "pull")
    return stage, film(stage.world.scene, found.pose, SIZE, "poke-test", "poke", found.poke, found.seen)


def test_the_displacement_is_the_flow_at_the_location(poked: tuple[Stage, SimClip]) -> None:
    _, clip = poked
    assert clip.poke is not None
    x, y = clip.poke.location
    assert np.array_equal(clip.poke.displacement, clip.flow[:, y, x].astype(np.float64))
    assert np.array_equal(clip.tracks[0, 1], [x, y])
    assert np.allclose(clip.tracks[0, -1] - [x, y], clip.poke.displacement, atol=1e-6)
    length = np.hypot(*clip.poke.displacement) / SIZE
    assert 0.02 <= length <= SHIFT[1] * 1.3
    assert np.hypot(*clip.flow).max() <= REACH * 1.4 * SIZE
    assert clip.parts[y, x] > 0


def test_a_pull_grows_and_holds(poked: tuple[Stage, SimClip]) -> None:
    _, clip = poked
    assert clip.poke is not None
    progress = (clip.tracks[0, 1:] - clip.tracks[0, 1]) @ clip.poke.displacement / (clip.poke.displacement**2).sum()
    assert progress[0] == pytest.approx(0)
    assert abs(progress[1]) < 0.25
    assert progress[-1] == pytest.approx(1, abs=1e-5)
    assert progress[-2:].min() > 0.6


def test_an_object_at_rest_stands_still_before_the_poke() -> None:
    stage = Stage.build("palm", "still")
    found = random_poke(stage, Random("still"), SIZE, "pull")
    clip = film(stage.world.scene, found.pose, SIZE, "still", "still", found.poke, found.seen)
    assert np.array_equal(clip.frames[0], clip.frames[1])
    assert (clip.frames[1] != clip.frames[-1]).any()


def test_a_swaying_object_moves_before_the_poke() -> None:
    stage = Stage.build("palm", "sway", sway=True)
    assert not np.array_equal(stage.before.position[0], stage.before.position[1])
    body, point = sample_points(stage.world.scene)[-1]
    alone = stage.respond(body, point, np.zeros(2), "pull")
    assert 0.001 < stage.widest(alone) < 0.1


def test_a_blow_moves_more_on_the_way_than_at_the_end() -> None:
    stage = Stage.build("gerbera", "blow")
    found = random_poke(stage, Random("blow"), SIZE, "impulse")
    body, point = material_point(stage.world.scene, found.seen, *found.poke.location)
    path = np.sqrt((stage.path(body, point, found.pose) ** 2).sum(-1))
    assert path[2:-1].max() > path[-1]
    assert path.max() >= 0.02


def test_nothing_moves_after_a_poke_beside_the_object() -> None:
    stage = Stage.build("fern", "beside")
    found = background_poke(stage, Random("beside"), SIZE)
    clip = film(stage.world.scene, found.pose, SIZE, "beside", "beside", found.poke, found.seen)
    assert clip.poke is not None
    x, y = clip.poke.location
    assert clip.parts[y, x] == 0
    assert (clip.frames == clip.frames[0]).all()
    assert (clip.flow == 0).all()
    assert clip.visible.all()
    assert SHIFT[0] * SIZE <= np.hypot(*clip.poke.displacement) <= SHIFT[1] * SIZE
    assert np.array_equal(clip.poke.force, [0, 0])


def test_counterfactual_clips_share_scene_and_place() -> None:
    split = Split("sim-few", "for tests", "counterfactual", ("aloe",), 1, 4, 1)
    clips = make_scene(split, 0, SIZE)
    assert len({clip.poke.location for clip in clips if clip.poke}) == 1
    assert len({tuple(clip.poke.displacement) for clip in clips if clip.poke}) == 4
    for clip in clips[1:]:
        assert np.array_equal(clip.frames[:2], clips[0].frames[:2])
        assert (clip.frames[-1] != clips[0].frames[-1]).any()


@pytest.mark.parametrize("kind", ["ficus", "cactus", "bonsai", "human", "spider_plant"])
def test_the_oracle_finds_the_force_of_a_real_poke(kind: str) -> None:
    stage = Stage.build(kind, "oracle")
    rng = Random("oracle", kind)
    residuals = []
    for _ in range(3):
        found = random_poke(stage, rng, SIZE, "pull")
        reply = answer(stage, found.poke.location, found.poke.displacement, SIZE)
        residuals.append(reply.residual)
        reached = np.hypot(*(reply.displacement - found.poke.displacement))
        assert reached == pytest.approx(reply.residual, abs=1e-9)
        assert reply.feasible == (reply.residual <= TOLERANCE)
    assert np.median(residuals) <= TOLERANCE


def test_the_answer_shows_the_point_at_its_target(ficus_stage: Stage) -> None:
    found = random_poke(ficus_stage, Random("target"), SIZE, "pull")
    reply = answer(ficus_stage, found.poke.location, found.poke.displacement, SIZE)
    clip = film(ficus_stage.world.scene, reply.pose, SIZE, "answer", "answer")
    x, y = found.poke.location
    assert np.allclose(clip.flow[:, y, x], found.poke.displacement, atol=TOLERANCE + 1 / 128)
    assert np.array_equal(reply.pose.position[:2], ficus_stage.before.position)


def test_an_infeasible_poke_is_answered_with_its_residual(ficus_stage: Stage) -> None:
    """A trunk cannot be pulled half a picture out of its pot."""
    found = random_poke(ficus_stage, Random("far"), SIZE, "pull")
    reply = answer(ficus_stage, found.poke.location, np.array([0.0, -40.0]), SIZE)
    assert not reply.feasible
    assert reply.residual > 1
    assert np.hypot(*(reply.displacement - [0.0, -40.0])) == pytest.approx(reply.residual, abs=1e-9)


def test_the_oracle_knows_that_the_room_does_not_move(ficus_stage: Stage) -> None:
    reply = answer(ficus_stage, (0, 0), np.array([3.0, 4.0]), SIZE)
    assert reply.residual == pytest.approx(5)
    assert not reply.feasible
    assert (reply.pose.position == reply.pose.position[0]).all()
    still = answer(ficus_stage, (0, 0), np.zeros(2), SIZE)
    assert still.feasible


def test_answers_repeat(ficus_stage: Stage) -> None:
    place = random_poke(ficus_stage, Random("again"), SIZE, "pull").poke.location
    one, again = (answer(ficus_stage, place, np.array([3.0, -1.0]), SIZE) for _ in range(2))
    assert np.array_equal(one.pose.position, again.pose.position)
    assert np.array_equal(one.force, again.force)


@pytest.mark.parametrize(
    ("location", "displacement", "message"),
    [
        ((64, 3), (1.0, 1.0), "outside the 64 x 64 px picture"),
        ((-1, 3), (1.0, 1.0), "outside"),
        ((3, 3), (float("nan"), 1.0), "two finite numbers"),
        ((3, 3), (1.0, 1.0, 1.0), "two finite numbers"),
    ],
)
def test_pokes_that_make_no_sense_are_refused(
    ficus_stage: Stage, location: tuple[int, int], displacement: tuple[float, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        answer(ficus_stage, location, np.array(displacement), SIZE)


def test_natural_splits_have_no_stage() -> None:
    with pytest.raises(DataError, match="natural motion"):
        stage_of(SPLITS["sim-plants"], 0)
