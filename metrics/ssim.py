"""Structural similarity, one value a frame, as Wang et al. defined it.

Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli: Image quality assessment: from error visibility to
structural similarity. IEEE Transactions on Image Processing 13(4), 2004, equation 13.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat

import torch
from torch import Tensor

from metrics.card import MetricCard
from metrics.threads import split_by_clip
from metrics.video import check_pair, check_video

C1, C2 = 0.01**2, 0.03**2


@dataclass(frozen=True)
class Window:
    """How the local statistics are taken.

    Attributes:
        weights: of one axis, sum 1; the window is their outer product.
        covariance: factor on variances and covariance: 1 (population), or n / (n - 1) for a sample of n.
    """

    weights: tuple[float, ...]
    covariance: float = 1.0

    @property
    def margin(self) -> int:
        """How many positions fewer than pixels there are along an axis."""
        return len(self.weights) - 1


def _gaussian(side: int, sigma: float) -> tuple[float, ...]:
    raw = [math.exp(-0.5 * ((i - side // 2) / sigma) ** 2) for i in range(side)]
    return tuple(value / math.fsum(raw) for value in raw)


WANG = Window(_gaussian(11, 1.5))
"""The window of the paper: 11 x 11, Gaussian, sigma 1.5, population statistics."""

MIN_SIDE = len(WANG.weights)


@torch.no_grad()
def ssim(pred: Tensor, target: Tensor) -> Tensor:
    """SSIM of every frame: 11 x 11 Gaussian window, sigma 1.5, population statistics, data range 1.

    Only positions whose window lies inside the frame count; the map is averaged over positions and
    channels. Everything is float64.

    Args:
        pred, target: float `[B, T, 3, H, W]`, RGB, in [0, 1], H and W at least 11.

    Returns:
        float64 `[B, T]`, 1 for identical frames.

    Raises:
        VideoError: as `check_pair`, or a side below 11 px.
    """
    check_pair(pred, target, min_side=MIN_SIDE)
    return ssim_of_frames(pred.flatten(0, 1), target.flatten(0, 1)).view(pred.shape[:2])


def ssim_of_frames(pred: Tensor, target: Tensor, window: Window = WANG, target_means: Tensor | None = None) -> Tensor:
    """SSIM with any window and data range 1, unchecked.

    Args:
        pred, target: float `[F, 3, H, W]`. For another data range R, divide both by R: SSIM does not change
            when frames and range are scaled together.
        target_means: `windowed_means(target)`, if they are known.

    Returns:
        float64 `[F]`.
    """

    def values(numbers: Tensor) -> Tensor:
        span = slice(int(numbers[0]), int(numbers[-1]) + 1)
        means = None if target_means is None else target_means[span]
        return _serial_ssim(pred[span], target[span], window, means)

    frames = torch.arange(len(pred))
    return values(frames) if pred.is_cuda else split_by_clip(values, frames)


def _serial_ssim(pred: Tensor, target: Tensor, window: Window, target_means: Tensor | None) -> Tensor:
    chunk = _frames_per_chunk(pred)
    pieces = pred.split(chunk), target.split(chunk)
    means = [None] * len(pieces[0]) if target_means is None else target_means.split(chunk)
    workspace = _Workspace(pred.device)
    return torch.cat(list(map(_chunk_ssim, *pieces, repeat(window), means, repeat(workspace))))


def windowed_means(frames: Tensor, window: Window = WANG) -> Tensor:
    """Local means of frames `[F, 3, H, W]`: float64 `[F, W - margin, H - margin, 3]`."""
    workspace = _Workspace(frames.device)
    parts = []
    for piece in frames.split(_frames_per_chunk(frames)):
        maps = workspace("maps", _rows_first(piece).shape).copy_(_rows_first(piece))
        means = _filtered(maps.flatten(1, 2), window, workspace).unflatten(2, (-1, 3))
        parts.append(means.permute(2, 0, 1, 3).clone(memory_format=torch.contiguous_format))
    return torch.cat(parts)


class _Workspace:
    """Float64 buffers that one chunk after the other is worked on in.

    Fresh memory for every chunk costs as much as the arithmetic: the system hands out its pages one fault at a time.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._buffers: dict[str, Tensor] = {}

    def __call__(self, name: str, shape: Sequence[int]) -> Tensor:
        """An uninitialised tensor; it shares its memory with the last one of that name."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < size:
            buffer = self._buffers[name] = torch.empty(size, dtype=torch.float64, device=self._device)
        return buffer[:size].view(shape)


def _chunk_ssim(
    pred: Tensor, target: Tensor, window: Window, target_means: Tensor | None, workspace: _Workspace
) -> Tensor:
    """SSIM `[F]` of frames that fit the cache, in as few passes over them as there can be.

    With a factor v on the covariances, SSIM is four times

        (mx my + C1/2) (cov + C2/2v) / ((mx^2 + my^2 + C1) (var x + var y + C2/v)).

    It needs the sum of the two variances and never one of them, so one map of x^2 + y^2 serves both. The
    constants are added where a product is formed anyway: means with C1 are subtracted from maps with C1 and C2.
    """
    count, _, height, width = pred.shape
    maps = workspace("maps", (height, 4 if target_means is None else 3, count, 3, width))
    squares, product, x = maps[:, 0], maps[:, 1], maps[:, 2]
    y = maps[:, 3] if target_means is None else workspace("target", x.shape)
    x.copy_(_rows_first(pred))
    y.copy_(_rows_first(target))
    c1 = maps.new_tensor(C1)
    both = c1 + C2 / window.covariance
    torch.addcmul(both, x, x, out=squares).addcmul_(y, y)
    torch.addcmul(both / 2, x, y, out=product)
    filtered = _filtered(maps.flatten(1, 3), window, workspace).unflatten(2, (-1, count, 3))
    squares, product, mx, *filtered_y = filtered.unbind(2)
    my = filtered_y[0] if target_means is None else target_means.permute(1, 2, 0, 3)
    means = torch.addcmul(c1 / 2, mx, my, out=workspace("means", mx.shape))
    mean_squares = torch.addcmul(c1, mx, mx, out=workspace("mean squares", mx.shape)).addcmul_(my, my)
    similarity = means.mul_(product.sub_(means)).div_(mean_squares.mul_(squares.sub_(mean_squares)))
    # A product with equal weights is the mean over positions; `mean` itself takes several times as long here.
    similarity = similarity.view(-1, count * 3)
    weights = similarity.new_full((1, len(similarity)), 4 / len(similarity))
    return (weights @ similarity).view(count, 3).mean(1)


def _filtered(maps: Tensor, window: Window, workspace: _Workspace) -> Tensor:
    """Local means of `maps` `[H, K, W]`, float64 and contiguous: `[W - margin, H - margin, K]`.

    Each pass moves the axis that it filters to the front, so that a block of it is one matrix product for all K maps.
    """
    height, count, width = maps.shape
    rows = workspace("rows", (height - window.margin, count * width))
    for out, into, block in _band_blocks(height, window, maps.device):
        torch.mm(block, maps[into].flatten(1), out=rows[out])
    lines = rows.view(-1, width)
    means = workspace("filtered", (width - window.margin, len(lines)))
    for out, into, block in _band_blocks(width, window, maps.device):
        torch.mm(block, lines[:, into].T, out=means[out])
    return means.view(len(means), -1, count)


_BLOCK = 16
"""Rows of the band matrix in one product: a multiple of 4 suits the processor, a small one skips most of its zeros."""


@lru_cache(maxsize=64)
def _band_blocks(side: int, window: Window, device: torch.device) -> list[tuple[slice, slice, Tensor]]:
    """The window along one axis, positions inside the frame only, as blocks of a band matrix.

    Returns:
        (output positions, input positions, float64 `[outputs, inputs]`) of each block.
    """
    weights = torch.tensor(window.weights, dtype=torch.float64, device=device)
    blocks = []
    for start in range(0, side - window.margin, _BLOCK):
        count = min(_BLOCK, side - window.margin - start)
        block = torch.zeros(count, count + window.margin, dtype=torch.float64, device=device)
        for row in range(count):
            block[row, row : row + len(weights)] = weights
        blocks.append((slice(start, start + count), slice(start, start + block.shape[1]), block))
    return blocks


def _rows_first(frames: Tensor) -> Tensor:
    """`[F, 3, H, W]` to a view `[H, F, 3, W]`."""
    return frames.permute(2, 0, 1, 3)


_CPU_CHUNK_BYTES, _GPU_CHUNK_BYTES = 3_200_000, 1 << 30
"""Most bytes of float64 maps worked on at once; the first fits a processor's cache."""


