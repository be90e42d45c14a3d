"""Short convolution by Cook-Toom (Winograd) transforms along one axis, four outputs at a time.

A. Lavin, S. Gray: Fast algorithms for convolutional neural networks, arXiv:1509.09308, section 4. Four outputs of
a filter of 3 taps take 6 products instead of 12, of 4 taps 7 instead of 16. With the points used here the
float32 error is up to four times that of the plain sum, about 1e-6 of the result's norm.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TILE = 4
"""Outputs of one transform."""

PAIRS = {3: (1.0, 2.0), 4: (1.0, 0.5, 2.0)}
"""Evaluation points by number of taps: +a and -a for each a listed, infinity, and zero when the taps are odd."""


class RowConv(nn.Module):
    """A 3-D convolution of clips kept as `[H, N, T, W, C]`: by transforms along H, directly over T and W.

    H is the outermost axis in memory, so that a transform is a sum of whole rows. In H the stride is 1, and one
    row of padding lies before the first.

    Args:
        weight: float64 `[O, C, t, h, w]`, h = 3 or 4.
        bias: float64 `[O]`.
        stride: in T and W.
    """

    def __init__(self, weight: Tensor, bias: Tensor, stride: tuple[int, int] = (1, 1)) -> None:
        super().__init__()
        self.taps = weight.shape[3]
        self.channels = len(bias)
        self.stride = stride
        for index, kernel in enumerate(_kernels(weight)):
            self.register_buffer(f"kernel_{index}", channels_last(kernel), persistent=False)
        self.register_buffer("bias", bias.float(), persistent=False)

    def rows(self, height: int) -> int:
        """Rows that `forward` reads for an output of `height`: one more before the first, the others after the last."""
        return -(-height // TILE) * TILE + self.taps - 1

    def forward(self, x: Tensor, out: Tensor, padding: tuple[int, int] = (1, 1)) -> Tensor:
        """Convolves `x` `[rows(H), N, T, W, C]` into `out` `[H, N, T', W', O]`, which may be a strided view.

        Args:
            padding: zeros on both sides in T and W. In H the padding is part of `x`.
        """
        span = TILE * (-(-len(out) // TILE) - 1) + 1
        shifted = [x[first : first + span : TILE] for first in range(TILE + self.taps - 1)]
        # Where a constant is evaluated at 1 and nowhere else, it reaches all outputs alike: the bias goes there.
        at_one = self.taps % 2
        products = []
        for index, row in enumerate(_at_points(shifted, self.taps)):
            bias = self.get_buffer("bias") if index == at_one else None
            products.append(conv2d(row, self.get_buffer(f"kernel_{index}"), bias, self.stride, padding))
        _interpolate(products, self.taps, out)
        return out


def channels_last(kernel: Tensor) -> Tensor:
    """`[O, C, t, w]` in float32 with the channels innermost in memory."""
    return kernel.float().contiguous(memory_format=torch.channels_last)


def conv2d(
    x: Tensor, kernel: Tensor, bias: Tensor | None, stride: tuple[int, int] = (1, 1), padding: tuple[int, int] = (0, 0)
) -> Tensor:
    """Convolves `[H, N, T, W, C]` over T and W with `[O, C, t, w]`."""
    y = F.conv2d(x.flatten(0, 1).permute(0, 3, 1, 2), kernel, bias, stride, padding)
    return y.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


def _kernels(weight: Tensor) -> Iterator[Tensor]:
    """The filter, a polynomial along h, at every point: float64 `[O, C, t, w]`, with the weights of interpolation."""
    taps = weight.shape[3]
    points = [0.0] * (taps % 2) + [sign * a for a in PAIRS[taps] for sign in (1, -1)]
    for point in points:
        scale = 1 / prod(point - other for other in points if other != point)
        yield torch.stack([weight[:, :, :, tap] * (scale * point**tap) for tap in range(taps)]).sum(0)
    yield weight[:, :, :, -1]


def _at_points(rows: list[Tensor], taps: int) -> Iterator[Tensor]:
    """The transformed input at every point, in the order of `_kernels`."""
    zero = taps % 2
    squares = [a * a for a in PAIRS[taps]]
    if zero:
        yield _even_polynomial(rows, squares)
    for a in PAIRS[taps]:
        others = [square for square in squares if square != a * a]
        even = _even_polynomial(rows[zero + 1 :], others)
        odd = _even_polynomial(rows[zero:], others)
        yield torch.add(even, odd, alpha=a)
        yield even.sub_(odd, alpha=a)
    yield _even_polynomial(rows[zero:], squares)


def _even_polynomial(rows: list[Tensor], squares: list[float]) -> Tensor:
    """prod(x^2 - s) over s in `squares`, with x^k replaced by rows[k]; a new tensor."""
    coefficients = [1.0]  # of powers of x^2, constant first
    for s in squares:
        coefficients = [a - s * b for a, b in zip([0.0, *coefficients], [*coefficients, 0.0], strict=True)]
    total = torch.add(rows[2 * len(squares)], rows[0], alpha=coefficients[0])
    for power in range(1, len(squares)):
        total.add_(rows[2 * power], alpha=coefficients[power])
    return total


def _interpolate(products: list[Tensor], taps: int, out: Tensor) -> None:
    """Writes the four outputs of each tile; overwrites `products`."""
    at_zero = products[0] if taps % 2 else None
    *finite, at_infinity = products[taps % 2 :]
    sums = [plus + minus for plus, minus in zip(finite[::2], finite[1::2], strict=True)]
    differences = [plus.sub_(minus) for plus, minus in zip(finite[::2], finite[1::2], strict=True)]
    extra = [at_zero, None, None, at_infinity]
    for i in range(TILE):
        first, *middle = differences if i % 2 else sums  # of +1 and -1, whose powers need no factor
        found = extra[i]
        total = first if found is None else found.add_(first)
        *inner, last = zip(middle, PAIRS[taps][1:], strict=True)
        for term, a in inner:
            total = torch.add(total, term, alpha=a**i)
        term, a = last
        target = out[i::TILE]
        torch.add(total[: len(target)], term[: len(target)], alpha=a**i, out=target)
