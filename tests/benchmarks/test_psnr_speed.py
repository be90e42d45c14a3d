"""Speed of PSNR beside a loop over scikit-image, in one run."""

from __future__ import annotations

import numpy as np
import pytest
from peers.clips import noise
from peers.timing import interleaved, report
from pytest_benchmark.fixture import BenchmarkFixture

from metrics.psnr import psnr

CLIPS, FRAMES = 8, 10


@pytest.mark.benchmark
@pytest.mark.parametrize("side", [64, 128])
def test_psnr_beside_scikit_image(benchmark: BenchmarkFixture, side: int) -> None:
    from skimage.metrics import peak_signal_noise_ratio

    pred, target = noise(0, CLIPS, FRAMES, side, side), noise(1, CLIPS, FRAMES, side, side)
    # The peer gets the precision in which its values are exact for nothing.
    frames = [v.double().flatten(0, 1).numpy() for v in (pred, target)]

    def peer() -> list[float]:
        return [peak_signal_noise_ratio(t, p, data_range=1) for p, t in zip(*frames, strict=True)]

    assert np.abs(psnr(pred, target).flatten().numpy() - peer()).max() < 1e-10
    times = interleaved({"ours": lambda: psnr(pred, target), "peer": peer}, rounds=30)
    benchmark.extra_info.update(report(f"PSNR {side} px", times, CLIPS * FRAMES, "frames"))
    benchmark.pedantic(psnr, (pred, target), rounds=10, warmup_rounds=1)
