"""Keeps a network's arithmetic as written: full float32, no autocast, no gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def _switches() -> tuple[Any, ...]:
    backends: Any = torch.backends
    return (backends.cudnn.conv, backends.cuda.matmul, backends.mkldnn.conv, backends.mkldnn.matmul)


@contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Runs the block without gradients, autocast, or float32 products in TF32 or bfloat16; restores the user's choice.

    cuDNN convolutions use TF32 unless told not to, which moves I3D logits by 1e-3.
    """
    before = [switch.fp32_precision for switch in _switches()]
    try:
        for switch in _switches():
            switch.fp32_precision = "ieee"
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        for switch, precision in zip(_switches(), before, strict=True):
            switch.fp32_precision = precision
