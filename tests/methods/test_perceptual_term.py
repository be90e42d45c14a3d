"""The perceptual distance that objectives can be given: its scale, its draws, and what it moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from methods.ivrnn.objective import IVRNNTraining
from methods.perceptual import CARD_TITLE, Form, Perceptual, PerceptualConfig, PerceptualTerm, distance, mean_difference
from methods.savp.draws import draw
from methods.savp.objective import SavpTraining
from methods.savp.rollouts import rollouts
from methods.srvp.config import SRVPConfig
from methods.srvp.objective import SRVPTraining
from methods.training import TrainingBatch
from metrics.lpips import lpips

CLIPS, STEPS = 2, 4


def clips(seed: int = 0) -> TrainingBatch:
    frames = torch.rand(CLIPS, 2 + STEPS, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    return TrainingBatch(frames, 2, ("a", "b"), seed=seed, total=CLIPS)


def term(layers: int, frames: int, form: Form = "l1") -> PerceptualTerm:
    return PerceptualTerm(PerceptualConfig(perceptual_layers=layers, perceptual_frames=frames, perceptual_form=form))


class Step:
    """What a step asks of the loop."""

    iteration, epoch, steps = 0, 0, 10

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.losses: list[Tensor] = []

    def minimise(self, name: str, losses: Any, max_norm: float | None = None) -> None:
        for loss in losses:
            loss.backward()
            self.losses.append(loss.detach())


def test_it_is_the_mean_distance_of_the_frames() -> None:
    batch = clips()
    made = clips(seed=1).future
    net = Perceptual("vgg16", 2)
    frame = [
        [float(distance(*(net(2 * v[i : i + 1, t] - 1) for v in (made, batch.future)), pixels=False)) for t in range(4)]
        for i in range(CLIPS)
    ]
    found = float(term(2, STEPS)(batch, made, batch.future))
    assert found == pytest.approx(float(torch.tensor(frame).mean()), rel=1e-4)
    # Of two frames a clip, it is the mean over those that the clips draw.
    drawn = [torch.randperm(STEPS, generator=one)[:2].tolist() for one in batch.generators("perceptual frames")]
    some = float(torch.tensor([[frame[i][t] for t in drawn[i]] for i in range(CLIPS)]).mean())
    assert float(term(2, 2)(batch, made, batch.future)) == pytest.approx(some, rel=1e-4)


def test_as_lpips_it_is_lpips_of_vgg() -> None:
    batch, made = clips(), clips(seed=1).future
    wanted = lpips(made, batch.future, net="vgg").mean()
    assert float(term(5, STEPS, "lpips")(batch, made, batch.future)) == pytest.approx(float(wanted), rel=1e-4)


def test_lpips_of_black_frames_has_a_finite_gradient() -> None:
    batch = clips()
    made = torch.zeros_like(batch.future, requires_grad=True)
    term(3, STEPS, "lpips")(batch, made, batch.future).backward()
    assert made.grad is not None
    assert made.grad.isfinite().all()
    assert made.grad.abs().max() > 0


def test_equal_frames_are_at_distance_zero_and_the_truth_gets_no_gradient() -> None:
    batch = clips()
    made, truth = batch.future.clone().requires_grad_(), batch.future.clone().requires_grad_()
    small = term(1, 1)
    assert float(small(batch, made, truth).detach()) == 0
    small(batch, made * 0.9, truth).backward()
    assert truth.grad is None
    assert made.grad is not None
    seen = made.grad.flatten(2).abs().sum(dim=2) > 0
    assert seen.sum(dim=1).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("training", "beta"), [(IVRNNTraining, "beta"), (SRVPTraining, "beta_z")], ids=["ivrnn", "srvp"]
)
def test_a_step_adds_it_to_the_authors_objective(training: Callable[..., Any], beta: str) -> None:
    losses = []
    for weight in (0.0, 0.25):
        config = training.recipes["small"].model.model_copy(update={"perceptual_weight": weight, beta: 0.5})
        made = training(config, seed=0)
        step = Step(next(iter(made.optimizers.values())))
        step.iteration = 5  # of 10: SRVP begins with it later
        scalars = made.step([clips()], step)
        assert float(scalars["loss"]) == pytest.approx(float(step.losses[0]))
        losses.append((float(scalars["loss"]), float(scalars.get("perceptual", torch.tensor(0.0)))))
        assert (CARD_TITLE in made.method().card.title) == bool(weight)
    (plain, none), (whole, apart) = losses
    assert none == 0 < apart
    assert whole - plain == pytest.approx(0.25 * apart, rel=1e-3)


def test_srvp_can_leave_it_out_of_the_first_steps() -> None:
    config = SRVPTraining.recipes["small"].model.model_copy(update={"perceptual_from": 0.4})
    made = SRVPTraining(config, seed=0)
    step = Step(made.optimizers["srvp"])
    for iteration in range(5):
        step.iteration, step.steps = iteration, 5
        assert ("perceptual" in made.step([clips()], step)) == (iteration >= 2)


def test_a_step_of_savp_adds_its_mean() -> None:
    """Of the frames after the context, as the posterior rollout has them."""
    losses = []
    for weight in (0.0, 40.0):
        config = SavpTraining.recipes["small-vae-only"].model.model_copy(update={"perceptual_weight": weight})
        made = SavpTraining(config, seed=0)
        step = Step(made.optimizers["predictor"])
        with torch.no_grad():
            shown = rollouts(made.generator, clips().frames, 2, draw(clips(), config, 1.0)).posterior[:, 1:]
        scalars = made.step([clips()], step)
        assert float(scalars["predictor"]) == pytest.approx(float(step.losses[0]))
        losses.append((float(scalars["predictor"]), float(scalars.get("perceptual", torch.tensor(0.0)))))
        assert (CARD_TITLE in made.method().card.title) == bool(weight)
    (plain, none), (whole, apart) = losses
    wanted = float(PerceptualTerm(config)(clips(), shown, clips().future))
    assert none == 0
    assert apart == pytest.approx(wanted, rel=1e-4)
    assert whole - plain == pytest.approx(40 * apart, rel=1e-3)


def test_grey_videos_have_none() -> None:
    with pytest.raises(ValidationError, match="perceptual_weight is for videos in colour"):
        SRVPConfig(channels=1, perceptual_weight=0.5)


def test_mean_difference_is_the_l1_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    second[0] = first[0]  # where nothing differs the gradient is zero
    both = (first.requires_grad_(), second.requires_grad_())
    found, wanted = mean_difference(*both), torch.nn.functional.l1_loss(*both)
    assert torch.equal(found.detach(), wanted.detach())
    pairs = zip(torch.autograd.grad(3 * found, both), torch.autograd.grad(3 * wanted, both), strict=True)
    assert all(torch.allclose(ours, theirs, rtol=1e-14, atol=0) for ours, theirs in pairs)
    constant = first.detach()
    (alone,) = torch.autograd.grad(mean_difference(constant, second), second)
    assert torch.equal(alone.sign(), (second - constant).sign())


def test_mean_difference_of_half_precision_is_a_mean_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(64, 64, 8, 8, generator=generator).bfloat16() for _ in range(2))
    first.requires_grad_()
    found, wanted = mean_difference(first, second), (first.double() - second.double()).abs().mean()
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(wanted.item(), rel=1e-4)  # in bfloat16 it would be within 4e-3
    ours, theirs = torch.autograd.grad(found, first)[0], torch.autograd.grad(wanted, first)[0]
    assert ours.dtype == torch.bfloat16
    assert torch.equal(ours, theirs.bfloat16())
