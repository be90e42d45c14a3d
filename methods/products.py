"""Products of matrices on a CPU, by the faster of its two libraries.

PyTorch takes float32 products to MKL, and convolutions to oneDNN. On an AMD EPYC with AVX-512, oneDNN was 1.4 to 2
times as fast at the larger products of `methods/winograd.py`, copies of its results included.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import cast

import torch
from torch import Tensor

_PLAIN: ContextVar[bool] = ContextVar("products are PyTorch's own", default=False)


@cache
def onednn_pays() -> bool:
    """Whether float32 products go to oneDNN: where it is there, and the processor has AVX-512."""
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


def longer() -> float:
    """How many times as many rows make a product worth its time: oneDNN lays the other matrix out anew in each."""
    return 8.0 if onednn_pays() else 1.0


@contextmanager
def by_pytorch() -> Iterator[None]:
    """Products within are PyTorch's own, which its tools know: its counter of operations, say."""
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def batched_product(first: Tensor, second: Tensor, out: Tensor) -> Tensor:
    """`[P, n, C]` times `[P, C, O]`, without a graph, into `out` `[P, n, O]`, which it returns."""
    if not _by_onednn(first):
        return torch.bmm(first, second, out=out)
    for one, other, place in zip(first, second, out, strict=True):
        place.copy_(_onednn(one, other))
    return out


def add_batched_product(first: Tensor, second: Tensor, out: Tensor) -> Tensor:
    """Adds `[P, n, C]` times `[P, C, O]` to `out` `[P, n, O]`, without a graph; returns it."""
    if not _by_onednn(first):
        return out.baddbmm_(first, second)
    for one, other, place in zip(first, second, out, strict=True):
        place.add_(_onednn(one, other))
    return out


def _by_onednn(first: Tensor) -> bool:
    return first.dtype == torch.float32 and first.device.type == "cpu" and onednn_pays() and not _PLAIN.get()


def _onednn(first: Tensor, second: Tensor) -> Tensor:
    """As a linear layer whose weight is `second`, turned round."""
    return cast(Tensor, torch.ops.mkldnn._linear_pointwise(first, second.mT, None, "none", [], ""))
