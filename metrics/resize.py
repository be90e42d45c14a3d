"""Bilinear resizing as published metrics do it; the rule moves their values, so it is always named."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from metrics.errors import VideoError

Rule = Literal["tf1", "half_pixel", "align_corners"]
RULES: tuple[Rule, ...] = ("tf1", "half_pixel", "align_corners")


def resize_video(video: Tensor, size: int, rule: Rule = "tf1") -> Tensor:
    """Resizes every frame to `size` x `size` px, bilinearly, without antialiasing; the aspect ratio is not kept.

    With n pixels in, output pixel i reads the input at

    - "tf1": i n / size, the `resize_bilinear` of TensorFlow 1, which the original FVD uses;
    - "half_pixel": (i + 1/2) n / size - 1/2, as in `torch.nn.functional.interpolate` and TensorFlow 2;
    - "align_corners": i (n - 1) / (size - 1).

    Coordinates beyond the first or last pixel centre read that pixel.

    Args:
        video: float `[B, T, C, H, W]`, of any range.

    Returns:
        `[B, T, C, size, size]`, of the video's type and device; the video itself if it has that size.

    Raises:
        VideoError: no five axes, or an unknown rule.
    """
    if video.ndim != 5:
        raise VideoError(f"resize_video: expected [B, T, C, H, W], found {list(video.shape)}")
    if rule not in RULES:
        raise VideoError(f"resize_video: unknown rule {rule!r}; there are: {', '.join(RULES)}")
    height, width = video.shape[-2:]
    if height == width == size:
        return video
    rows = resize_matrix(height, size, rule).to(video)
    columns = resize_matrix(width, size, rule).to(video)
    return rows @ (video @ columns.T)


@lru_cache(maxsize=32)
def resize_matrix(n: int, size: int, rule: Rule) -> Tensor:
    """The float64 matrix `[size, n]` that resizes one axis; each row holds at most two weights, of sum 1."""
    index = torch.arange(size, dtype=torch.float64)
    if rule == "tf1":
        at = index * n / size
    elif rule == "half_pixel":
        at = (index + 0.5) * n / size - 0.5
    else:
        at = index * (n - 1) / max(size - 1, 1)
    at = at.clamp(0, n - 1)
    below = at.floor().long()
    above = (below + 1).clamp(max=n - 1)
    fraction = (at - below)[:, None]
    matrix = torch.zeros(size, n, dtype=torch.float64)
    matrix.scatter_add_(1, below[:, None], 1 - fraction)
    matrix.scatter_add_(1, above[:, None], fraction)
    return matrix
