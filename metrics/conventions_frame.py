"""The parts in which published PSNR and SSIM programs differ: what is pooled, the windows, the range."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from metrics.errors import VideoError
from metrics.psnr import channel_error, mean_psnr
from metrics.ssim import WANG, Window, ssim_of_frames
from metrics.video import check_pair

POKING_BATCH = 16
GAUSS_SAMPLE = Window(WANG.weights, 121 / 120)
UNIFORM7 = Window((1 / 7,) * 7, 49 / 48)


def _psnr_of(error: Tensor) -> float:
    """Mean over `error` (mean squared errors, any shape) of the PSNR of each, capped as everywhere."""
    return mean_psnr(-10 * torch.log10(error))


def psnr_pooled(*axes: int) -> Callable[[Tensor, Tensor], float]:
    """PSNR of the squared error pooled over `axes` of [clip, time, channel], then the mean over the others."""

    def compute(pred: Tensor, target: Tensor) -> float:
        error = channel_error(pred, target)
        return _psnr_of(error.mean(axes) if axes else error)

    return compute


def _batches(pred: Tensor, target: Tensor) -> list[tuple[Tensor, Tensor, float]]:
    """Whole batches of 16 clips, the rest dropped, each with the larger of the two ranges found in it."""
    check_pair(pred, target)
    if len(pred) < POKING_BATCH:
        raise VideoError(f"this convention takes whole batches of {POKING_BATCH} clips, found {len(pred)} clips")
    whole = len(pred) // POKING_BATCH * POKING_BATCH
    pairs = zip(pred[:whole].split(POKING_BATCH), target[:whole].split(POKING_BATCH), strict=True)
    batches = [(p, t, max(float(v.max()) - float(v.min()) for v in (p, t))) for p, t in pairs]
    if min(found for _, _, found in batches) == 0:
        raise VideoError("this convention takes its range from the frames, and a batch of them is of one value")
    return batches


def psnr_poking(pred: Tensor, target: Tensor) -> float:
    """Mean over batches of 16 clips of 10 log10(R^2 / MSE), R the range found in the batch."""
    errors = [channel_error(p, t).mean() / found**2 for p, t, found in _batches(pred, target)]
    return _psnr_of(torch.stack(errors))


def ssim_poking(pred: Tensor, target: Tensor) -> float:
    """Mean over batches of 16 clips of SSIM with the range found in the batch."""
    values = [
        ssim_of_frames(p.flatten(0, 1).double() / found, t.flatten(0, 1).double() / found).mean()
        for p, t, found in _batches(pred, target)
    ]
    return float(torch.stack(values).mean())


def ssim_window(window: Window) -> Callable[[Tensor, Tensor], float]:
    """Mean over frames of SSIM with `window`."""

    def compute(pred: Tensor, target: Tensor) -> float:
        check_pair(pred, target, min_side=len(window.weights))
        return float(ssim_of_frames(pred.flatten(0, 1), target.flatten(0, 1), window).mean())

    return compute


def ssim_reflect(pred: Tensor, target: Tensor) -> float:
    """Mean over frames of SSIM with frames padded by reflection, so that each pixel has a window."""
    check_pair(pred, target, min_side=len(WANG.weights))
    border = (WANG.margin // 2,) * 4
    first, second = (F.pad(video.flatten(0, 1), border, mode="reflect") for video in (pred, target))
    return float(ssim_of_frames(first, second).mean())
