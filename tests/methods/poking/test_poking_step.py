"""A training step against one in the form of the authors' program, and in parts against in one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peers.engine import PlainEngine
from peers.poking_clips import batch, classifier, training
from peers.poking_released import Features, ReleasedStep

from methods import convolution
from methods.perceptual import Net
from methods.poking.discriminators import TemporalDiscriminator
from methods.poking.objective import PokingTraining
from methods.poking.poke_map import poke_map
from methods.training import TrainingBatch

pytestmark = pytest.mark.usefixtures("narrow")

LOSSES = 1e-7
"""Relative."""
GRADIENTS, AGAINST_MOVED = 1e-10, 1e-6
"""Relative to the largest one; the second for gradients through a discriminator that has moved. There the spectral
norms of the released program iterate between two passes, and ours before both."""


def draws(made: PokingTraining, part: TrainingBatch, tag: str) -> list[int]:
    """Which frames the patch discriminator sees: clip * T + frame."""
    everything = part.total * part.future.shape[1]
    count = made.config.patch_frames
    return torch.randint(everything, (count,), generator=part.common_generator(tag)).tolist()


def released(made: PokingTraining, net: Net) -> ReleasedStep:
    """The other program with the same weights."""
    states = [made.networks[name].state_dict() if made.config.gan else None for name in ("patch", "temporal")]
    return ReleasedStep(made.network.state_dict(), Features(net, classifier(net, shrink=8)), *states)


def named(made: PokingTraining, engine: PlainEngine, name: str) -> dict[str, torch.Tensor]:
    """Gradients of the last step of an optimiser, by key of the checkpoint."""
    keys = {id(p): key for network in made.networks.values() for key, p in network.named_parameters()}
    parameters = [p for group in made.optimizers[name].param_groups for p in group["params"]]
    found = zip(parameters, engine.gradients[name], strict=True)
    return {keys[id(p)]: torch.zeros_like(p) if gradient is None else gradient for p, gradient in found}


@pytest.mark.parametrize(
    ("gan", "net", "transforms"), [(False, "vgg19", False), (True, "vgg16", False), (True, "vgg19", True)]
)
def test_a_step_computes_what_the_released_program_computes(
    gan: bool, net: Net, transforms: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if transforms:  # for convolutions as narrow as these too
        for name in ("CHANNELS", "TILES", "TILES_AT_ONCE"):
            monkeypatch.setattr(convolution, name, 1)
    made = training(gan=gan, perceptual=net)
    part = batch()
    assert part.poke is not None
    peer = released(made, net)
    engine = PlainEngine(made.optimizers)
    found = made.step([part], engine)
    drawn = (draws(made, part, "real frames"), draws(made, part, "fake frames")) if gan else ()
    poke = poke_map(part.poke.location, part.poke.displacement, 32)
    wanted = peer(part.frames * 2 - 1, poke, *drawn)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert float(found[name]) == pytest.approx(value, rel=LOSSES, abs=1e-12), name
    assert engine.order == list(peer.gradients)
    for optimizer, gradients in peer.gradients.items():
        ours = named(made, engine, optimizer)
        assert ours.keys() == gradients.keys()
        scale = max(float(gradient.abs().max()) for gradient in gradients.values())
        tolerance = AGAINST_MOVED if gan and optimizer == "dynamics" else GRADIENTS
        for key, gradient in gradients.items():
            torch.testing.assert_close(ours[key], gradient, rtol=0, atol=tolerance * scale, msg=f"{optimizer} {key}")


def test_spectral_norms_iterate_as_often_as_in_the_released_program(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    monkeypatch.setattr(TemporalDiscriminator, "advance", lambda network, count=1: counts.append(count))
    made = training(dtype=torch.float32)
    made.step(batch(clips=2, dtype=torch.float32).parts(2), PlainEngine(made.optimizers, parts=2))
    assert counts == [2, 2]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gan": False, "perceptual_frames": 2},
        {"stages_of_training": "single", "gan": False, "form": "paper"},
    ],
)
def test_two_parts_are_one(changes: dict[str, Any]) -> None:
    # The first step of Adam moves by the sign of a gradient, so rounding could turn it; at this rate it hardly moves.
    # Norms and absolute differences amplify rounding too: gradients are compared within 0.5 % of the largest.
    whole, halves = (training(dtype=torch.float32, learning_rate=1e-9, **changes) for _ in range(2))
    part = batch(clips=4, horizon=3, dtype=torch.float32)
    one, two = PlainEngine(whole.optimizers), PlainEngine(halves.optimizers, parts=2)
    together, apart = whole.step([part], one), halves.step(part.parts(2), two)
    assert together.keys() == apart.keys()
    for name, value in together.items():
        assert float(apart[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-5), name
    for name in one.gradients:
        gradients = named(whole, one, name)
        scale = max(float(gradient.abs().max()) for gradient in gradients.values())
        for key, gradient in named(halves, two, name).items():
            torch.testing.assert_close(gradient, gradients[key], rtol=0, atol=5e-3 * scale, msg=f"{name} {key}")


def test_a_part_that_no_draw_falls_into_has_a_loss_of_zero() -> None:
    made = training(patch_frames=1)
    part = batch(clips=4, horizon=3)
    assert made.adversary is not None
    drawn = torch.randint(12, (1,), generator=part.common_generator("real frames"))
    weights = [float(made.adversary._draws(one, "real frames")[1].sum()) for one in part.parts(4)]
    assert weights == [4.0 if row == int(drawn) // 3 else 0.0 for row in range(4)]
