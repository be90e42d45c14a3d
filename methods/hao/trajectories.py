"""Sparse trajectories as the six-channel map that the network reads."""

from __future__ import annotations

import torch
from torch import Tensor

CHANNELS = 6


def trajectory_map(start: Tensor, end: Tensor, height: int, width: int, kept: Tensor | None = None) -> Tensor:
    """Draws displacements into a map, one pixel for each start and one for each end.

    Channels 0, 1, 2 hold 1, dy, dx at the start of a trajectory; channels 3, 4, 5 hold 1, -dy, -dx at its end, all
    else is 0. Displacements are in pixels, not scaled, and of the coordinates as given. The pixel is the coordinate
    clamped to the frame and truncated towards zero. Where two trajectories meet at a pixel, the later one is drawn. A
    trajectory without motion still draws its ones.

    The authors' program clamps coordinates to the side of the frame instead of the last pixel and fails on a point
    that lies there; this one draws it in the last pixel.

    Args:
        start, end: float `[N, k, 2]`: (x, y) in px.
        kept: bool `[N, k]`: which trajectories are drawn; None: all.

    Returns:
        `[N, 6, height, width]`, in the type of `start`.
    """
    dx, dy = (end - start).unbind(-1)
    ones = torch.ones_like(dx)
    first = _drawn(start, torch.stack([ones, dy, dx], 1), height, width, kept)
    last = _drawn(end, torch.stack([ones, -dy, -dx], 1), height, width, kept)
    return torch.cat([first, last], 1)


def _drawn(points: Tensor, values: Tensor, height: int, width: int, kept: Tensor | None) -> Tensor:
    """`values` `[N, 3, k]` at `points` `[N, k, 2]`, `[N, 3, height, width]`."""
    x = points[..., 0].clamp(0, width - 1).long()
    y = points[..., 1].clamp(0, height - 1).long()
    pixel = y * width + x
    count = pixel.shape[1]
    shown = torch.ones_like(pixel, dtype=torch.bool) if kept is None else kept
    later = torch.ones(count, count, dtype=torch.bool, device=pixel.device).triu(1)
    hidden = ((pixel[:, :, None] == pixel[:, None, :]) & later & shown[:, None, :]).any(-1)
    # What is not seen adds 0: no pixel is written twice, so the order of writing does not matter.
    seen = values * (shown & ~hidden)[:, None]
    plane = values.new_zeros(len(points), 3, height * width)
    return plane.scatter_add_(2, pixel[:, None].expand(-1, 3, -1), seen).unflatten(2, (height, width))
