"""The reference rows against hand-made answers and outside oracles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from skimage.metrics import peak_signal_noise_ratio
from skimage.registration import phase_cross_correlation

from methods.baselines import ContextMean, CopyLastFrame, FlowWarp, NoisyTruth, backward_warp
from methods.interface import Conditioning
from metrics.errors import MethodError


def conditioning_of(context: torch.Tensor, horizon: int) -> Conditioning:
    return Conditioning(context, [f"clip-{row}" for row in range(len(context))], horizon)


def test_copy_and_mean_are_what_they_say() -> None:
    context = torch.rand(2, 3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    conditioning = conditioning_of(context, 5)
    copied = CopyLastFrame().predict(conditioning, 1, 0)
    mean = ContextMean().predict(conditioning, 1, 0)
    for t in range(5):
        assert torch.equal(copied[:, 0, t], context[:, 2])
        torch.testing.assert_close(mean[:, 0, t], (context[:, 0] + context[:, 1] + context[:, 2]) / 3)


def test_backward_warp_equals_scipy() -> None:
    rng = np.random.default_rng(0)
    image, flow = rng.random((3, 11, 14)), rng.normal(0, 3, (2, 11, 14))
    ys, xs = np.mgrid[:11, :14]
    expected = [map_coordinates(channel, [ys + flow[1], xs + flow[0]], order=1, mode="nearest") for channel in image]
    warped = backward_warp(torch.from_numpy(image)[None], torch.from_numpy(flow)[None])[0]
    np.testing.assert_allclose(warped.numpy(), np.stack(expected), atol=1e-12)


@pytest.mark.parametrize(("dx", "dy"), [(1, 0), (0, -2), (2, 1), (-1, -1)])
@pytest.mark.parametrize("size", [48, 64, 96])
def test_flow_warp_follows_a_translation(moving_video: Callable[..., np.ndarray], dx: int, dy: int, size: int) -> None:
    """The window slides by (dx, dy), so that the picture moves by (-dx, -dy) a frame."""
    horizon = 4
    video = moving_video(2 + horizon, size, size, dx=dx, dy=dy, seed=3)
    frames = torch.from_numpy(video).permute(0, 3, 1, 2).float()[None] / 255
    conditioning = conditioning_of(frames[:, :2], horizon)
    warped = FlowWarp().predict(conditioning, 1, 0)[0, 0].permute(0, 2, 3, 1).numpy()
    copied = CopyLastFrame().predict(conditioning, 1, 0)[0, 0].permute(0, 2, 3, 1).numpy()
    margin = 2 * horizon + 2
    inner = slice(margin, size - margin)
    for t in range(1, horizon + 1):
        predicted, truth = warped[t - 1, inner, inner], video[1 + t, inner, inner].astype(np.float32) / 255
        shift, _, _ = phase_cross_correlation(truth, predicted, upsample_factor=50, normalization=None)
        assert np.abs(shift).max() <= 0.05
        quality = peak_signal_noise_ratio(truth, predicted, data_range=1)
        assert quality > 35
        assert quality > peak_signal_noise_ratio(truth, copied[t - 1, inner, inner], data_range=1) + 5


def test_flow_warp_leaves_a_still_scene_alone(moving_video: Callable[..., np.ndarray]) -> None:
    frame = torch.from_numpy(moving_video(1, 32, 40)[0]).permute(2, 0, 1).float() / 255
    context = frame.expand(1, 2, 3, 32, 40)
    warped = FlowWarp().predict(conditioning_of(context, 3), 1, 0)
    torch.testing.assert_close(warped, context[:, None, :1].expand(1, 1, 3, 3, 32, 40), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 1, 3, 32, 32), "expected at least 2 context frames, found 1"),
        ((1, 2, 3, 8, 8), "at least 12 x 12 px, found 8 x 8"),
    ],
)
def test_flow_warp_refuses_what_it_cannot_do(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        FlowWarp().predict(conditioning_of(torch.zeros(shape), 3), 1, 0)


def test_the_noise_has_the_stated_size() -> None:
    """Mid-grey is not clipped at sigma = 0.05, so that the root mean square error is sigma."""
    truth = torch.full((1, 4, 3, 64, 64), 0.5)
    noisy = NoisyTruth(sigma=0.05).predict_from_truth(conditioning_of(truth[:, :1], 4), truth, 3, 0)
    assert noisy.shape == (1, 3, 4, 3, 64, 64)
    error = noisy - truth[:, None]
    assert error.square().mean().sqrt().item() == pytest.approx(0.05, rel=0.01)
    assert abs(error.mean().item()) < 5e-4


def test_without_noise_it_is_the_truth() -> None:
    truth = torch.rand(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    method = NoisyTruth(sigma=0)
    assert not method.card.stochastic
    assert torch.equal(method.predict_from_truth(conditioning_of(truth[:, :1], 4), truth, 5, 0), truth[:, None])
