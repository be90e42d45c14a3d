"""What both arrangements of the I3D network share: the layer table, folding, padding, the linear tail."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Folded = dict[str, tuple[Tensor, Tensor]]
"""Layer name -> float64 weight `[O, C, t, h, w]` and bias `[O]`."""

EARLY = ("Mixed_3b", "Mixed_3c")
LATE = ("Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f", "Mixed_5b", "Mixed_5c")
EPSILON = 1e-3
"""Of the batch norms."""


class Pool(NamedTuple):
    """Max pooling with SAME padding; sizes in (time, height, width)."""

    size: tuple[int, int, int]
    stride: tuple[int, int, int]


POOLS = {
    "Conv3d_1a_7x7": Pool((1, 3, 3), (1, 2, 2)),
    "Conv3d_2c_3x3": Pool((1, 3, 3), (1, 2, 2)),
    "Mixed_3c": Pool((3, 3, 3), (2, 2, 2)),
    "Mixed_4f": Pool((2, 2, 2), (2, 2, 2)),
}
"""The pools between blocks, by the layer that they follow."""

MIXED_POOL = Pool((3, 3, 3), (1, 1, 1))
"""The pool of branch 3."""


def fold(tensors: dict[str, Tensor]) -> Folded:
    """Folds each batch norm into the convolution before it, in float64.

    Args:
        tensors: as `metrics.weights.weights("i3d-kinetics-400")` returns them.
    """
    folded = {"Logits": (tensors["Logits.weight"].double(), tensors["Logits.bias"].double())}
    for key in tensors:
        if key.endswith(".beta"):
            name = key.removesuffix(".beta")
            weight, beta, mean, var = (tensors[f"{name}.{kind}"].double() for kind in ("weight", "beta", "mean", "var"))
            scale = (var + EPSILON).rsqrt()
            folded[name] = (weight * scale[:, None, None, None, None], beta - mean * scale)
    return folded


def merged(layers: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Convolutions of one input as one, outputs in the order given."""
    return torch.cat([weight for weight, _ in layers]), torch.cat([bias for _, bias in layers])


def same_padding(n: int, size: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding of an axis of length `n`: places before and after."""
    total = max((-(-n // stride) - 1) * stride + size - n, 0)
    return total // 2, total - total // 2


def tail(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Logits `[B, 400]` from the spatial means `[B, T, 1024]` of Mixed_5c, in the type of `weight`.

    The network averages 2 x 7 x 7, applies the classifier and averages over time; all of it is linear, so the
    averages come first.
    """
    x = x.to(weight.dtype)
    return F.linear(((x[:, 1:] + x[:, :-1]) / 2).mean(1), weight, bias)
