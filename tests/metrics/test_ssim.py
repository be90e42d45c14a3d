"""SSIM against scikit-image, by hand, and the properties of the index."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peers.clips import closed_form_pair, noise
from torch import Tensor

from metrics import ssim
from metrics.base import METRICS, FrameMetric
from metrics.ssim import C1, C2, SSIM, WANG

PUBLISHED = [0.931927, 0.914019, 0.896474, 0.879666, 0.863814, 0.848655, 0.833855, 0.819516, 0.805808, 0.792640]
"""scikit-image's values for the closed-form pair."""


def scikit(pred: Tensor, target: Tensor) -> np.ndarray:
    from skimage.metrics import structural_similarity

    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    pairs = zip(*(video.double().flatten(0, 1).permute(0, 2, 3, 1).numpy() for video in (pred, target)), strict=True)
    values = [structural_similarity(p, t, channel_axis=-1, data_range=1, **options) for p, t in pairs]
    return np.reshape(values, pred.shape[:2])


def test_closed_form_pair_has_its_published_values() -> None:
    values = ssim(*closed_form_pair())
    assert values.dtype == torch.float64
    assert values[0].tolist() == pytest.approx(PUBLISHED, abs=1e-6)
    assert float(values.mean()) == pytest.approx(0.85863725, abs=1e-8)


@pytest.mark.parametrize("size", [(11, 11), (11, 40), (33, 12), (64, 64), (72, 96), (45, 128)])
def test_equals_scikit_image(size: tuple[int, int]) -> None:
    pred, target = noise(1, 2, 3, *size), noise(2, 2, 3, *size)
    pred = torch.lerp(target, pred, 0.3)
    assert ssim(pred, target).numpy() == pytest.approx(scikit(pred, target), abs=1e-12)


def test_equals_scikit_image_on_nearly_flat_bright_frames() -> None:
    """Where float32 loses the small variance beside the large mean."""
    target = 0.97 + 0.01 * noise(3, 1, 4, 40, 40)
    pred = 0.97 + 0.01 * noise(4, 1, 4, 40, 40)
    assert ssim(pred, target).numpy() == pytest.approx(scikit(pred, target), abs=1e-12)


def test_by_hand() -> None:
    """Constant frames have no variance; a single window position is one formula."""
    black, grey, white = (torch.full((1, 1, 3, 11, 11), v, dtype=torch.float64) for v in (0.0, 0.5, 1.0))
    assert float(ssim(black, white)) == pytest.approx(C1 / (1 + C1), abs=1e-15)
    assert float(ssim(black, white)) == pytest.approx(9.999e-5, abs=1e-9)
    assert float(ssim(grey, white)) == pytest.approx((2 * 0.5 + C1) / (0.25 + 1 + C1), abs=1e-12)

    pred, target = (noise(seed, 1, 1, 11, 11).double() for seed in (5, 6))
    weights = torch.outer(*[torch.tensor(WANG.weights, dtype=torch.float64)] * 2)
    mx, my, xx, yy, xy = ((weights * m).sum((-1, -2)) for m in (pred, target, pred**2, target**2, pred * target))
    expected = (2 * mx * my + C1) * (2 * (xy - mx * my) + C2)
    expected /= (mx**2 + my**2 + C1) * (xx - mx**2 + yy - my**2 + C2)
    assert float(ssim(pred, target)) == pytest.approx(float(expected.mean()), abs=1e-12)


def test_the_window_is_the_papers() -> None:
    weights = np.array(WANG.weights)
    assert weights.sum() == pytest.approx(1, abs=1e-15)
    assert weights / weights[5] == pytest.approx(np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2)), abs=1e-15)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(11, 40), st.integers(11, 40), st.integers(0, 99))
def test_shape_range_identity_symmetry_and_direction(b: int, t: int, h: int, w: int, seed: int) -> None:
    target, other = noise(seed, b, t, h, w), noise(seed + 1, b, t, h, w)
    near, far = (torch.lerp(target, other, weight) for weight in (0.2, 0.7))
    values = ssim(far, target)
    assert values.shape == (b, t)
    assert (values.abs() <= 1).all()
    assert ssim(target, target).numpy() == pytest.approx(np.ones((b, t)), abs=1e-12)
    assert ssim(target, far).numpy() == pytest.approx(values.numpy(), abs=1e-12)
    assert (ssim(near, target) > values).all() == SSIM.card.higher_is_better


def test_inverted_frames_are_below_zero() -> None:
    video = noise(7, 1, 2, 24, 24)
    assert (ssim(1 - video, video) < 0).all()


@pytest.mark.parametrize("chunk_bytes", [1, 200_000, 1 << 30])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_chunks_threads_and_batches_do_not_matter(
    chunk_bytes: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pred, target = noise(8, 3, 4, 20, 30), noise(9, 3, 4, 20, 30)
    expected = scikit(pred, target)
    # The package exports the function under the module's name.
    monkeypatch.setattr(importlib.import_module("metrics.ssim"), "_CPU_CHUNK_BYTES", chunk_bytes)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        whole = ssim(pred, target)
        alone = torch.cat([ssim(pred[i : i + 1], target[i : i + 1]) for i in range(3)])
    finally:
        torch.set_num_threads(before)
    assert whole.numpy() == pytest.approx(expected, abs=1e-12)
    assert alone.numpy() == pytest.approx(expected, abs=1e-12)


def test_the_class_gives_the_function_with_one_reference_for_many_predictions() -> None:
    metric = METRICS.get("ssim")(device="cpu", mode="exact")
    assert isinstance(metric, FrameMetric)
    target = noise(10, 3, 2, 24, 36)
    reference = metric.reference(target)
    assert all(len(part) == 3 for part in reference), "every part has the clips in front"
    for seed in (11, 12):
        pred = noise(seed, 3, 2, 24, 36)
        assert metric.score(pred, reference).numpy() == pytest.approx(scikit(pred, target), abs=1e-12)
    part = tuple(tensor[1:] for tensor in reference)
    assert metric.score(noise(13, 2, 2, 24, 36), part).shape == (2, 2)


def test_a_video_that_needs_gradients_can_be_scored() -> None:
    pred = noise(14, 2, 2, 16, 16).requires_grad_()
    assert not ssim(pred, noise(15, 2, 2, 16, 16)).requires_grad


@pytest.mark.gpu
def test_a_gpu_gives_the_same_values() -> None:
    pred, target = noise(16, 3, 4, 40, 56), noise(17, 3, 4, 40, 56)
    found = ssim(pred.cuda(), target.cuda())
    assert found.is_cuda
    assert found.cpu().numpy() == pytest.approx(ssim(pred, target).numpy(), abs=1e-11)
