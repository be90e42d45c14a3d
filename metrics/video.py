"""The value that every metric takes: a float video `[B, T, 3, H, W]`, RGB, in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

from metrics.errors import VideoError

RANGE_TOLERANCE = 1e-6
"""How far outside [0, 1] rounding may push a value; what lies within is accepted as it is."""


def check_video(video: Tensor, name: str = "video", *, min_frames: int = 1, min_side: int = 1) -> Tensor:
    """Returns `video` unchanged if a metric can take it.

    Args:
        video: float `[B, T, 3, H, W]` in [0, 1].
        name: how the message calls it.
        min_frames: fewest frames T that the metric needs.
        min_side: smallest height and width, in pixels, that the metric needs.

    Raises:
        VideoError: wrong type, shape, range, NaN or infinite values, too few frames, too small.
    """
    if not isinstance(video, Tensor):
        raise VideoError(f"{name}: expected a torch tensor [B, T, 3, H, W], found {type(video).__name__}")
    found = f"{list(video.shape)} {str(video.dtype).removeprefix('torch.')}"
    if video.ndim != 5 or video.shape[2] != 3:
        raise VideoError(
            f"{name}: expected [B, T, 3, H, W] (RGB), found {found}. Repeat a grey channel three times, drop alpha."
        )
    if not video.is_floating_point():
        raise VideoError(f"{name}: expected floating point in [0, 1], found {found}. Divide 8-bit frames by 255.")
    batch, frames, _, height, width = video.shape
    if batch == 0:
        raise VideoError(f"{name}: expected at least one clip, found {found}")
    if frames < min_frames:
        raise VideoError(f"{name}: expected at least {min_frames} frames, found {frames}")
    if min(height, width) < min_side:
        raise VideoError(f"{name}: expected frames of at least {min_side} x {min_side} px, found {height} x {width}")
    low, high = (float(v) for v in torch.aminmax(video.detach()))
    if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):  # also catches NaN
        raise VideoError(_range_message(video, name))
    return video


def check_pair(pred: Tensor, target: Tensor, *, min_frames: int = 1, min_side: int = 1) -> tuple[Tensor, Tensor]:
    """Checks a prediction and its target, which must agree in every dimension.

    Raises:
        VideoError: as `check_video`, or the shapes or devices differ.
    """
    check_video(pred, "pred", min_frames=min_frames, min_side=min_side)
    check_video(target, "target", min_frames=min_frames, min_side=min_side)
    if pred.shape != target.shape:
        raise VideoError(
            f"pred and target must have one shape, found {list(pred.shape)} and {list(target.shape)}. "
            "Resize or cut them yourself: a metric never does."
        )
    if pred.device != target.device:
        raise VideoError(f"pred is on {pred.device}, target on {target.device}; move them to one device")
    return pred, target


def _range_message(video: Tensor, name: str) -> str:
    broken = int((~torch.isfinite(video)).sum())
    if broken:
        clips = (~torch.isfinite(video)).flatten(1).any(1).nonzero().flatten().tolist()
        return f"{name}: {broken} values are NaN or infinite (first clips concerned: {clips[:5]})"
    low, high = (float(v) for v in torch.aminmax(video))
    cure = "divide by 255" if high > 2 else "map [-1, 1] to [0, 1]" if low < -0.5 else "clamp the prediction"
    return f"{name}: expected values in [0, 1], found [{low:.4g}, {high:.4g}]; {cure} before scoring"
