"""What a step draws, what it depends on, and that it learns."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch
from peers.engine import PlainEngine
from torch import Tensor

from methods.hao.config import RECIPES, HaoConfig
from methods.hao.network import HaoNetwork, Heads, Prediction, zero_padded_warp
from methods.hao.objective import CHARBONNIER, HaoTraining, draw_pairs, hao_loss, valid_region
from methods.hao.trajectories import trajectory_map
from methods.training import TRAININGS, TrainingBatch
from metrics.errors import MethodError

TINY = HaoConfig(name="tiny", size=16, width=2)


def batch(clips: int = 4, horizon: int = 10, points: int = 5, context: int = 1, seed: int = 0) -> TrainingBatch:
    """Frames of one grey value each, 0.01 times the number of the frame; points that move one px a frame."""
    grey = torch.arange(context + horizon) * 0.01
    frames = grey[None, :, None, None, None].expand(clips, -1, 3, 16, 16).contiguous()
    begin = torch.stack([torch.zeros(points), torch.arange(points) * 2.0], -1)
    step = torch.tensor([1.0, 0.0])
    tracks = begin[:, None] + step * torch.arange(horizon + 1)[:, None]
    ids = tuple(f"clip{row}" for row in range(clips))
    return TrainingBatch(frames, context, ids, seed, tracks=tracks.expand(clips, -1, -1, -1).contiguous())


def state(training: HaoTraining) -> Tensor:
    return torch.cat([value.double().flatten() for value in training.network.state_dict().values()])


def test_pairs_are_drawn_as_the_authors_enumerate_them() -> None:
    """In 11 frames there are 11 - i pairs at interval i: 55 in all."""
    shown = batch(clips=5500)
    source, target, _ = draw_pairs(shown, TINY)
    first, last = ((video[:, 0, 0, 0] * 100).round().long() for video in (source, target))
    found = Counter((last - first).tolist())
    assert set(found) == set(range(1, 11))
    for interval, count in found.items():
        assert abs(count - 100 * (11 - interval)) < 5 * (100 * (11 - interval)) ** 0.5
    assert set(first.tolist()) == set(range(10))
    short = draw_pairs(shown, TINY.model_copy(update={"max_interval": 2}))
    gaps = ((short.target - short.source)[:, 0, 0, 0] * 100).round().long()
    assert set(gaps.tolist()) == {1, 2}


def test_trajectories_belong_to_the_pair() -> None:
    """Points move one px a frame to the right, and x is the number of the frame."""
    for context in (1, 3):
        source, target, drawn = draw_pairs(batch(clips=200, context=context), TINY)
        count = drawn[:, 0].sum((1, 2))
        assert set(count.tolist()) == {1, 2, 3, 4, 5}
        gap = ((target - source)[:, 0, 0, 0] * 100).round()
        assert torch.equal(drawn[:, 2].sum((1, 2)), gap * count)
        assert torch.equal(drawn[:, 5].sum((1, 2)), -gap * count)
        assert not drawn[:, [1, 4]].any()
        begin = ((source[:, 0, 0, 0] * 100).round() - (context - 1)).long()
        for row in range(200):
            assert int(drawn[row, 0].sum(0).nonzero()) == begin[row]


def test_draws_depend_on_seed_and_clip_alone() -> None:
    whole = batch(clips=6)
    together = draw_pairs(whole, TINY)
    apart = [draw_pairs(part, TINY) for part in whole.parts(3)]
    for number, value in enumerate(together):
        assert torch.equal(value, torch.cat([part[number] for part in apart]))
    assert not torch.equal(together.source, draw_pairs(batch(clips=6, seed=1), TINY).source)


def test_fewer_points_than_asked_for() -> None:
    drawn = draw_pairs(batch(clips=50, points=2), TINY).trajectories
    assert set(drawn[:, 0].sum((1, 2)).tolist()) == {1, 2}
    with pytest.raises(MethodError, match="at least 3 points"):
        draw_pairs(batch(points=2), HaoConfig(min_tracks=3))
    with pytest.raises(MethodError, match="found none"):
        draw_pairs(TrainingBatch(torch.zeros(1, 11, 3, 16, 16), 1, ("a",), 0), TINY)


def test_later_trajectories_hide_earlier_ones() -> None:
    start = torch.tensor([[[1.0, 2.0], [1.9, 2.9], [1.0, 2.0]]])
    end = torch.tensor([[[3.0, 3.0], [0.0, 0.0], [9.0, 1.0]]])
    drawn = trajectory_map(start, end, 4, 4)
    assert drawn[0, :3, 2, 1].tolist() == [1, -1, 8]
    assert drawn[0, 3:, 1, 3].tolist() == [1, 1, -8]
    drawn = trajectory_map(start, end, 4, 4, kept=torch.tensor([[True, True, False]]))
    assert drawn[0, :3, 2, 1].tolist() == pytest.approx([1, -2.9, -1.9])
    assert drawn[0, 0].sum() == 1
    assert drawn[0, 3].sum() == 2


def test_letterbox_by_hand() -> None:
    frame = torch.zeros(1, 3, 8, 10)
    frame[:, :, 2:7, 1:] = 0.5
    expected = torch.zeros(8, 10)
    expected[3:6, 2:9] = 1
    assert torch.equal(valid_region(frame)[0, 0], expected)
    assert valid_region(torch.zeros(1, 3, 8, 10)).sum() == 6 * 8


def test_objective_by_hand() -> None:
    ones = torch.ones(1, 1, 16, 16)
    raw = torch.stack([1.5 * ones[:, 0], -0.5 * ones[:, 0], 0.5 * ones[:, 0]], 1)
    heads = Heads(torch.zeros(1, 2, 16, 16), 0 * ones, raw)
    prediction = Prediction(0.6 * ones.expand(-1, 3, -1, -1), 0.5 * ones, raw.clamp(0, 1), raw, heads)
    target = 0.5 * ones.expand(-1, 3, -1, -1)
    inner = 14 * 14 / 256
    expected = inner * (0.01 + CHARBONNIER**2) ** 0.5 + (1 - inner) * CHARBONNIER
    loss = hao_loss(prediction, target, HaoConfig())
    assert float(loss.reconstruction) == pytest.approx(expected, rel=1e-5)
    assert float(loss.completion) == 0
    assert float(loss.mask) == 0.25
    assert float(loss.total) == pytest.approx(expected + 0.0025, rel=1e-5)
    loss = hao_loss(prediction, target, HaoConfig(completion_penalty="raw", letterbox=False))
    assert float(loss.completion) == pytest.approx(0.5 / 3, rel=1e-5)
    assert float(loss.reconstruction) == pytest.approx((0.01 + CHARBONNIER**2) ** 0.5, rel=1e-5)


def test_warp_by_hand() -> None:
    image = torch.arange(1.0, 17).view(1, 1, 4, 4)
    flow = torch.zeros(1, 2, 4, 4)
    flow[:, 0] = 1
    found = zero_padded_warp(image, flow)[0, 0]
    torch.testing.assert_close(found[:, :3], image[0, 0, :, 1:])
    assert not found[:, 3].any()
    flow[:, 0] = -0.5
    torch.testing.assert_close(zero_padded_warp(image, flow)[0, 0, 0], torch.tensor([0.5, 1.5, 2.5, 3.5]))


@pytest.mark.parametrize("penalty", ["clamped", "raw"])
def test_a_pattern_that_moves_is_learned(penalty: str) -> None:
    """A texture that slides is predicted better after 60 steps than before, by half at least."""
    texture = torch.rand(3, 16, 40, generator=torch.Generator().manual_seed(0))
    texture = torch.nn.functional.avg_pool2d(texture, 3, 1, 1)
    frames = torch.stack([torch.stack([texture[:, :, c + 10 - t : c + 26 - t] for t in range(11)]) for c in range(8)])
    shown = TrainingBatch(frames, 1, tuple(str(c) for c in range(8)), 0, tracks=batch(8).tracks)
    config = HaoConfig(size=16, width=8, completion_penalty=penalty, letterbox=False)
    training = HaoTraining(config, seed=0)
    engine = PlainEngine(training.optimizers)
    scores = [float(training.step([shown], engine)["reconstruction"]) for _ in range(60)]
    assert sum(scores[-5:]) / 5 < 0.5 * scores[0]


def test_a_step_is_the_same_after_a_resume_and_for_the_same_seed() -> None:
    one, other = HaoTraining(TINY, seed=3), HaoTraining(TINY, seed=3)
    assert torch.equal(state(one), state(other))
    assert not torch.equal(state(one), state(HaoTraining(TINY, seed=4)))
    before = torch.random.get_rng_state()
    HaoTraining(TINY, seed=5)
    assert torch.equal(before, torch.random.get_rng_state())
    one.step([batch()], PlainEngine(one.optimizers))
    other.network.load_state_dict(one.network.state_dict())
    other.optimizers["predictor"].load_state_dict(copy.deepcopy(one.optimizers["predictor"].state_dict()))
    for training in (one, other):
        training.step([batch(seed=1)], PlainEngine(training.optimizers))
    assert torch.equal(state(one), state(other))


def test_parts_sum_to_the_whole_without_batch_norm() -> None:
    config = TINY.model_copy(update={"batch_norm": False})
    gradients, logs = [], []
    for parts in (1, 2):
        training = HaoTraining(config, seed=0)
        engine = PlainEngine(training.optimizers, parts=parts)
        logs.append(training.step(batch(clips=6).parts(parts), engine))
        gradients.append(engine.gradients["predictor"])
    for whole, summed in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, summed, rtol=1e-4, atol=1e-6)
    for name, value in logs[0].items():
        torch.testing.assert_close(value, logs[1][name], rtol=1e-5, atol=1e-7)
        assert not value.requires_grad


def test_half_precision_keeps_heads_and_losses_in_float32() -> None:
    network = HaoNetwork(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prediction = network.predict(torch.rand(2, 3, 16, 16), torch.zeros(2, 6, 16, 16))
        loss = hao_loss(prediction, torch.rand(2, 3, 16, 16), TINY)
    assert {value.dtype for value in (*prediction.heads, prediction.frame, loss.total)} == {torch.float32}


def test_recipes_and_checks() -> None:
    assert TRAININGS.get("hao") is HaoTraining
    assert HaoTraining.inputs == {"tracks"}
    for name, recipe in RECIPES.items():
        assert recipe.model.name == name
        assert recipe.model.size == recipe.data["size"]
        with torch.device("meta"):
            parameters = sum(p.numel() for p in HaoNetwork(recipe.model.width).parameters())
        assert parameters == (32_399_046 if name.startswith("paper") else 2_031_030)
    training = HaoTraining(TINY, seed=0)
    training.check(16, 1, 10)
    with pytest.raises(MethodError, match="found 32 px"):
        training.check(32, 1, 10)
    with pytest.raises(MethodError, match="multiple of 16"):
        HaoTraining(TINY.model_copy(update={"size": None}), seed=0).check(40, 1, 10)
    with pytest.raises(ValueError, match="min_tracks <= max_tracks"):
        HaoConfig(min_tracks=6)
