"""Objective, schedule, draws, and what a step may depend on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from peers.engine import PlainEngine
from peers.srvp_tiny import tiny, tiny_batch, train_share, wide_training
from torch.distributions import Normal, kl_divergence

from methods.srvp.config import RECIPES
from methods.srvp.network import Path as LatentPath
from methods.srvp.network import mean_and_std
from methods.srvp.objective import (
    Reconstruction,
    SRVPTraining,
    divergence,
    divergence_from_standard,
    draw,
    learning_rate,
    objective,
)
from methods.training import TRAININGS
from metrics.errors import MethodError


def test_terms_against_torch_distributions() -> None:
    config = tiny(observation_std=0.3, beta_y=0.5, beta_z=2.0, residual_weight=3.0)
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    truth, made = normal(2, 4, 3, 64, 64), normal(2, 4, 3, 64, 64)
    first, posteriors, priors, residuals = normal(2, 6), normal(2, 3, 8), normal(2, 3, 8), normal(2, 6, 3)
    unused = normal(1)
    found = objective(
        config,
        truth,
        Reconstruction(made, unused, unused, first, posteriors, priors, LatentPath(unused, unused, residuals)),
    )
    likelihood = -Normal(made, 0.3).log_prob(truth).sum() / 2
    q, p = Normal(*mean_and_std(posteriors)), Normal(*mean_and_std(priors))
    divergence_y = kl_divergence(Normal(*mean_and_std(first)), Normal(0.0, 1.0)).sum() / 2
    divergence_z = kl_divergence(q, p).sum() / 2
    penalty = (residuals**2).sum(-1).sqrt().sum() / 2
    known = [likelihood, divergence_y, divergence_z, penalty]
    torch.testing.assert_close([found.likelihood, found.divergence_y, found.divergence_z, found.residual], known)
    total = likelihood + 0.5 * divergence_y + 2 * divergence_z + 3 * penalty
    torch.testing.assert_close(found.loss, total)


def test_divergence_of_a_gaussian_from_itself_is_zero() -> None:
    parameters = torch.randn(5, 8)
    assert divergence(parameters, parameters).abs().max() < 1e-6
    standard = torch.cat([torch.zeros(4), torch.full((4,), 1.0).expm1().log()])
    assert divergence_from_standard(standard).abs().max() < 1e-6


def test_learning_rate_is_constant_then_falls_to_zero_in_the_last_step() -> None:
    config = tiny(learning_rate=0.5, decay=0.25)
    found = [learning_rate(config, i, 12) for i in range(12)]
    assert found[:9] == [0.5] * 9
    assert found[9:] == pytest.approx([0.5 * 2 / 3, 0.5 / 3, 0.0])
    assert learning_rate(tiny(decay=0, learning_rate=0.5), 11, 12) == 0.5
    paper = RECIPES["paper"]
    steps = paper.loop["steps"]
    assert learning_rate(paper.model, 324_999, steps) == 3e-4
    assert learning_rate(paper.model, 325_000, steps) == pytest.approx(3e-4 * 24_999 / 25_000)


def test_draws_come_from_the_clip_alone() -> None:
    config, batch = tiny(conditioning=3), tiny_batch(clips=4, length=7)
    whole = draw(config, batch)
    parts = [draw(config, part) for part in batch.parts(2)]
    for name, value in vars(whole).items():
        assert torch.equal(value, torch.cat([vars(part)[name] for part in parts])), name
    assert whole.noises.shape == (4, 6, 4)
    assert whole.first.shape == (4, 3)
    other = draw(config, tiny_batch(clips=4, length=7, seed=1))
    assert not torch.equal(whole.noises, other.noises)


def test_frames_are_drawn_from_the_whole_clip() -> None:
    config, length = tiny(), 5
    draws = [draw(config, tiny_batch(clips=8, length=length, seed=seed)) for seed in range(40)]
    skip = torch.cat([d.skip_frame for d in draws])
    shown = torch.cat([d.content_frames for d in draws])
    assert set(skip.tolist()) == set(shown.flatten().tolist()) == set(range(length))
    assert (shown[:, 0] != shown[:, 1]).all()
    counts = torch.bincount(skip)
    assert counts.min() > 35  # 320 draws, 64 expected, standard deviation 7.2
    assert (skip == shown[:, 0]).float().mean() < 0.35  # independent of each other


def test_the_decoder_can_see_the_last_of_the_conditioning_frames() -> None:
    batch = tiny_batch(clips=3, length=7)
    last, drawn = draw(tiny(conditioning=3, skip_frame="last"), batch), draw(tiny(conditioning=3), batch)
    assert last.skip_frame.tolist() == [2, 2, 2]
    for name in ("first", "noises", "content_frames"):  # the other draws are what they were
        assert torch.equal(getattr(last, name), getattr(drawn, name)), name


def stepped(training: SRVPTraining, start: int, stop: int, clips: int = 4) -> list[float]:
    engine = PlainEngine(training.optimizers, steps=60)
    losses = []
    for engine.iteration in range(start, stop):
        losses.append(training.step([tiny_batch(clips, seed=engine.iteration)], engine)["loss"].item())
    return losses


@pytest.mark.parametrize("architecture", ["vgg", "dcgan"])
def test_it_learns(architecture: str) -> None:
    training = SRVPTraining(tiny(architecture=architecture, filters=3, learning_rate=5e-3), seed=0)
    losses = stepped(training, 0, 20, clips=2)
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])


def test_resume_is_exact() -> None:
    whole = SRVPTraining(tiny(), seed=0)
    expected = stepped(whole, 0, 6)
    first = SRVPTraining(tiny(), seed=0)
    assert stepped(first, 0, 3) == expected[:3]
    second = SRVPTraining(tiny(), seed=9)
    second.network.load_state_dict(first.network.state_dict())
    second.optimizers["srvp"].load_state_dict(first.optimizers["srvp"].state_dict())
    torch.manual_seed(1)
    assert stepped(second, 3, 6) == expected[3:]
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name


def test_seeds_give_the_weights_and_touch_nothing_else() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, same, other = (SRVPTraining(tiny(), seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    weights = [dict(training.network.named_parameters()) for training in (one, same, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["posterior.weight"], weights[2]["posterior.weight"])


def test_accumulated_parts_are_averaged() -> None:
    training = SRVPTraining(tiny(), seed=0)
    engine = PlainEngine(training.optimizers, parts=2)
    scalars = training.step(tiny_batch().parts(2), engine)
    assert len(engine.losses["srvp"]) == 2
    assert scalars["loss"].item() == pytest.approx(sum(engine.losses["srvp"]) / 2)
    assert all(not value.requires_grad and value.ndim == 0 for value in scalars.values())


def test_every_parameter_gets_a_gradient() -> None:
    training = SRVPTraining(tiny(), seed=0)
    training.step([tiny_batch()], PlainEngine(training.optimizers))
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in training.network.parameters())


def test_gradients_are_scaled_down_to_the_norm_that_is_asked_for() -> None:
    found = []
    for max_norm in (None, 3.0):
        training = SRVPTraining(tiny(max_norm=max_norm), seed=0)
        engine = PlainEngine(training.optimizers)
        training.step([tiny_batch()], engine)
        found.append(torch.cat([gradient.flatten() for gradient in engine.gradients["srvp"] if gradient is not None]))
    free, bound = found
    assert free.norm() > 100
    torch.testing.assert_close(bound, free * (3 / free.norm()))


def test_losses_are_float32_under_mixed_precision() -> None:
    training = SRVPTraining(tiny(), seed=0)
    plain = SRVPTraining(tiny(), seed=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = training.step([tiny_batch()], PlainEngine(training.optimizers))
    full = plain.step([tiny_batch()], PlainEngine(plain.optimizers))
    assert all(value.dtype == torch.float32 for value in mixed.values())
    assert mixed["loss"].item() == pytest.approx(full["loss"].item(), rel=0.01)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    batch, steps = tiny_batch(), 2
    batch = type(batch)(batch.frames.double(), 2, batch.clip_ids, 0)
    torch.multiprocessing.spawn(train_share, (2, batch, steps, str(tmp_path)), nprocs=2)
    alone = wide_training()
    engine = PlainEngine(alone.optimizers, steps=100)
    for engine.iteration in range(steps):
        alone.step([batch], engine)
    known = alone.network.state_dict()
    shares = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name, value in known.items():
        assert torch.equal(shares[0][name], shares[1][name]), name
        torch.testing.assert_close(shares[0][name], value, atol=1e-9, rtol=0)


def test_clips_that_do_not_fit_are_refused() -> None:
    training = SRVPTraining(tiny(conditioning=3), seed=0)
    training.check(64, 3, 10)
    with pytest.raises(MethodError, match="64 px, found 128 px"):
        training.check(128, 3, 10)
    with pytest.raises(MethodError, match="from 3 frames, found 2 context frames"):
        training.check(64, 2, 10)
    with pytest.raises(MethodError, match="horizon of 0"):
        training.check(64, 3, 0)


def test_the_registry_knows_it() -> None:
    assert TRAININGS.get("srvp") is SRVPTraining
