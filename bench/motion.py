"""The motion in a prediction: measured from x0, and, where the truth is known exactly, from the true last frame too.

An estimator that looks for x0 in the last frame of a prediction errs by as much as two pixels on thin things that move
far, even when the prediction is the truth itself. Where exact flow D from x0 to the true last frame xT is known, there
is a second way to the same answer: the place p of x0 is at p + D(p) in xT, and from there it is a short way to where
the prediction shows it, if the prediction is any good. So two flows are measured,

    a(p), from x0 to the prediction, and
    b(p) = D(p) + r(p + D(p)), with r from xT to the prediction,

and at each pixel that one counts which explains the prediction better: whose first frame, moved along it, differs less
from the prediction in the neighbourhood. Between equals the shorter motion counts. A copy of x0 then moves by exactly
nothing, and the truth exactly by D; everything between is measured from the nearer of the two. This is for answers to
the poke that the truth answers. For other pokes the truth would pull towards itself, so those are measured from x0.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from bench.flow import FLOWS, flow_between

NEIGHBOURHOOD = 7
"""Side of the square, px, in which frames are compared."""


class MotionMeter:
    """Measures how x0 moved in predictions.

    Args:
        tracker: a name of FLOWS.
        anchored: measure from the true last frame too.
        device: where estimators that use a GPU work.
    """

    def __init__(self, tracker: str, *, anchored: bool, device: torch.device) -> None:
        self._tracker, self.name, self.anchored = FLOWS.get(tracker)(device), tracker, anchored

    def from_x0(self, x0: Tensor, video: Tensor) -> Tensor:
        """Flow float32 `[B, 2, H, W]` from `x0` `[B, 3, H, W]` to the last frame of `video` `[B, T, 3, H, W]`, px; the
        tracker may look at the frames between."""
        return flow_between(self._tracker, torch.cat([x0[:, None], video], dim=1).clamp(0, 1))

    def measure(self, x0: Tensor, video: Tensor, truth: Tensor, true_flow: Tensor) -> Tensor:
        """The motion from x0 to the last frame of a prediction, on the device of `video`.

        Args:
            x0: float `[B, 3, H, W]` in [0, 1].
            video: the prediction, `[B, T, 3, H, W]`.
            truth: the true last frame `[B, 3, H, W]`.
            true_flow: exact flow `[B, 2, H, W]` from x0 to it, px.

        Returns:
            float32 `[B, 2, H, W]`, px.
        """
        direct = self.from_x0(x0, video).to(video.device)
        if not self.anchored:
            return direct
        shown = video[:, -1].clamp(0, 1)
        rest = self._tracker.estimate(truth.clamp(0, 1), shown).to(video.device)
        flow = true_flow.to(video.device, torch.float32)
        place = _grid(flow) + flow
        anchored = flow + _read(rest, place)
        from_x0, from_truth = _misfit(x0, shown, direct), _read(_misfit(truth, shown, rest), place)
        shorter = torch.linalg.vector_norm(anchored, dim=1) < torch.linalg.vector_norm(direct, dim=1)
        better = (from_truth < from_x0) | ((from_truth == from_x0) & shorter[:, None])
        return torch.where(better, anchored, direct)


def _misfit(first: Tensor, second: Tensor, flow: Tensor) -> Tensor:
    """Mean absolute difference `[B, 1, H, W]` of `first` and what `second` shows along `flow`, in the neighbourhood."""
    difference = (first - _read(second, _grid(flow) + flow)).abs().mean(1, keepdim=True)
    pad = NEIGHBOURHOOD // 2
    return functional.avg_pool2d(difference, NEIGHBOURHOOD, 1, pad, count_include_pad=False)


def _grid(like: Tensor) -> Tensor:
    """(x, y) of the pixels of `like` `[B, C, H, W]`, as `[1, 2, H, W]`."""
    height, width = like.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=like.device), torch.arange(width, device=like.device), indexing="ij"
    )
    return torch.stack([x, y])[None].float()


def _read(picture: Tensor, place: Tensor) -> Tensor:
    """`picture` `[B, C, H, W]` at `place` `[B, 2, H, W]`, px, bilinear; exactly its values at whole pixels; beyond the
    border, the border."""
    height, width = picture.shape[-2:]
    x = place[:, 0].clamp(0, width - 1)
    y = place[:, 1].clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
    across, down = (x - left)[:, None], (y - top)[:, None]
    flat = picture.flatten(2)

    def at(row: Tensor, column: Tensor) -> Tensor:
        index = (row * width + column).long().flatten(1)[:, None].expand(-1, picture.shape[1], -1)
        return flat.gather(2, index).unflatten(2, (height, width))

    above = torch.lerp(at(top, left), at(top, right), across)
    below = torch.lerp(at(bottom, left), at(bottom, right), across)
    return torch.lerp(above, below, down)