def _frames_per_chunk(frames: Tensor) -> int:
    budget = _GPU_CHUNK_BYTES if frames.is_cuda else _CPU_CHUNK_BYTES
    return max(1, budget // (4 * 8 * math.prod(frames.shape[1:])))


class SSIM:
    """SSIM as a frame metric of the harness; see `ssim`.

    Args:
        device: where to compute.
        mode: "exact" or "fast"; both compute the same, there is no network.
    """

    card = MetricCard(
        name="ssim",
        title="SSIM",
        kind="frame",
        version=1,
        convention="Wang et al. 2004: 11x11 Gaussian, sigma 1.5, positions inside the frame, population "
        "statistics, range 1, mean over channels, float64",
        higher_is_better=True,
        bounds=(-1.0, 1.0),
        reference="scikit-image structural_similarity(gaussian_weights=True, sigma=1.5, "
        "use_sample_covariance=False, channel_axis=-1, data_range=1)",
        tolerance="1e-12 absolute",
        min_side=MIN_SIDE,
    )

    def __init__(self, device: torch.device | str = "cpu", mode: str = "exact") -> None:
        self.device = torch.device(device)
        self.mode = mode

    @torch.no_grad()
    def reference(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """The target `[B, T, 3, H, W]` and its local means, float64 `[B, T, W - 10, H - 10, 3]`."""
        target = check_video(target, "target", min_side=MIN_SIDE).to(self.device)
        return target, windowed_means(target.flatten(0, 1)).unflatten(0, target.shape[:2])

    @torch.no_grad()
    def score(self, pred: Tensor, reference: tuple[Tensor, Tensor]) -> Tensor:
        """`ssim(pred, target)`, float64 `[B, T]`."""
        target, means = reference
        pred = pred.to(self.device)
        check_pair(pred, target, min_side=MIN_SIDE)
        values = ssim_of_frames(pred.flatten(0, 1), target.flatten(0, 1), WANG, means.flatten(0, 1))
        return values.view(pred.shape[:2])
