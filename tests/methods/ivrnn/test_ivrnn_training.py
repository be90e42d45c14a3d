"""The training of IVRNN: its step, its randomness, and that it learns. Smallest widths on clips of few frames."""

from __future__ import annotations

import pytest
import torch
from peers.engine import PlainEngine
from torch import Tensor

from methods.interface import Conditioning
from methods.ivrnn.config import IVRNNConfig, Variant
from methods.ivrnn.objective import IVRNNTraining
from methods.training import TRAININGS, TrainingBatch, training_fault
from metrics.errors import MethodError

TINY = (16, 16, 16, 16, 16, 32)
VARIANTS: tuple[Variant, ...] = ("hierarchical", "flat", "dense-prior")


def config(variant: Variant = "hierarchical", **changes: object) -> IVRNNConfig:
    return IVRNNConfig(recipe="tiny", variant=variant, widths=TINY, top_latent=4, **changes)


def batch(clips: int = 2, steps: int = 1, seed: int = 0) -> TrainingBatch:
    generator = torch.Generator().manual_seed(3)
    frames = torch.rand(clips, 2 + steps, 3, 64, 64, generator=generator)
    return TrainingBatch(frames, 2, tuple(f"clip{i}" for i in range(clips)), seed=seed, total=clips)


def stepped(training: IVRNNTraining, batches: list[TrainingBatch], parts: int = 1) -> list[dict[str, Tensor]]:
    engine = PlainEngine(training.optimizers, parts=parts)
    scalars = []
    for engine.iteration, one in enumerate(batches):
        scalars.append(training.step(one.parts(parts), engine))
    return scalars


def test_it_is_a_registered_training() -> None:
    assert TRAININGS.get("ivrnn") is IVRNNTraining
    assert training_fault(IVRNNTraining) == ""


@pytest.mark.parametrize(
    "variant", [variant if variant == "flat" else pytest.param(variant, marks=pytest.mark.slow) for variant in VARIANTS]
)
def test_a_step_moves_every_parameter(variant: Variant) -> None:
    training = IVRNNTraining(config(variant), seed=0)
    before = [parameter.detach().clone() for parameter in training.network.parameters()]
    (scalars,) = stepped(training, [batch()])
    levels = len(training.config.latents)
    assert list(scalars) == [
        "loss",
        "reconstruction",
        "divergence",
        *(f"divergence_{i}" for i in range(levels)),
        "beta",
    ]
    assert all(value.ndim == 0 and not value.requires_grad for value in scalars.values())
    assert float(scalars["loss"]) == pytest.approx(float(scalars["reconstruction"] + scalars["divergence"]))
    assert 0.1 < float(scalars["reconstruction"]) / batch().future[0].numel() < 0.6
    # At first a zero weight stands between the heads of prior and posterior and all that is below: decay moves those.
    assert all(not torch.equal(a, b) for a, b in zip(before, training.network.parameters(), strict=True) if a.any())


def test_the_same_seed_gives_the_same_weights_and_touches_no_other_random_state() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (IVRNNTraining(config(), seed).network.state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["encoder.stem.weight"], other["encoder.stem.weight"])


def test_a_step_depends_on_nothing_but_state_batch_and_iteration() -> None:
    found = []
    for noise in (0, 1):
        torch.manual_seed(noise)
        training = IVRNNTraining(config(), seed=0)
        stepped(training, [batch()])
        found.append(training.network.state_dict())
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_a_restored_training_goes_on_as_if_it_had_not_stopped() -> None:
    settings = config(beta_warmup=3, ramp_steps=3)
    whole, first, second = (IVRNNTraining(settings, seed=seed) for seed in (0, 0, 5))
    batches = [batch(seed=seed) for seed in range(2)]
    stepped(whole, batches)
    stepped(first, batches[:1])
    second.network.load_state_dict(first.network.state_dict())
    second.optimizers["predictor"].load_state_dict(first.optimizers["predictor"].state_dict())
    engine = PlainEngine(second.optimizers)
    engine.iteration = 1
    second.step(batches[1].parts(1), engine)
    for key, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[key])


