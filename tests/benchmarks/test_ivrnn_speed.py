"""Speed of IVRNN's incremental sampler beside the authors' procedure, in one run."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from peers.timing import interleaved, report
from pytest_benchmark.fixture import BenchmarkFixture

from methods.interface import Conditioning
from methods.ivrnn.adapter import IVRNN, Sampler
from methods.ivrnn.objective import IVRNNTraining

FLOOR = 5.0
"""Times faster than the authors' procedure for 10 frames, of the small size, with one thread."""

CLIPS, SAMPLES, HORIZON = 2, 2, 10


def methods() -> dict[Sampler, IVRNN]:
    training = IVRNNTraining(IVRNNTraining.recipes["small"].model, seed=0)
    samplers: tuple[Sampler, ...] = ("incremental", "released")
    return {sampler: IVRNN.sharing(training.network, sampler) for sampler in samplers}


def shown() -> Conditioning:
    frames = torch.rand(CLIPS, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return Conditioning(frames, [f"clip{row}" for row in range(CLIPS)], HORIZON)


@cache
def figures() -> dict[str, float]:
    built, conditioning = methods(), shown()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = interleaved(
            {
                "ours": lambda: built["incremental"].predict(conditioning, SAMPLES, 0),
                "peer": lambda: built["released"].predict(conditioning, SAMPLES, 0),
            },
            rounds=2,
        )
        return report("IVRNN small, 10 frames", times, CLIPS * SAMPLES * HORIZON, "frames")
    finally:
        torch.set_num_threads(threads)


@pytest.mark.benchmark
def test_ivrnn_incremental_sampler(benchmark: BenchmarkFixture) -> None:
    benchmark.extra_info.update(figures())
    benchmark.pedantic(methods()["incremental"].predict, (shown(), SAMPLES, 0), rounds=3, warmup_rounds=1)


@pytest.mark.benchmark
def test_ivrnn_incremental_sampler_ratio() -> None:
    """Fails when the incremental sampler is less than five times as fast as the authors' procedure for 10 frames."""
    assert figures()["ratio"] >= FLOOR
