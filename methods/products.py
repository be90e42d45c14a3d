"""Products of matrices on a CPU, by the faster of its two libraries.

PyTorch takes float32 products to MKL, and convolutions to oneDNN. On an AMD EPYC with AVX-512, oneDNN was 1.4 to 2
times as fast at the larger products of `methods/winograd.py`, copies of its results included.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch
from torch import Tensor

SMALL = 1 << 21
"""Multiplications of a product up to which several threads are kept busier by MKL, which takes all products at once."""

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
    if not _by_onednn(first, second):
        return torch.bmm(first, second, out=out)
    linear = torch.ops.mkldnn._linear_pointwise.default  # to choose the overload each time would cost time
    for one, other, place in zip(first.unbind(), second.mT.unbind(), out.unbind(), strict=True):
        place.copy_(linear(one, other, None, "none", [], ""))  # a layer whose weight is `second`, turned round
    return out


def _by_onednn(first: Tensor, second: Tensor) -> bool:
    small = torch.get_num_threads() > 1 and first[0].numel() * second.shape[2] <= SMALL
    on_cpu = first.dtype == torch.float32 and first.device.type == "cpu"
    return on_cpu and onednn_pays() and not small and not _PLAIN.get()