def test_the_gradient_does_not_depend_on_the_parts() -> None:
    gradients = []
    for parts in (1, 2):
        training = IVRNNTraining(config(), seed=0)
        training.network.double()
        one = batch(clips=4)
        one = TrainingBatch(one.frames.double(), 2, one.clip_ids, seed=0, total=4)
        stepped(training, [one], parts)
        gradients.append([p.grad for p in training.network.parameters()])
    for whole, cut in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, cut, rtol=1e-9, atol=1e-9)


def test_noise_is_that_of_the_clip_wherever_it_stands() -> None:
    training, one = IVRNNTraining(config(), seed=0), batch()
    swapped = TrainingBatch(one.frames.flip(0), 2, one.clip_ids[::-1], seed=0)
    assert float(training.terms(one)["divergence"].detach()) == pytest.approx(
        float(training.terms(swapped)["divergence"].detach()), rel=1e-5
    )
    other = TrainingBatch(one.frames, 2, one.clip_ids, seed=1)
    training.network.prior[0].head_norm.bias.data.fill_(1)
    assert float(training.terms(one)["divergence"].detach()) != float(training.terms(other)["divergence"].detach())


def test_schedules_reach_the_step() -> None:
    training = IVRNNTraining(config(beta=2.0, beta_warmup=4, learning_rate=1e-3, ramp_steps=2), seed=0)
    scalars = stepped(training, [batch(), batch()])
    assert [float(found["beta"]) for found in scalars] == [0.5, 1.0]
    assert training.optimizers["predictor"].param_groups[0]["lr"] == pytest.approx(1e-3 * (1 + 0.5 * (2 / 16 - 1)))


def test_the_optimiser_is_the_released_one() -> None:
    options = IVRNNTraining(config(), seed=0).optimizers["predictor"].defaults
    assert {key: options[key] for key in ("lr", "betas", "eps", "weight_decay", "amsgrad")} == {
        "lr": 1e-4,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 1e-4,
        "amsgrad": False,
    }


@pytest.mark.parametrize("kind", ["l1", "bce"])
def test_under_mixed_precision_the_losses_stay_in_float32(kind: str) -> None:
    training = IVRNNTraining(config("dense-prior", reconstruction=kind), seed=0)
    full = training.terms(batch())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = training.terms(batch())
    assert all(term.dtype == torch.float32 for term in mixed.values())
    assert float(mixed["reconstruction"]) == pytest.approx(float(full["reconstruction"]), rel=0.01)


def test_it_learns_a_clip() -> None:
    training = IVRNNTraining(config("flat", learning_rate=1e-2, beta=0.01), seed=0)
    ramp = torch.linspace(0.1, 0.9, 64).expand(3, 64, 64)
    frames = torch.stack([ramp.roll(4 * t, dims=2) for t in range(3)])[None]
    scalars = stepped(training, [TrainingBatch(frames, 2, ("a",), seed=seed, total=1) for seed in range(12)])
    assert float(scalars[-1]["reconstruction"]) < 0.5 * float(scalars[0]["reconstruction"])


def test_clips_that_do_not_fit_are_refused() -> None:
    training = IVRNNTraining(config(), seed=0)
    training.check(64, 2, 10)
    with pytest.raises(MethodError, match="64 px, found 128"):
        training.check(128, 2, 10)
    with pytest.raises(MethodError, match=r"expected 2 context frames.*found 1"):
        training.check(64, 1, 10)
    with pytest.raises(MethodError, match="horizon"):
        training.check(64, 2, 0)


def test_its_method_shares_the_networks() -> None:
    training = IVRNNTraining(config(), seed=0)
    method = training.method()
    shown = Conditioning(batch().frames[:, :2], ("a", "b"), horizon=1)
    before = method.predict(shown, 1, 0)
    stepped(training, [batch()])
    assert not torch.equal(before, method.predict(shown, 1, 0))
    assert method.card.name == "ivrnn-tiny"
