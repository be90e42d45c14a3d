"""The heavy calls of a roll-out through torch.compile, for adapters with the option `compiled`.

What is compiled are single steps of a recurrence, without a graph, once for each shape and never for a range of
shapes. Compiling takes minutes at the first prediction of each shape.

It is meant for GPUs, where the small calls of a recurrence wait for each other. On a CPU most of the time goes into
convolutions, which compiling leaves as they are, and little is won: `results/benchmarks/` has the ratios, measured by
`tests/benchmarks/test_compiled_speed.py`. Hao et al. and SRVP, which make all frames at once, have no such option.

Compiled and plain steps agree to rounding: within 1e-5 in full float32 on a CPU. Where convolutions are in TF32, as on
a GPU unless told otherwise, each form rounds differently and they differ by more; evaluations compute in full float32.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from typing import Any

import torch

from metrics.errors import MethodError

NOTE = " Its steps were compiled (torch.compile): within 1e-5 of the plain ones in full float32 on a CPU, more in TF32."
"""What the notes of a card say besides."""


SHAPES: dict[str, Any] = {"isolate_recompiles": True, "recompile_limit": 64}
"""A compiled function counts its shapes by itself, and takes so many."""


def check_compiler(name: str, device: torch.device) -> None:
    """Looks for what compiling needs: on a CPU a C++ compiler ($CXX, or the system's), on a GPU a C compiler ($CC).

    Args:
        name: of the method.

    Raises:
        MethodError: there is none.
    """
    usual: tuple[str, ...]
    if device.type == "cpu":
        language, variable, usual = "C++", "CXX", ("clang++" if sys.platform == "darwin" else "g++",)
    else:
        language, variable, usual = "C", "CC", ("gcc", "clang", "cc")
    named = os.environ.get(variable, "").split()[:1]  # options may follow
    wanted = named or list(usual)
    if not any(shutil.which(command) for command in wanted):
        raise MethodError(
            f"{name}: compiled=true needs a {language} compiler on {device.type}, expected {' or '.join(wanted)} on "
            f"the path, found none; install one (such as g++), name it in ${variable}, or leave compiled out"
        )


def compiled_form(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` compiled as a whole, anew for each shape of its tensors.

    Args:
        name: of the method.

    Raises:
        MethodError: from a call, where the function cannot be compiled on this machine.
    """
    # With `fullgraph`, what cannot be compiled, or not for so many shapes, is an error, and not run as it is silently.
    inner = torch.compile(function, fullgraph=True, dynamic=False, **SHAPES)

    def call(*inputs: Any) -> Any:
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        try:
            return inner(*inputs)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise MethodError(f"{name}: it cannot be compiled here ({reason}); leave compiled out") from error

    return call
