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

Estimators that work on the CPU take a clip at a time, on as many threads as PyTorch has (one in each process under
torchrun, unless OMP_NUM_THREADS says otherwise); what is shown twice is measured once. Neither moves a bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional

from bench.flow.estimators import GreyPairFlow
from bench.flow.registry import FLOWS, flow_between
from metrics.threads import split_by_clip

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
        return self.from_x0_each(x0, [video])[0]

    def from_x0_each(self, x0: Tensor, videos: Sequence[Tensor]) -> list[Tensor]:
        """`from_x0` of several videos of the same clips, as answers to several pokes: each of them `[B, T, 3, H, W]`.

        Answers of a clip that are equal in every bit, as those of a method that takes no poke, are measured once.
        """
        if isinstance(self._tracker, GreyPairFlow):  # it works on the CPU: one copy there instead of one a frame
            x0, videos = x0.cpu(), [video.cpu() for video in videos]
        places: dict[tuple[int, bytes], int] = {}
        numbers = [[places.setdefault(key, len(places)) for key in _keys(video)] for video in videos]
        films: dict[int, tuple[int, int]] = {}
        for which, rows in enumerate(numbers):
            for row, number in enumerate(rows):
                films.setdefault(number, (which, row))

        def shown(number: int) -> Tensor:
            which, row = films[number]
            return torch.cat([x0[row, None], videos[which][row]]).clamp(0, 1)

        if isinstance(self._tracker, GreyPairFlow):
            flows = _by_clip(self._tracker, shown, len(films))
        else:
            flows = flow_between(self._tracker, torch.stack([shown(number) for number in range(len(films))]))
        return [flows[rows] for rows in numbers]

    def measure(
        self, x0: Tensor, video: Tensor, truth: Tensor, true_flow: Tensor, direct: Tensor | None = None
    ) -> Tensor:
        """The motion from x0 to the last frame of a prediction, on the device of `video`.

        Args:
            x0: float `[B, 3, H, W]` in [0, 1].
            video: the prediction, `[B, T, 3, H, W]`.
            truth: the true last frame `[B, 3, H, W]`.
            true_flow: exact flow `[B, 2, H, W]` from x0 to it, px.
            direct: `from_x0(x0, video)`, where it is known.

        Returns:
            float32 `[B, 2, H, W]`, px.
        """
        direct = (self.from_x0(x0, video) if direct is None else direct).to(video.device)
        if not self.anchored:
            return direct
        shown = video[:, -1].clamp(0, 1)
        rest = self._between(truth.clamp(0, 1), shown).to(video.device)
        flow = true_flow.to(video.device, torch.float32)
        place = _grid(flow) + flow
        anchored = flow + _read(rest, place)
        from_x0, from_truth = _misfit(x0, shown, direct), _read(_misfit(truth, shown, rest), place)
        shorter = torch.linalg.vector_norm(anchored, dim=1) < torch.linalg.vector_norm(direct, dim=1)
        better = (from_truth < from_x0) | ((from_truth == from_x0) & shorter[:, None])
        return torch.where(better, anchored, direct)

    def _between(self, first: Tensor, second: Tensor) -> Tensor:
        """Flow `[B, 2, H, W]` from `first` to `second` `[B, 3, H, W]`, on the CPU."""
        tracker = self._tracker
        if not isinstance(tracker, GreyPairFlow):
            return tracker.estimate(first, second)
        first, second = first.cpu(), second.cpu()
        with _one_thread_of_opencv():
            return split_by_clip(lambda rows: tracker.estimate(first[rows], second[rows]), torch.arange(len(first)))


def _by_clip(tracker: GreyPairFlow, shown: Callable[[int], Tensor], count: int) -> Tensor:
    """The flow `[N, 2, H, W]` of N = `count` films, film i being `shown(i)`, `[F, 3, H, W]`."""

    def estimated(numbers: Tensor) -> Tensor:
        return torch.cat([flow_between(tracker, shown(number)[None]) for number in numbers.tolist()])

    with _one_thread_of_opencv():
        return split_by_clip(estimated, torch.arange(count))


@contextmanager
def _one_thread_of_opencv() -> Iterator[None]:
    """OpenCV's own threads share every small step of one pair, and wait for each other after each."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _keys(video: Tensor) -> list[tuple[int, bytes]]:
    """For each clip of a video `[B, T, 3, H, W]` its row and a digest of what it shows."""
    frames = video.detach().cpu().contiguous()
    return [(row, hashlib.sha256(clip.numpy().data).digest()) for row, clip in enumerate(frames)]


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
