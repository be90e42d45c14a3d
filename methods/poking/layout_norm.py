"""Instance normalisation in the precision and the memory layout of what it is given, for training on a GPU.

There PyTorch (2.11) brings maps with channels innermost into its own order before it normalises them, and those of half
precision into float32 under autocast; the next convolution brings them back. Of a step in bfloat16 these passes move as
much memory as the normalisation itself.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

EPSILON = 1e-5
PLACES = (2, 3)


def layout_norm(x: Tensor) -> Tensor:
    """`functional.instance_norm` of `[N, C, H, W]` without parameters, of the type and layout of x.

    Sums are in float32, or float64 where x is. The variance is the mean square less the squared mean: where that mean
    is far from zero, 4 digits of the variance are lost for each factor of 100 between it and the spread. It can be
    differentiated once.
    """
    return cast(Tensor, _LayoutNorm.apply(x))


class _LayoutNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        kind = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            mean = x.mean(PLACES, keepdim=True, dtype=kind)
            length = torch.linalg.vector_norm(x, dim=PLACES, keepdim=True, dtype=kind)
            variance = (length.square() / x[0, 0].numel() - mean.square()).clamp_(min=0)
            scale = (variance + EPSILON).rsqrt()
            # With tables of another type, sums are in that type and rounded once, without a copy of x in it.
            found = torch.addcmul(-mean * scale, x, scale, out=torch.empty_like(x))
        ctx.save_for_backward(x, mean, scale)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """With x' = (x - mean) r and means m over a map, r (g - m(g) - x' m(g x')): a g + b x + c for each map."""
        x, mean, scale = ctx.saved_tensors
        whole = gradient.mean(PLACES, keepdim=True, dtype=mean.dtype)
        product = torch.addcmul(mean.new_zeros(1, 1, 1, 1), gradient, x)  # in the type of the sums
        slope = scale * (product.mean(PLACES, keepdim=True) - mean * whole)
        bend = -scale.square() * slope
        rest = torch.addcmul(-scale * whole - bend * mean, x, bend)
        return torch.addcmul(rest, gradient, scale, out=torch.empty_like(x))
