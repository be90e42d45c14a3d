"""Clips that several tests use."""

from __future__ import annotations

import torch
from torch import Tensor


def _triangle(n: Tensor) -> Tensor:
    return (n % 510 - 255).abs()


def closed_form_pair() -> tuple[Tensor, Tensor]:
    """Two clips `[1, 10, 3, 64, 64]` in [0, 1] with a formula for every value; outside programs' values are known."""
    t, y, x, c = torch.meshgrid(*(torch.arange(n) for n in (10, 64, 64, 3)), indexing="ij")
    first = _triangle(3 * y + 5 * x + 7 * t + 85 * c)
    second = _triangle(3 * y + 5 * x + 9 * t + 85 * c + 11)
    assert (int(first.sum()), int(second.sum())) == (15_150_518, 15_885_060)
    return tuple(clip.permute(0, 3, 1, 2)[None] / 255 for clip in (first, second))


def noise(seed: int, *shape: int) -> Tensor:
    """Uniform noise in [0, 1): `[B, T, 3, H, W]` for B, T, H, W given."""
    batch, frames, height, width = shape
    return torch.rand(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(seed))
