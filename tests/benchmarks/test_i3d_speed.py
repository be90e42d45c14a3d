"""Speed of exact I3D logits on the CPU, against a plain float32 port."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from peers.clips import noise
from peers.plain_i3d import PlainI3D
from peers.timing import interleaved, report
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from torch.nn import functional as F

from metrics.features.i3d import i3d_logits
from metrics.weights import weights

pytestmark = pytest.mark.benchmark

CLIPS, FRAMES = 8, 10
ROUNDS = 3
FLOOR = 2.5
"""Smallest ratio of the peer's time to ours."""


class Measured(NamedTuple):
    ours: Callable[[], Tensor]
    figures: dict[str, float]


@pytest.fixture(scope="module")
def network() -> PlainI3D:
    return PlainI3D(weights("i3d-kinetics-400"))


@pytest.fixture(scope="module", params=[64, 224])
def measured(request: pytest.FixtureRequest, network: PlainI3D) -> Measured:
    side = request.param
    video = noise(side, CLIPS, FRAMES, side, side)

    def peer() -> Tensor:
        frames = video.flatten(0, 1)
        if side != 224:  # TensorFlow 1's grid: one row and column more, corners aligned
            frames = F.interpolate(
                F.pad(frames, (0, 1, 0, 1), mode="replicate"), (225, 225), mode="bilinear", align_corners=True
            )[..., :-1, :-1]
        return network((frames * 2 - 1).unflatten(0, (CLIPS, FRAMES)).transpose(1, 2).contiguous())

    def ours() -> Tensor:
        return i3d_logits(video)

    with torch.no_grad():
        torch.testing.assert_close(ours(), peer(), atol=2e-4, rtol=0)
        times = interleaved({"ours": ours, "peer": peer}, ROUNDS)
    return Measured(ours, report(f"I3D, {CLIPS} clips of {FRAMES} frames, {side} px", times, CLIPS, "clips", peer))


def test_i3d_logits(benchmark: BenchmarkFixture, measured: Measured) -> None:
    benchmark.extra_info.update(measured.figures)
    assert benchmark.pedantic(measured.ours, rounds=3).shape == (CLIPS, 400)


def test_i3d_ratio(measured: Measured) -> None:
    assert measured.figures["ratio"] >= FLOOR
