"""Measures of control in regions of the picture: where the object moves, and whether anything moves at all."""

from __future__ import annotations

import torch
from torch import Tensor

from metrics.control import MOVING
from metrics.errors import VideoError
from metrics.features.lpips_trunks import Net
from metrics.lpips import lpips
from metrics.video import check_pair, check_video


def moving_region(truth: Tensor, limit: float = MOVING) -> Tensor:
    """Where the moving object is in any frame: the pixels of x0 that move, and those on their straight way to the end.

    Args:
        truth: float `[B, 2, H, W]`: the true flow (dx, dy) in px from x0 to the last frame.
        limit: pixels whose flow is longer than this move, px.

    Returns:
        bool `[B, H, W]`.

    Raises:
        VideoError: another shape, or the flow is not finite.
    """
    if truth.ndim != 4 or truth.shape[1] != 2 or not bool(torch.isfinite(truth).all()):
        raise VideoError(f"truth: expected finite flow [B, 2, H, W], found {list(truth.shape)} {truth.dtype}")
    height, width = truth.shape[-2:]
    length = torch.linalg.vector_norm(truth, dim=1)
    region = length > limit
    clip, row, column = region.nonzero(as_tuple=True)
    step = truth[clip, :, row, column]
    # Points on the way of each pixel, one in each half pixel; of its own length, so that other clips do not matter.
    count = (2 * length[region]).ceil()
    longest = int(count.max()) if len(count) else 0
    found = region.clone()
    for part in range(1, longest + 1):
        share = (part / count).clamp(max=1)
        x = (column + step[:, 0] * share).round().long()
        y = (row + step[:, 1] * share).round().long()
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        found[clip[inside], y[inside], x[inside]] = True
    return found


@torch.no_grad()
def moving_psnr(pred: Tensor, target: Tensor, region: Tensor) -> Tensor:
    """PSNR over the pixels of a region: -10 log10 of their mean squared error over all colours, data range 1.

    Args:
        pred, target: float `[B, T, 3, H, W]`, RGB, in [0, 1].
        region: bool `[B, H, W]`, or `[B, T, H, W]` for each frame; see `moving_region`.

    Returns:
        float64 `[B, T]`, dB; +inf where pred equals target in the region, NaN where the region is empty.

    Raises:
        VideoError: as `metrics.video.check_pair`, or a region of another shape.
    """
    check_pair(pred, target)
    within = _expanded(region, pred)
    error = (pred.double() - target.double()).square().mean(2)
    mean = torch.where(within, error, 0.0).sum((2, 3)) / within.sum((2, 3))
    return -10 * torch.log10(mean)


def moving_lpips(pred: Tensor, target: Tensor, region: Tensor, net: Net = "alex") -> Tensor:
    """LPIPS of the prediction with everything outside the region replaced by the target.

    Only what happens inside the region counts. The value is a mean over the frame: it grows with the size of the
    region, so compare methods on the same clips.

    Args:
        pred, target, region: as `moving_psnr`.
        net: "alex" or "vgg".

    Returns:
        float64 `[B, T]`; 0 is perfect.

    Raises:
        VideoError: as `metrics.lpips.lpips`, or a region of another shape.
    """
    check_pair(pred, target)
    within = _expanded(region, pred)[:, :, None]
    return lpips(torch.where(within, pred, target), target, net)


def change_from(video: Tensor, x0: Tensor) -> Tensor:
    """How much a video differs from its first frame: mean absolute difference, for each frame.

    The stillness of a prediction in colours, without any flow: under a poke that is to move nothing, 0 is perfect.

    Args:
        video: float `[B, T, 3, H, W]` in [0, 1].
        x0: float `[B, 3, H, W]` in [0, 1].

    Returns:
        float64 `[B, T]` in [0, 1].

    Raises:
        VideoError: as `metrics.video.check_video`, or the shapes do not agree.
    """
    check_video(video)
    check_video(x0[:, None] if x0.ndim == 4 else x0, "x0")
    if x0.shape != (len(video), *video.shape[2:]):
        raise VideoError(f"x0: expected {[len(video), *video.shape[2:]]}, found {list(x0.shape)}")
    return (video.double() - x0.double()[:, None]).abs().mean((2, 3, 4))


def _expanded(region: Tensor, video: Tensor) -> Tensor:
    """The region for each frame, bool `[B, T, H, W]`."""
    batch, frames, _, height, width = video.shape
    if region.dtype != torch.bool or region.shape not in ((batch, height, width), (batch, frames, height, width)):
        raise VideoError(
            f"region: expected bool [{batch}, {height}, {width}] or [{batch}, {frames}, {height}, {width}], "
            f"found {list(region.shape)} {region.dtype}"
        )
    return region if region.ndim == 4 else region[:, None].expand(-1, frames, -1, -1)
