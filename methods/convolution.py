"""3x3 convolutions of stride 1, which training spends its time in, by the faster of two ways.

`convolve` is `functional.conv2d` with zero padding 1. It takes the transforms of `methods/winograd.py` where
`pays` says so and a gradient for the weight is asked for, or `while_training`, and PyTorch's own kernels everywhere
else. Predictions keep PyTorch's sums, whose rounding error is smaller, unless they call `outputs`. Gradients of
gradients are refused where the transforms are taken. Transposed convolutions are left to PyTorch: theirs took 81
products in place of 144, and no less time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.products import batched_product, longer, onednn_pays
from methods.winograd import AT_ONCE, REACH, TILE, Tiling, transformed, weight_gradient
from metrics.errors import MethodError

CHANNELS = 128
"""Fewest channels on both sides for which the transforms are worth their time. Twice as many are needed where oneDNN
multiplies, whose own convolutions are faster too, and a weight is transformed for one use."""

TILES, TILES_AT_ONCE = 64, 16
"""Fewest tiles for each transform of a weight, and for each use of it."""

_TRAINING: ContextVar[bool] = ContextVar("what is computed without a graph is for training", default=False)


def pays(x: Tensor, weight: tuple[int, ...], uses: float = 1) -> bool:
    """Whether the transforms are the faster way for `x` `[N, C, H, W]` and a weight `[O, C, 3, 3]` of that shape.

    They are on the CPU, in float32 and float64, where channels and tiles of 4x4 positions are many enough. GPUs have
    such kernels of their own. Under autocast, PyTorch's kernels run in half precision, in which the transforms would
    lose too much.

    Args:
        uses: of the weight after it was transformed, for as many maps each.
    """
    height, width = x.shape[-2:]
    channels = 2 * CHANNELS if uses == 1 and onednn_pays() else CHANNELS
    tiles = len(x) * -(-height // TILE) * -(-width // TILE)
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and min(weight[:2]) >= channels
        and tiles >= TILES_AT_ONCE
        and tiles * uses >= TILES
    )


@contextmanager
def while_training() -> Iterator[None]:
    """What `convolve` computes within, without a graph, is what a loss compares with: the transforms will do."""
    token = _TRAINING.set(True)
    try:
        yield
    finally:
        _TRAINING.reset(token)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolves `[N, C, H, W]` with `[O, C, 3, 3]`, zero padding 1: `[N, O, H, W]`."""
    if (torch.is_grad_enabled() or _TRAINING.get()) and weight.requires_grad and pays(x, weight.shape):
        return convolve_transformed(x, transform_weight(weight), bias)
    return F.conv2d(x, weight, bias, padding=1)


def transform_weight(weight: Tensor) -> Tensor:
    """`[O, C, 3, 3]` at the points, `[36, O, C]`, with its graph."""
    return cast(Tensor, _Transform.apply(weight))


def convolve_transformed(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As `convolve`, by the transforms, with a weight that `transform_weight` returned."""
    return cast(Tensor, _Convolution.apply(x, weight, bias, torch.is_grad_enabled() and weight.requires_grad))


def outputs(x: Tensor, weight: Tensor, bias: Tensor | None = None, kept: Tensor | None = None) -> Tensor:
    """What `convolve_transformed` computes, in the memory layout of `x`, without a graph.

    Args:
        x, weight, bias: as there.
        kept: where the values of x at the points are to be left, of `point_memory`.
    """
    found = _like(x, weight.shape[1])
    tiling, parts = _parts(x, weight)
    for part in parts:
        points = tiling.points(x[part], None if kept is None else tiling.rows(kept, part))
        tiling.maps(tiling.product(points, weight.mT), bias, found[part])
    return found


def input_gradient(gradient: Tensor, weight: Tensor, kept: Tensor | None = None) -> Tensor:
    """The gradient for x from that of the outputs; `kept` as in `outputs`, for the gradient."""
    found = _like(gradient, weight.shape[2])
    tiling, parts = _parts(gradient, weight)
    for part in parts:
        points = tiling.maps_adjoint(gradient[part], None if kept is None else tiling.rows(kept, part))
        tiling.points_adjoint(tiling.product(points, weight), found[part])
    return found


def point_memory(like: Tensor, channels: int, steps: int = 1) -> Tensor:
    """For the values at the points of maps like these, of each of so many steps: `[36, steps, n tiles, channels]`."""
    return like.new_empty((REACH**2, steps, len(like) * Tiling(like).tiles, channels))


def point_product(x: Tensor, gradient: Tensor) -> Tensor:
    """The gradient for the weight at the points, `[36, O, C]`.

    Args:
        x, gradient: what `outputs` and `input_gradient` left of all steps, `[36, steps, n tiles, C or O]`.
    """
    x, gradient = x.flatten(1, 2), gradient.flatten(1, 2)
    return batched_product(gradient.mT, x, x.new_empty((len(x), gradient.shape[2], x.shape[2])))


def refuse_graph() -> None:
    """Raises MethodError in a backward pass that is to have a graph of its own: here it would get none, silently."""
    if torch.is_grad_enabled():
        raise MethodError(
            "the fast convolutions cannot be differentiated twice: expected backward without "
            "create_graph, found it; set CHANNELS in methods/convolution.py out of reach for that"
        )


class _Transform(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        return transformed(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        refuse_graph()
        return weight_gradient(gradient)


class _Convolution(torch.autograd.Function):
    """What it keeps of x, where the weight is to learn, are its values at the points, which the gradient takes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, learns: bool) -> Tensor:
        kept = point_memory(x, x.shape[1]) if learns else None
        ctx.save_for_backward(kept, weight)
        return outputs(x, weight, bias, kept if kept is None else kept[:, 0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        refuse_graph()
        kept, weight = ctx.saved_tensors
        of_x, _, of_bias, _ = ctx.needs_input_grad
        found, moved = None, None
        points = None if kept is None else point_memory(gradient, gradient.shape[1])
        if of_x:
            found = input_gradient(gradient, weight, points if points is None else points[:, 0])
        elif points is not None:
            Tiling(gradient).maps_adjoint(gradient, points[:, 0])
        if points is not None:
            moved = point_product(kept, points)
        return found, moved, gradient.sum((0, 2, 3)) if of_bias else None, None


def _parts(x: Tensor, weight: Tensor) -> tuple[Tiling, list[slice]]:
    """A few maps at a time, about as many each time."""
    tiles = -(-x.shape[2] // TILE) * -(-x.shape[3] // TILE)
    most = max(1, int(AT_ONCE * longer() * max(weight.shape[1:])) // tiles)
    most = -(-len(x) // -(-len(x) // most))
    return Tiling(x), [slice(first, first + most) for first in range(0, len(x), most)]


def _like(x: Tensor, channels: int) -> Tensor:
    """New memory for maps of the size of `x`, channels innermost where they are so in `x`."""
    layout = torch.channels_last if x.stride(1) == 1 else torch.contiguous_format
    return torch.empty((len(x), channels, *x.shape[2:]), dtype=x.dtype, memory_format=layout)
