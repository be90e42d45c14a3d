"""Half precision: which types it is, and the way out of it."""

from __future__ import annotations

import torch
from torch import Tensor

HALF = (torch.bfloat16, torch.float16)


def full(x: Tensor) -> Tensor:
    """`x` in float32 where it has half precision."""
    return x.float() if x.dtype in HALF else x
