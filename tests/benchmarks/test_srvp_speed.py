"""Speed of SRVP on the CPU: many samples that share the encoding of their context, against one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from peers.clips import noise
from peers.srvp_tiny import naive_prediction
from peers.timing import interleaved, report
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from methods.interface import Conditioning
from methods.srvp.adapter import SRVP
from methods.srvp.config import RECIPES
from methods.srvp.objective import SRVPTraining

pytestmark = pytest.mark.benchmark

SAMPLES, CONTEXT, HORIZON = 100, 2, 10
ROUNDS = 2
FLOORS = {"small": 1.5, "small-dcgan": 1.2}
"""Smallest ratio of the peer's time to ours, a recipe."""


class Measured(NamedTuple):
    ours: Callable[[], Tensor]
    figures: dict[str, float]


def measure(recipe: str) -> Measured:
    network = SRVPTraining(RECIPES[recipe].model, seed=0).network.eval()
    method = SRVP.sharing(network)
    given = Conditioning(noise(1, 1, CONTEXT, 64, 64), ["clip"], HORIZON)

    def ours() -> Tensor:
        return method.predict(given, SAMPLES, seed=0)

    def peer() -> Tensor:
        return naive_prediction(network, given, SAMPLES, seed=0)

    with torch.no_grad():
        torch.testing.assert_close(ours(), peer(), atol=1e-5, rtol=0)
        times = interleaved({"ours": ours, "peer": peer}, ROUNDS)
    return Measured(ours, report(f"SRVP ({recipe}), {SAMPLES} samples of a clip", times, SAMPLES, "samples"))


@pytest.fixture(scope="module", params=FLOORS)
def measured(request: pytest.FixtureRequest) -> tuple[str, Measured]:
    return request.param, measure(request.param)


def test_srvp_samples(benchmark: BenchmarkFixture, measured: tuple[str, Measured]) -> None:
    benchmark.extra_info.update(measured[1].figures)
    assert benchmark.pedantic(measured[1].ours, rounds=1).shape == (1, SAMPLES, HORIZON, 3, 64, 64)


def test_srvp_samples_ratio(measured: tuple[str, Measured]) -> None:
    recipe, found = measured
    assert found.figures["ratio"] >= FLOORS[recipe]
