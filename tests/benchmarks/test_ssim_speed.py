"""Speed of SSIM beside a loop over scikit-image, in one run."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from peers.clips import noise
from peers.timing import interleaved, report
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from metrics.ssim import SSIM, ssim

FLOOR = 5.0
"""Times faster than the scikit-image loop at 64 px, with two threads, for `ssim` itself."""

CLIPS, FRAMES = 32, 10
EVERY = 16
"""The peer scores every sixteenth frame, and counts as if it had scored all."""


def videos(side: int) -> tuple[Tensor, Tensor]:
    return noise(0, CLIPS, FRAMES, side, side), noise(1, CLIPS, FRAMES, side, side)


@cache
def figures(side: int) -> dict[str, float]:
    """Frames a second and ratios; "reference_ratio" is that of `SSIM.score` with the target prepared."""
    from skimage.metrics import structural_similarity

    pred, target = videos(side)
    metric = SSIM()
    reference = metric.reference(target)
    # The peer gets the layout and precision that it wants for nothing.
    frames = [v.double().flatten(0, 1).permute(0, 2, 3, 1).contiguous().numpy()[::EVERY] for v in (pred, target)]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": -1}

    def peer() -> list[float]:
        return [structural_similarity(p, t, data_range=1, **options) for p, t in zip(*frames, strict=True)]

    assert np.abs(ssim(pred, target).flatten().numpy()[::EVERY] - peer()).max() < 1e-12
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        times = interleaved(
            {"ours": lambda: ssim(pred, target), "score": lambda: metric.score(pred, reference), "peer": peer},
            rounds=20,
        )
        times["peer"] = type(times["peer"])(*(EVERY * t for t in times["peer"]))
        found = report(f"SSIM {side} px", times, CLIPS * FRAMES, "frames")
    finally:
        torch.set_num_threads(threads)
    found["reference_ratio"] = times["peer"].wall / times["score"].wall
    print(f"with the target prepared: {found['reference_ratio']:.4g}")
    return found


@pytest.mark.benchmark
@pytest.mark.parametrize("side", [64, 128])
def test_ssim_beside_scikit_image(benchmark: BenchmarkFixture, side: int) -> None:
    benchmark.extra_info.update(figures(side))
    benchmark.pedantic(ssim, videos(side), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark
def test_ssim_64_px_ratio() -> None:
    """Fails when `ssim` is less than five times as fast as the scikit-image loop at 64 px."""
    assert figures(64)["ratio"] >= FLOOR
