"""Speed of LPIPS on the CPU with four predictions a reference, against the `lpips` package, one pair a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from peers.clips import noise
from peers.official_lpips import official_lpips
from peers.timing import Timing, interleaved, report
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from metrics.features.lpips_trunks import Net
from metrics.lpips import LPIPSVGG, LPIPSAlex

pytestmark = pytest.mark.benchmark

SIDE, FRAMES, PREDICTIONS = 64, 10, 4
CLIPS: dict[Net, int] = {"alex": 32, "vgg": 4}
EVERY: dict[Net, int] = {"alex": 16, "vgg": 4}
"""The peer scores one frame of so many, and counts as if it had scored all."""
ROUNDS = 3
FLOOR = 7.0
"""Smallest ratio of the peer's time to ours, with AlexNet."""


class Measured(NamedTuple):
    ours: Callable[[], Tensor]
    figures: dict[str, float]


def measure(net: Net) -> Measured:
    clips = CLIPS[net]
    target = noise(1, clips, FRAMES, SIDE, SIDE)
    preds = [noise(2 + sample, clips, FRAMES, SIDE, SIDE) for sample in range(PREDICTIONS)]
    metric = LPIPSAlex() if net == "alex" else LPIPSVGG()
    official = official_lpips(net)

    def ours() -> Tensor:
        reference = metric.reference(target)
        return torch.stack([metric.score(pred, reference) for pred in preds])

    def peer(every: int = EVERY[net]) -> Tensor:
        frames = target.flatten(0, 1)[::every]
        values = [
            official(frame[None], known[None], normalize=True).flatten()
            for pred in preds
            for frame, known in zip(pred.flatten(0, 1)[::every], frames, strict=True)
        ]
        return torch.cat(values).view(PREDICTIONS, -1)

    def plain() -> Tensor:
        """The peer on every frame: the arithmetic of the plain form, as much as our time is for."""
        return peer(1)

    with torch.no_grad():
        torch.testing.assert_close(ours().float().flatten(1)[:, :: EVERY[net]], peer(), atol=1e-5, rtol=0)
        times = interleaved({"ours": ours, "peer": peer}, ROUNDS)
    times["peer"] = Timing(*(EVERY[net] * seconds for seconds in times["peer"]))
    pairs = PREDICTIONS * clips * FRAMES
    title = f"LPIPS ({net}), {SIDE} px, {PREDICTIONS} predictions a reference"
    return Measured(ours, report(title, times, pairs, "pairs", plain))


@pytest.fixture(scope="module")
def alex() -> Measured:
    return measure("alex")


def test_lpips_alex(benchmark: BenchmarkFixture, alex: Measured) -> None:
    benchmark.extra_info.update(alex.figures)
    assert benchmark.pedantic(alex.ours, rounds=3).shape == (PREDICTIONS, CLIPS["alex"], FRAMES)


def test_lpips_alex_ratio(alex: Measured) -> None:
    assert alex.figures["ratio"] >= FLOOR


def test_lpips_vgg(benchmark: BenchmarkFixture) -> None:
    vgg = measure("vgg")
    benchmark.extra_info.update(vgg.figures)
    assert benchmark.pedantic(vgg.ours, rounds=3).shape == (PREDICTIONS, CLIPS["vgg"], FRAMES)
