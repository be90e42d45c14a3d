"""Frames as they are after storage with 8 bits a channel."""

from __future__ import annotations

from torch import Tensor

LEVEL_TOLERANCE = 1e-3
"""In grey levels: added before truncation, so that k / 255 stored in float32 stays k."""


def rounded(video: Tensor) -> Tensor:
    """The nearest of the 256 levels, float of any shape, in [0, 1]; what is outside is clipped."""
    return (video * 255).round().clamp(0, 255) / 255


def truncated(video: Tensor) -> Tensor:
    """The level below, float of any shape, in [0, 1]; a value within 0.001 levels below a level keeps that level."""
    return (video * 255 + LEVEL_TOLERANCE).floor().clamp(0, 255) / 255
