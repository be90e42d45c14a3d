"""With `recompute` a step takes less memory and moves everything alike: losses, gradients, statistics, vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
import torch
from peers.engine import PlainEngine
from peers.live_memory import peak_bytes
from torch import Tensor, nn

from bench.training.plan import make_plan
from methods.hao.config import HaoConfig
from methods.ivrnn.config import IVRNNConfig
from methods.layers import BatchNorm
from methods.recompute import light
from methods.savp.config import RECIPES as SAVP_RECIPES
from methods.srvp.config import SRVPConfig
from methods.training import TRAININGS, TrainingBatch

CONTEXT, HORIZON = 2, 3
NARROW = {"generator_width": 4, "encoder_width": 4, "discriminator_width": 4, "clip_length": 4}


def savp(recipe: str) -> dict[str, Any]:
    return {**SAVP_RECIPES[recipe].model.model_dump(), **NARROW}


SRVP = {"filters": 4, "code": 8, "state": 3, "noise": 4, "inference_width": 6, "residual_width": 9}
IVRNN = {"widths": (4, 4, 4, 4, 4, 8), "groups": 4, "block_groups": 1, "top_latent": 4}
CASES: dict[str, tuple[str, dict[str, Any], float]] = {
    "hao": ("hao", HaoConfig(size=64, width=4).model_dump(), 0.75),
    "hao without norms": ("hao", HaoConfig(size=64, width=4, batch_norm=False).model_dump(), 0.85),
    "srvp vgg": ("srvp", SRVPConfig(**SRVP).model_dump(), 0.6),
    "srvp dcgan": ("srvp", SRVPConfig(architecture="dcgan", skips=False, **{**SRVP, "filters": 16}).model_dump(), 0.85),
    "ivrnn": ("ivrnn", IVRNNConfig(**IVRNN).model_dump(), 0.5),
    "ivrnn dense-prior": ("ivrnn", IVRNNConfig(variant="dense-prior", **IVRNN).model_dump(), 0.5),
    "savp": ("savp", savp("small"), 0.6),
    "savp gan-only": ("savp", savp("small-gan-only"), 0.6),
    "savp deterministic": ("savp", savp("small-deterministic"), 0.6),
}
"""Method, configuration, and the largest share of the peak memory that is left."""
SLOW = {"hao without norms", "ivrnn dense-prior", "savp gan-only"}


class Stepped(NamedTuple):
    """What a step gave, and the most bytes that it held at one time."""

    losses: Mapping[str, Tensor]
    gradients: Mapping[str, list[Tensor | None]]
    state: Mapping[str, Tensor]
    peak: int


def batch(type: torch.dtype, clips: int) -> TrainingBatch:
    generator = torch.Generator().manual_seed(1)
    frames = torch.rand(clips, CONTEXT + HORIZON, 3, 64, 64, generator=generator, dtype=type)
    tracks = torch.rand(clips, 5, HORIZON + 1, 2, generator=generator) * 60
    ids = tuple(f"clip-{row}" for row in range(clips))
    return TrainingBatch(frames, CONTEXT, ids, seed=3, tracks=tracks.to(type), total=clips)


def stepped(method: str, fields: dict[str, Any], recompute: bool, type: torch.dtype = torch.float64) -> Stepped:
    kind: Any = TRAININGS.get(method)
    training = kind(kind.Config(**{**fields, "recompute": recompute}), seed=0)
    for network in training.networks.values():
        network.to(type)
    training.optimizers = {  # has no memory of its own
        name: torch.optim.SGD(optimizer.param_groups[0]["params"], lr=0.1)
        for name, optimizer in training.optimizers.items()
    }
    engine, part = PlainEngine(training.optimizers, steps=100), batch(type, 1 if method == "ivrnn" else 2)
    losses: dict[str, Tensor] = {}
    peak = peak_bytes(lambda: losses.update(training.step([part], engine)))
    states = (network.state_dict() for network in training.networks.values())
    return Stepped(losses, engine.gradients, {key: value for state in states for key, value in state.items()}, peak)


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow) if case in SLOW else case for case in CASES]
)
def test_a_step_takes_less_memory_and_moves_everything_alike(case: str) -> None:
    method, fields, share = CASES[case]
    plain, again = (stepped(method, fields, recompute) for recompute in (False, True))
    print(f"{case}: {again.peak / plain.peak:.2f} of {plain.peak / 2**20:.0f} MiB")
    assert again.peak < share * plain.peak
    assert plain.losses.keys() == again.losses.keys()
    for name, value in plain.losses.items():
        torch.testing.assert_close(again.losses[name], value, rtol=1e-12, atol=0)
    for name, gradients in plain.gradients.items():
        largest = max(float(gradient.abs().max()) for gradient in gradients if gradient is not None)
        for found, wanted in zip(again.gradients[name], gradients, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12 * largest)
    for key, value in plain.state.items():
        if key.endswith(("running_mean", "running_var", "num_batches_tracked", ".u")):
            torch.testing.assert_close(again.state[key], value, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["hao", "srvp vgg", "ivrnn", "savp"])
def test_a_step_in_mixed_precision(case: str) -> None:
    method, fields, _ = CASES[case]
    with torch.autocast("cpu", torch.bfloat16):
        plain, again = (stepped(method, fields, recompute, torch.float32) for recompute in (False, True))
    for name, value in plain.losses.items():
        torch.testing.assert_close(again.losses[name], value, rtol=1e-3, atol=1e-4)
    for name, gradients in plain.gradients.items():
        assert [g is None for g in gradients] == [g is None for g in again.gradients[name]]


def test_statistics_move_the_first_time_alone() -> None:
    plain, again = (nn.Sequential(nn.Conv2d(3, 4, 3), BatchNorm(4), nn.ReLU()) for _ in range(2))
    again.load_state_dict(plain.state_dict())
    images = torch.rand(5, 3, 8, 8)
    for network, recompute in ((plain, False), (again, True)):
        for _ in range(2):
            light(network, images, recompute=recompute).square().sum().backward()
    assert int(again[1].num_batches_tracked) == 2
    for one, other in zip(plain.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(plain.parameters(), again.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


@pytest.mark.parametrize("method", ["hao", "srvp", "ivrnn", "savp"])
def test_plans_name_it_only_where_it_is_on(method: str) -> None:
    plain, again = make_plan(method), make_plan(method, pairs=["model.recompute=true"])
    assert "recompute" not in plain.model
    assert again.config().recompute
    assert not plain.config().recompute
    assert plain.identity == make_plan(method, pairs=["model.recompute=false"]).identity != again.identity
    assert again.command == f"{plain.command} --set model.recompute=true"
