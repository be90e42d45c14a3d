"""Less memory in training: what is big and cheap is not kept for the backward pass, but computed again there.

Nothing that is called here may draw random numbers. Batch norms may be called: they update their running statistics the
first time alone (`methods.layers.BatchNorm` asks `recomputing`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Recompute = Annotated[bool, Field(exclude_if=operator.not_)]
"""Type of the field `recompute` of a configuration. It is written down only where it is on, so that plans and weights
of before there was such a field keep their identity."""

_again: ContextVar[bool] = ContextVar("computed again", default=False)


def recomputing() -> bool:
    """Whether this is the second time, in the backward pass."""
    return _again.get()


def light(function: Callable[..., Any], *inputs: Any, recompute: bool) -> Any:
    """`function(*inputs)`; where `recompute`, its inputs and outputs alone are kept for the backward pass.

    Values and gradients are the same, bit for bit. Without gradients it is a plain call.
    """
    if not (recompute and torch.is_grad_enabled()):
        return function(*inputs)
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=_contexts)


def light_steps(
    function: Callable[..., Any], inputs: Sequence[Tensor | None], state: Any, *, recompute: bool
) -> tuple[Tensor, Any]:
    """`function(*inputs, state)`, a recurrence over sequences; where `recompute`, one `light` step after the other.

    Values and gradients are the same to rounding.

    Args:
        function: takes `inputs` and a state to outputs `[B, T, ...]` and the state after them, for any T.
        inputs: each `[B, T, ...]`, or None in all steps; the first is a tensor.
    """
    if not (recompute and torch.is_grad_enabled()):
        outputs, state = function(*inputs, state)
        return outputs, state
    assert inputs[0] is not None
    steps = inputs[0].shape[1]
    made = []
    for now in zip(*([None] * steps if one is None else one.split(1, dim=1) for one in inputs), strict=True):
        out, state = light(function, *now, state, recompute=True)
        made.append(out)
    return torch.cat(made, dim=1), state


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Of the first and of the second time."""
    return nullcontext(), _second_time()


@contextmanager
def _second_time() -> Iterator[None]:
    token = _again.set(True)
    try:
        yield
    finally:
        _again.reset(token)
