"""3x3 convolutions of stride 1 by transforms of tiles, with their adjoints: what training on a CPU is made of.

A. Lavin, S. Gray: Fast algorithms for convolutional neural networks, arXiv:1509.09308, section 4.1: a tile of 4x4
outputs and 6x6 inputs is y = A' [(G w G') * (B' x B)] A, with * element by element and summed over channels. So 36
products of matrices take the place of one sum over 9 taps, with a quarter of the multiplications.

A filter is a polynomial, evaluated at five points and at infinity. The points 0, +-sqrt(2) and +-sqrt(1/2) have half
the rounding error of the usual 0, +-1, +-2: in float32 about 2e-6 of the result's norm, of the plain sum 2e-7. The
transforms are products of matrices too, of one small one and all tiles and channels of a few maps.
"""

from __future__ import annotations

import threading
from functools import cache
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from methods.products import batched_product

TILE, REACH, TAPS = 4, 6, 3
"""Along one side: outputs of a tile, inputs of a tile, taps of a filter."""

POINTS = (0.0, 2**0.5, -(2**0.5), 0.5**0.5, -(0.5**0.5))
"""Where polynomials are evaluated, besides infinity."""

AT_ONCE = 0.3
"""Tiles that are worked on together for each channel: few enough to stay in the caches, and so many that the weights,
which pass through them each time, do not matter."""

IN_CACHE = 1 << 20
"""Values at the points, of all channels, that are computed together: about as many as the cache of a core holds."""

MANY = 8
"""Maps from which on they are turned round together, a slice at a time, which threads share: fewer are one by one."""

SLICE = 16
"""Channels that are turned round together: one line of a cache."""


class Transforms(NamedTuple):
    """The matrices, for one side of a tile."""

    inputs: Tensor
    """`[6, 6]`: inputs to their values at the points."""
    outputs: Tensor
    """`[4, 6]`: values at the points to outputs."""
    weights: Tensor
    """`[6, 3]`: taps to their values at the points."""


@cache
def transforms(dtype: torch.dtype) -> Transforms:
    """The matrices, computed in float64 and rounded to `dtype`."""

    def powers(count: int) -> Tensor:
        """Row i holds 1, p, p^2, ... at point i; at infinity only the highest power counts."""
        finite = torch.tensor(POINTS, dtype=torch.float64)[:, None] ** torch.arange(count)
        return torch.cat([finite, torch.eye(count, dtype=torch.float64)[-1:]])

    # Correlation is the adjoint of the product of polynomials, whose last step interpolates: hence the transposes.
    matrices = (torch.linalg.inv(powers(REACH)).T, powers(TILE).T, powers(TAPS))
    return Transforms(*(matrix.to(dtype).contiguous() for matrix in matrices))


def transformed(weight: Tensor) -> Tensor:
    """Filters `[O, C, 3, 3]` at the points, `[36, O, C]`."""
    outputs, inputs = weight.shape[:2]
    taps = weight.detach().reshape(outputs * inputs, TAPS**2)
    return (_both_sides(weight.dtype) @ taps.T).view(-1, outputs, inputs)


def weight_gradient(points: Tensor) -> Tensor:
    """The adjoint of `transformed`: `[36, O, C]` to `[O, C, 3, 3]`."""
    _, outputs, inputs = points.shape
    by_output = points.transpose(0, 1)  # a product for each, since threads share these, and not one of a small matrix
    taps = torch.bmm(_both_sides(points.dtype).T.expand(outputs, -1, -1), by_output)
    return taps.mT.contiguous().view(outputs, inputs, TAPS, TAPS)  # faster than the product of the transposes


def _both_sides(dtype: torch.dtype) -> Tensor:
    """`[36, 9]`: all taps of a filter to its values at all points."""
    one_side = transforms(dtype).weights
    return torch.kron(one_side, one_side)


