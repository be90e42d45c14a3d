"""The least time that a program's operations take on a device, each by its arithmetic or by the memory that it moves.

S. Williams, A. Waterman, D. Patterson: Roofline: an insightful visual performance model for multicore architectures,
Communications of the ACM 52(4), 2009. Counting needs no such device: it works on fake tensors as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from math import prod
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


class Operation(NamedTuple):
    """One call.

    Attributes:
        name: in ATen.
        flops: floating-point operations, of convolutions and products of matrices alone.
        bytes: of all tensors that it reads or writes, each once.
    """

    name: str
    flops: float
    bytes: float


def operations(program: Callable[[], object], fused: Collection[str] = ()) -> list[Operation]:
    """What a program calls, views and unwritten memory left out.

    Args:
        fused: names of calls that are part of the one before where the time is to be known.
    """
    with _Calls(fused) as calls:
        program()
    return calls.found


def flops(found: Iterable[Operation]) -> float:
    """Floating-point operations of all calls, forward and backward."""
    return sum(one.flops for one in found)


def least_seconds(found: Iterable[Operation], peak: float, bandwidth: float) -> float:
    """Of operations one after another, none of which keeps anything on the chip for the next.

    Args:
        peak: floating-point operations a second.
        bandwidth: bytes a second.
    """
    return sum(max(one.flops / peak, one.bytes / bandwidth) for one in found)


class _Calls(TorchDispatchMode):
    def __init__(self, fused: Collection[str]) -> None:
        super().__init__()
        self.found: list[Operation] = []
        self._fused = fused

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        outcome = func(*args, **(kwargs or {}))
        space, name = func._schema.name.split("::")
        idle = space != "aten" or func.is_view or name.startswith(("empty", "new_empty", "_unsafe_view"))
        if not idle and name not in self._fused:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, outcome)) if isinstance(leaf, Tensor)]
            moved = {id(tensor): tensor.numel() * tensor.element_size() for tensor in tensors}
            self.found.append(Operation(name, _flops(func, args, kwargs or {}, outcome), sum(moved.values())))
        return outcome


def _flops(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outcome: Any) -> float:
    name = func._schema.name.removeprefix("aten::")
    if name == "_addmm_activation":
        return 2.0 * outcome.numel() * args[1].shape[1]
    if name == "cudnn_convolution_relu":
        return 2.0 * outcome.numel() * prod(args[1].shape[1:])
    known = flop_registry.get(func._overloadpacket)
    return 0.0 if known is None else float(known(*args, **kwargs, out_val=outcome))
