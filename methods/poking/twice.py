"""Group normalisation whose gradient is differentiated in closed form, for penalties on gradients.

PyTorch differentiates the gradient of `group_norm` through well over a hundred small operations a layer.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from methods.precision import full
from metrics.errors import MethodError

EPSILON = 1e-5


def group_norm(x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """`functional.group_norm` of `[N, C, ...]`, in float32 where x has half precision.

    It can be differentiated twice, for x, through the gradient for x alone.
    """
    return cast(Tensor, _Norm.apply(full(x).contiguous(), weight, bias, groups))


class Sizes(NamedTuple):
    """What the kernels ask for: samples, channels, positions of a channel, groups."""

    samples: int
    channels: int
    positions: int
    groups: int


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int) -> Tensor:
        ctx.sizes = sizes = Sizes(len(x), x.shape[1], x[0, 0].numel(), groups)
        found, mean, scale = torch.ops.aten.native_group_norm(x, weight, bias, *sizes, EPSILON)
        ctx.save_for_backward(x, weight, mean, scale)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        of_x, of_weight, of_bias = _Gradient.apply(gradient, x, weight, mean, scale, ctx.sizes, ctx.needs_input_grad)
        return of_x, of_weight, of_bias, None


class _Gradient(torch.autograd.Function):
    """The gradients of `_Norm`; mean and scale are functions of x."""

    @staticmethod
    def forward(
        ctx: Any,
        gradient: Tensor,
        x: Tensor,
        weight: Tensor | None,
        mean: Tensor,
        scale: Tensor,
        sizes: Sizes,
        needed: tuple[bool, ...],
    ) -> tuple[Tensor | None, ...]:
        gradient = gradient.contiguous()
        ctx.set_materialize_grads(False)
        ctx.sizes = sizes
        ctx.save_for_backward(gradient, x, weight, mean, scale)
        mask = [needed[0], needed[1] and weight is not None, needed[2]]
        return torch.ops.aten.native_group_norm_backward(gradient, x, mean, scale, weight, *sizes, mask)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, direction: Tensor | None, of_weight: Tensor | None, of_bias: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """With x' = (x - mean) r, g the gradient times the weight, v the direction and means m over a group:

        the gradient for x is r (g - m(g) - x' m(g x')), and that of its product with v is
        r (v - m(v) - x' m(v x')) for g, and for x
        -r^2 ((g - m(g)) m(v x') + (v - m(v)) m(g x') + (m(v g) - m(v) m(g) - 3 m(v x') m(g x')) x').
        """
        if of_weight is not None or of_bias is not None:
            raise MethodError("group_norm is differentiated twice through the gradient for x alone")
        if direction is None:
            return (None,) * 7
        given, x, weight, mean, scale = ctx.saved_tensors
        samples, channels, positions, groups = ctx.sizes
        shape = (samples, groups, channels // groups, positions)
        r, middle = scale.view(samples, groups, 1, 1), mean.view(samples, groups, 1, 1)
        x_hat, v, dy = (x.view(shape) - middle) * r, direction.reshape(shape), given.view(shape)
        gamma = None if weight is None else weight.view(1, groups, -1, 1)
        g = dy if gamma is None else dy * gamma

        def m(values: Tensor) -> Tensor:
            return values.mean((2, 3), keepdim=True)

        g_mean, v_mean, g_slope, v_slope = m(g), m(v), m(g * x_hat), m(v * x_hat)
        of_g = r * (v - v_mean - x_hat * v_slope)
        bend = m(v * g) - v_mean * g_mean - 3 * v_slope * g_slope
        of_x = -r.square() * ((g - g_mean) * v_slope + (v - v_mean) * g_slope + bend * x_hat)
        of_gamma = None if weight is None else (dy * of_g).sum((0, 3)).view_as(weight)
        of_dy = of_g if gamma is None else of_g * gamma
        return of_dy.view_as(given), of_x.view_as(x), of_gamma, None, None, None, None