class _Scratch(threading.local):
    """The memory that tilings work in, of each thread, by name and type."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, torch.dtype], Tensor] = {}


_SCRATCH = _Scratch()


class Tiling:
    """Maps of one size as tiles at the points, and back. Zero padding of 1 around the maps is part of it.

    Maps are `[n, C, H, W]`, in either memory layout; their tiles at the points `[36, n tiles, C]`. Values at
    the points lie in memory that the next call of the same method uses again, of any tiling in this thread.

    Args:
        like: its height, width and type are those of the maps.
    """

    def __init__(self, like: Tensor) -> None:
        self.height, self.width = like.shape[-2:]
        self.down, self.along = -(-self.height // TILE), -(-self.width // TILE)
        self.tiles = self.down * self.along
        self._like = like
        self._transforms = transforms(like.dtype)

    def points(self, maps: Tensor, out: Tensor | None = None) -> Tensor:
        """Inputs of a convolution at the points; into `out`, where it is given, which it returns."""
        count, channels = maps.shape[:2]
        out = self._buffer("points", REACH**2, count * self.tiles, channels) if out is None else out
        for some in self._groups(count, channels):
            frame = self._frame(some.stop - some.start, channels)
            bottom, right = self.height + 1, self.width + 1
            for border in (frame[:, 0], frame[:, bottom:], frame[:, 1:bottom, 0], frame[:, 1:bottom, right:]):
                border.zero_()
            self._load(maps[some], frame[:, 1:bottom, 1:right])
            image, row, column, _ = frame.stride()
            shape = (REACH, REACH, len(frame), self.down, self.along, channels)
            tiles = self._buffer("tiles", REACH**2, len(frame) * self.tiles, channels)
            tiles.view(shape).copy_(frame.as_strided(shape, (row, column, image, TILE * row, TILE * column, 1)))
            self._apply(self._transforms.inputs, tiles, self.rows(out, some))
        return out

    def maps(self, points: Tensor, bias: Tensor | None, out: Tensor) -> Tensor:
        """Outputs of a convolution from their values at the points, plus `bias` `[C]`; into `out`, which it returns."""
        channels = out.shape[1]
        for some in self._groups(len(out), channels):
            count = some.stop - some.start
            tiles = self._buffer("outputs", TILE**2, count * self.tiles, channels)
            self._apply(self._transforms.outputs, self.rows(points, some), tiles)
            frame = self._buffer("frame", count, self.down * TILE, self.along * TILE, channels)
            by_tile = frame.view(count, self.down, TILE, self.along, TILE, channels).permute(2, 4, 0, 1, 3, 5)
            source = tiles.view(by_tile.shape)
            if bias is None:
                by_tile.copy_(source)
            else:
                torch.add(source, bias, out=by_tile)
            self._store(frame[:, : self.height, : self.width], out[some])
        return out

    def maps_adjoint(self, gradient: Tensor, out: Tensor | None = None) -> Tensor:
        """The adjoint of `maps`: the gradient `[n, C, H, W]` of the outputs, at the points; `out` as in `points`."""
        count, channels = gradient.shape[:2]
        out = self._buffer("gradient", REACH**2, count * self.tiles, channels) if out is None else out
        for some in self._groups(count, channels):
            frame = self._frame(some.stop - some.start, channels)
            frame[:, self.height : self.down * TILE].zero_()
            frame[:, : self.height, self.width : self.along * TILE].zero_()
            self._load(gradient[some], frame[:, : self.height, : self.width])
            tiles = self._buffer("tiles", TILE**2, len(frame) * self.tiles, channels)
            by_tile = frame.view(len(frame), self.down + 1, TILE, self.along + 1, TILE, channels)[:, :-1, :, :-1]
            tiles.view(TILE, TILE, len(frame), self.down, self.along, channels).copy_(by_tile.permute(2, 4, 0, 1, 3, 5))
            self._apply(self._transforms.outputs.T, tiles, self.rows(out, some))
        return out

    def points_adjoint(self, points: Tensor, out: Tensor) -> Tensor:
        """The adjoint of `points`: the gradient at the points as that of the inputs; into `out`, which it returns."""
        channels = out.shape[1]
        for some in self._groups(len(out), channels):
            count = some.stop - some.start
            found = self._buffer("sums", REACH**2, count * self.tiles, channels)
            self._apply(self._transforms.inputs.T, self.rows(points, some), found)
            tiles = found.view(REACH, REACH, count, self.down, self.along, channels).permute(2, 3, 0, 4, 1, 5)
            frame = self._frame(count, channels)
            by_tile = frame.view(count, self.down + 1, TILE, self.along + 1, TILE, channels)
            by_tile[:, -1, :2].zero_()
            by_tile[:, :, :, -1, :2].zero_()
            by_tile[:, :-1, :, :-1] = tiles[:, :, :TILE, :, :TILE]
            # The last two rows and columns of a tile are the first two of the next one.
            by_tile[:, 1:, :2, :-1] += tiles[:, :, TILE:, :, :TILE]
            by_tile[:, :-1, :, 1:, :2] += tiles[:, :, :TILE, :, TILE:]
            by_tile[:, 1:, :2, 1:, :2] += tiles[:, :, TILE:, :, TILE:]
            self._store(frame[:, 1 : self.height + 1, 1 : self.width + 1], out[some])
        return out

    def product(self, first: Tensor, second: Tensor) -> Tensor:
        """The 36 products of matrices."""
        out = self._buffer("product", len(first), first.shape[1], second.shape[2])
        return batched_product(first, second, out)

    def _groups(self, count: int, channels: int) -> list[slice]:
        """Of `count` maps, so many at a time that their values at the points stay in a cache while they are made.

        All together where several threads share each operation, which keep busier with longer ones.
        """
        if torch.get_num_threads() > 1:
            return [slice(0, count)]
        most = max(1, IN_CACHE // (REACH**2 * self.tiles * channels))
        return [slice(first, min(first + most, count)) for first in range(0, count, most)]

    def rows(self, points: Tensor, some: slice) -> Tensor:
        """The tiles of some maps, `[side side, n tiles, C]`, a view."""
        return points[:, some.start * self.tiles : some.stop * self.tiles]

    def _apply(self, matrix: Tensor, tiles: Tensor, out: Tensor) -> None:
        """`matrix` `[to, side]` along both sides of tiles `[side side, n tiles, C]`, into `out` `[to to, n tiles, C]`.

        Either may be the tiles of some maps among more. A product for each row and column, since threads share these,
        and not a single one of a small matrix.
        """
        to, side = matrix.shape
        halfway = self._buffer("halfway", side, to, tiles.shape[1] * tiles.shape[2])
        by_row, by_column = tiles.flatten(1).unflatten(0, (side, side)), out.flatten(1).unflatten(0, (to, to))
        torch.bmm(matrix.expand(side, to, side), by_row.transpose(0, 1), out=halfway)
        torch.bmm(matrix.expand(to, to, side), halfway.transpose(0, 1), out=by_column)

    def _buffer(self, name: str, *shape: int) -> Tensor:
        """Memory that the next call with the same name uses again, or a part of it: new pages cost time."""
        size, key = prod(shape), (name, self._like.dtype)
        kept = _SCRATCH.kept.get(key)
        if kept is None or kept.numel() < size:
            kept = _SCRATCH.kept[key] = self._like.new_empty(size)
        return kept[:size].view(shape)

    def _frame(self, count: int, channels: int) -> Tensor:
        """`[n, H', W', C]` with a tile to spare in both directions, as the last one to use it left it."""
        return self._buffer("frame", count, (self.down + 1) * TILE, (self.along + 1) * TILE, channels)

    def _load(self, maps: Tensor, inside: Tensor) -> None:
        """`[n, C, H, W]` into `[n, H, W, C]`."""
        if maps.stride(1) == 1:
            inside.copy_(maps.permute(0, 2, 3, 1))
            return
        count, channels = maps.shape[:2]
        if count >= MANY:
            for first in range(0, channels, SLICE):
                inside[..., first : first + SLICE] = maps[:, first : first + SLICE].permute(0, 2, 3, 1)
            return
        turned = self._buffer("turned", self.height * self.width, channels)
        for one, place in zip(maps, inside, strict=True):  # whole matrices are transposed in blocks, by one thread
            place.copy_(turned.copy_(one.reshape(channels, -1).T).view(place.shape))

    def _store(self, inside: Tensor, out: Tensor) -> Tensor:
        """`[n, H, W, C]` into `[n, C, H, W]`."""
        if out.stride(1) == 1:
            out.permute(0, 2, 3, 1).copy_(inside)
            return out
        count, channels = out.shape[:2]
        if count >= MANY:
            for row in range(self.height):
                out[:, :, row] = inside[:, row].mT
            return out
        for one, place in zip(inside, out, strict=True):
            place.view(channels, -1).copy_(one.reshape(-1, channels).T)
        return out
