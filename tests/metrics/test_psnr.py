"""PSNR against scikit-image, by hand, and its rule for identical frames."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peers.clips import closed_form_pair, noise

from metrics import psnr
from metrics.base import METRICS, FrameMetric
from metrics.psnr import PSNR, PSNR_CAP, capped, mean_psnr

PUBLISHED = [
    27.426096,
    25.999986,
    24.782472,
    23.720064,
    22.778118,
    21.932740,
    21.166967,
    20.467077,
    19.821602,
    19.222342,
]
"""scikit-image's values for the closed-form pair."""


def test_closed_form_pair_has_its_published_values() -> None:
    values = psnr(*closed_form_pair())
    assert values.dtype == torch.float64
    assert values[0].tolist() == pytest.approx(PUBLISHED, abs=1e-6)
    assert mean_psnr(values) == pytest.approx(22.731746, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_scikit_image(dtype: torch.dtype) -> None:
    from skimage.metrics import peak_signal_noise_ratio

    pred, target = noise(1, 2, 3, 17, 23).to(dtype), noise(2, 2, 3, 17, 23).to(dtype)
    values = psnr(pred, target)
    for b in range(2):
        for t in range(3):
            expected = peak_signal_noise_ratio(target[b, t].double().numpy(), pred[b, t].double().numpy(), data_range=1)
            assert float(values[b, t]) == pytest.approx(expected, abs=1e-10)


def test_by_hand() -> None:
    black = torch.zeros(1, 3, 3, 4, 4)
    pred = black.clone()
    pred[0, 0] = 0.1  # MSE 0.01
    pred[0, 1] = 1  # MSE 1
    pred[0, 2, 0, 0, 0] = 1  # one of 48 values: MSE 1/48
    assert psnr(pred, black)[0].tolist() == pytest.approx([20, 0, 10 * math.log10(48)], abs=1e-6)


def test_identical_frames_are_infinite_and_count_at_the_cap() -> None:
    video = noise(3, 2, 2, 8, 8)
    assert torch.isposinf(psnr(video, video)).all()
    assert mean_psnr(psnr(video, video)) == PSNR_CAP == 100
    values = torch.tensor([[math.inf, 20.0, 130.0]], dtype=torch.float64)
    assert capped(values).tolist() == [[100, 20, 100]]
    assert mean_psnr(values) == pytest.approx(220 / 3)
    assert torch.isposinf(values[0, 0]), "the rows themselves keep +inf"


def test_is_symmetric() -> None:
    a, b = noise(4, 2, 3, 8, 8), noise(5, 2, 3, 8, 8)
    assert torch.equal(psnr(a, b), psnr(b, a))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
def test_shape_range_and_direction(b: int, t: int, h: int, w: int, seed: int) -> None:
    target = noise(seed, b, t, h, w)
    other = noise(seed + 1, b, t, h, w)
    near, far = (torch.lerp(target, other, weight) for weight in (0.25, 0.5))
    values = psnr(far, target)
    assert values.shape == (b, t)
    assert (values >= 0).all(), "the squared error of values in [0, 1] is at most 1"
    assert (psnr(near, target) > values).all() == PSNR.card.higher_is_better
    assert psnr(near, target) - values == pytest.approx(np.full((b, t), 20 * math.log10(2)), abs=1e-3)


def test_clips_do_not_influence_each_other() -> None:
    a, b = noise(6, 4, 3, 16, 16), noise(7, 4, 3, 16, 16)
    assert torch.equal(psnr(a, b), torch.cat([psnr(a[i : i + 1], b[i : i + 1]) for i in range(4)]))


def test_the_class_gives_the_function_with_one_reference_for_many_predictions() -> None:
    metric = METRICS.get("psnr")(device="cpu", mode="exact")
    assert isinstance(metric, FrameMetric)
    target = noise(8, 2, 3, 16, 16)
    reference = metric.reference(target)
    for seed in (9, 10):
        pred = noise(seed, 2, 3, 16, 16)
        assert torch.equal(metric.score(pred, reference), psnr(pred, target))


@pytest.mark.gpu
def test_a_gpu_gives_the_same_values() -> None:
    pred, target = noise(16, 3, 4, 40, 56), noise(17, 3, 4, 40, 56)
    found = psnr(pred.cuda(), target.cuda())
    assert found.is_cuda
    assert found.cpu().numpy() == pytest.approx(psnr(pred, target).numpy(), abs=1e-11)
