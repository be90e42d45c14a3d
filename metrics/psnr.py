"""Peak signal-to-noise ratio, one value a frame, in dB."""

from __future__ import annotations

import torch
from torch import Tensor

from metrics.card import MetricCard
from metrics.threads import split_by_clip
from metrics.video import check_pair, check_video

PSNR_CAP = 100.0
"""dB at which a frame counts in means and tables: a larger value, +inf too, is taken as this one."""


@torch.no_grad()
def psnr(pred: Tensor, target: Tensor) -> Tensor:
    """PSNR of every frame: -10 log10 of the mean squared error over its pixels and channels, data range 1.

    The squared error is summed in float64. A frame equal to its target gives +inf; take means with
    `mean_psnr`, which has a rule for that.

    Args:
        pred, target: float `[B, T, 3, H, W]`, RGB, in [0, 1].

    Returns:
        float64 `[B, T]`, dB.

    Raises:
        VideoError: as `check_pair`.
    """
    return -10 * torch.log10(channel_error(pred, target).mean(2))


@torch.no_grad()
def channel_error(pred: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of every channel of every frame, float64 `[B, T, 3]`; checks and errors as `psnr`."""
    check_pair(pred, target)
    planes, others = (video.flatten(0, 2).flatten(1) for video in (pred, target))
    count = max(1, _CHUNK // planes.shape[1])

    def errors(numbers: Tensor) -> Tensor:
        span = slice(int(numbers[0]), int(numbers[-1]) + 1)
        pairs = zip(planes[span].split(count), others[span].split(count), strict=True)
        return torch.cat([(p.double() - t).square_().mean(1) for p, t in pairs])

    numbers = torch.arange(len(planes))
    return (errors(numbers) if pred.is_cuda else split_by_clip(errors, numbers)).view(pred.shape[:3])


_CHUNK = 1 << 17
"""Values worked on at once, so that their float64 copies stay in the processor's cache."""


def capped(values: Tensor) -> Tensor:
    """`values` in dB with everything above PSNR_CAP, +inf included, set to PSNR_CAP."""
    return values.clamp(max=PSNR_CAP)


def mean_psnr(values: Tensor) -> float:
    """Mean of per-frame values in dB, each counted at PSNR_CAP at most."""
    return float(capped(values).double().mean())


class PSNR:
    """PSNR as a frame metric of the harness; see `psnr`.

    Args:
        device: where to compute.
        mode: "exact" or "fast"; both compute the same, there is no network.
    """

    card = MetricCard(
        name="psnr",
        title="PSNR",
        kind="frame",
        version=1,
        convention="-10 log10(MSE) per frame over pixels and channels, range 1, float64; "
        f"frames above {PSNR_CAP:g} dB count as {PSNR_CAP:g} dB in means",
        higher_is_better=True,
        bounds=(0.0, None),
        unit="dB",
        reference="scikit-image peak_signal_noise_ratio(data_range=1), float64",
        tolerance="1e-10 absolute",
    )

    def __init__(self, device: torch.device | str = "cpu", mode: str = "exact") -> None:
        self.device = torch.device(device)
        self.mode = mode

    def reference(self, target: Tensor) -> Tensor:
        """The checked target on the metric's device, `[B, T, 3, H, W]`."""
        return check_video(target, "target").to(self.device)

    def score(self, pred: Tensor, reference: Tensor) -> Tensor:
        """`psnr(pred, target)`, float64 `[B, T]`."""
        return psnr(pred.to(self.device), reference)
