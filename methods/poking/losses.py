"""The losses of the poking model, each the mean over the clips that it is given.

The paper's equations do not say how norms depend on the size of a map, nor how clips are reduced. Two readings:

- "released", the authors' program: L_rec is the mean over frames of the perceptual distance with a pixel term;
  L_traj the mean over frames and levels of mean squared errors.
- "paper": sums over frames, maps and levels as in equations 6 and 7, without a pixel term. Norms are taken over
  averages, |a|_1 = mean |a_i| and |a|_2 = sqrt(mean a_i^2), as the perceptual loss that the paper cites normalises
  its own by the size of the map; so the paper's weights meet terms of similar size at every resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.perceptual import mean_difference
from methods.precision import full

MOVING = 0.5
"""Pixels that move by more than this many px count as moving."""
TINY = 1e-12
"""Keeps the gradient of a root finite at zero."""


def squared_trajectory(states: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """L_traj of the released program.

    Args:
        states, targets: of each level, `[T B, C, h, w]`.
    """
    errors = [F.mse_loss(full(state), full(target)) for state, target in zip(states, targets, strict=True)]
    return torch.stack(errors).mean()


def norm_trajectory(states: Sequence[Tensor], targets: Sequence[Tensor], horizon: int) -> Tensor:
    """L_traj of equation 7: the sum over T frames and N levels of L2 norms, mean over clips."""
    norms = [
        ((full(state) - full(target)).square().flatten(1).mean(1) + TINY).sqrt().mean()
        for state, target in zip(states, targets, strict=True)
    ]
    return horizon * torch.stack(norms).sum()


def real_hinge(scores: Tensor) -> Tensor:
    """mean max(0, 1 - D(real)) of each sample: `[N, ...]` -> `[N]`."""
    return F.relu(1 - full(scores)).flatten(1).mean(1)


def fake_hinge(scores: Tensor) -> Tensor:
    """mean max(0, 1 + D(fake)) of each sample: `[N, ...]` -> `[N]`."""
    return F.relu(1 + full(scores)).flatten(1).mean(1)


def generator_term(scores: Tensor) -> Tensor:
    """-mean D(fake) of each sample: `[N, ...]` -> `[N]`."""
    return -full(scores).flatten(1).mean(1)


def gradient_penalty(scores: Tensor, real: Tensor) -> Tensor:
    """R1 of each sample, `[N]`: the squared norm of the gradient of its summed scores at the real input.

    Args:
        scores: `[N, ...]`, computed from `real`, which requires grad.
    """
    (gradient,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
    return full(gradient).square().flatten(1).sum(1)


def feature_matching(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Mean over maps of the mean absolute difference, a scalar."""
    pairs = zip(fake, real, strict=True)
    return torch.stack([mean_difference(ours, theirs) for ours, theirs in pairs]).mean()


def motion_error(found: Tensor, truth: Tensor, still: float = 1.0, moving: float = MOVING) -> Tensor:
    """How far the flow of a last frame is from the true motion, a scalar, px.

    A pixel q of x0 is at q + D(q) in the last frame, so what is found there is to lead back by -D(q). The mean over
    pixels that move and the mean over those that do not are added, since most of a picture stands still. Where a moving
    pixel ends up on a still one, the flow there is to lead back along the moving one: the still one does not count.

    Args:
        found: `[B, 2, H, W]`: from the last frame back to x0, px.
        truth: `[B, 2, H, W]`: D, from x0 to the last frame, px.
        still: weight of the mean over pixels that do not move.
        moving: longer flow than this moves, px.
    """
    height, width = truth.shape[-2:]
    truth = full(truth)
    x = torch.arange(width, device=truth.device) + truth[:, 0]
    y = torch.arange(height, device=truth.device)[:, None] + truth[:, 1]
    grid = torch.stack([x * (2 / (width - 1)) - 1, y * (2 / (height - 1)) - 1], dim=-1)
    there = F.grid_sample(full(found), grid, padding_mode="border", align_corners=True)
    error = (there + truth).abs().sum(1)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    moves = (torch.linalg.vector_norm(truth, dim=1) > moving) & inside
    rests = inside & ~moves & (_covered(x, y, moves) <= 0.5)
    means = [(error * mask).sum() / mask.sum().clamp(min=1) for mask in (moves, rests)]
    return means[0] + still * means[1]


def _covered(x: Tensor, y: Tensor, chosen: Tensor) -> Tensor:
    """How much of each pixel others cover that have moved onto it.

    Args:
        x, y: float `[B, H, W]`, px: where each pixel ends up.
        chosen: bool `[B, H, W]`: which of them count; all are to end up in the picture.

    Returns:
        `[B, H, W]`: 1 where one is just there, its bilinear shares where it is between pixels, 0 where there is none.
    """
    height, width = chosen.shape[-2:]
    left, top = x.floor(), y.floor()
    cover = torch.zeros_like(x).flatten(1)
    for right, below in product((0, 1), repeat=2):
        column, row = left + right, top + below
        share = (1 - (x - column).abs()) * (1 - (y - row).abs()) * chosen
        place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)  # beside the picture the share is 0
        cover.scatter_add_(1, place.long().flatten(1), share.flatten(1))
    return cover.view_as(x)


def poke_error(found: Tensor, truth: Tensor, location: Tensor) -> Tensor:
    """How far the flow of a last frame is from the true motion of the poked point, a scalar, px.

    The poked point l is at l + D(l) in the last frame, so what is found there is to lead back by -D(l). `motion_error`
    has this point among all that move; here it counts by itself, since it is the one that was asked for.

    Args:
        found: `[B, 2, H, W]`: from the last frame back to x0, px.
        truth: `[B, 2, H, W]`: D, from x0 to the last frame, px.
        location: `[B, 2]`: l, (x, y) in px, rounded to whole pixels.
    """
    height, width = truth.shape[-2:]
    x, y = location.round().long().unbind(1)
    motion = full(truth)[torch.arange(len(truth), device=truth.device), :, y, x]
    place = torch.stack([x, y], dim=1) + motion
    grid = torch.stack([place[:, 0] * (2 / (width - 1)), place[:, 1] * (2 / (height - 1))], dim=1) - 1
    there = F.grid_sample(full(found), grid[:, None, None], padding_mode="border", align_corners=True)[:, :, 0, 0]
    return (there + motion).abs().sum(1).mean()
