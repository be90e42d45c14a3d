"""What becomes of a call of a method under test: a prediction, something else, or an exception of any kind."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import torch
from torch import Tensor

from methods.interface import RANGE_SLACK
from metrics.errors import MethodError

AXES = "[B, S, T, 3, H, W]"


class PredictionFault(MethodError):
    """A method raised, or returned something that is no prediction."""

    def __init__(self, expected: str, found: str, cure: str) -> None:
        super().__init__(f"expected {expected}, found {found}. {cure}")
        self.expected, self.found, self.cure = expected, found, cure


@dataclass(frozen=True)
class Outcome:
    """What became of a call.

    Attributes:
        value: what was returned; None when it raised.
        error: what was raised.
        moved: the global random generators that it moved.
        written: the inputs that it wrote to.
    """

    value: Any
    error: Exception | None
    moved: tuple[str, ...]
    written: tuple[str, ...]


class Caught:
    """Keeps the exception of a block. A method under test is somebody else's code, and may raise anything."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, Exception):
            self.error = error
            return True
        return False


def check_shape(outcome: Outcome, shape: tuple[int, ...], axes: str = AXES) -> None:
    """Raises PredictionFault unless a call returned a tensor of that shape, whose axes are named for the message."""
    value = outcome.value
    if outcome.error is not None:
        raise PredictionFault("a prediction", described(outcome.error), "Correct the method, or what the card admits.")
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        found = (
            f"shape {list(value.shape)}" if isinstance(value, Tensor) else f"an object of type {type(value).__name__}"
        )
        raise PredictionFault(f"a tensor {axes} = {list(shape)}", found, "Return the shape asked for.")


def check_finite(value: Tensor) -> None:
    """Raises PredictionFault where a value is NaN or infinite."""
    bad = ~torch.isfinite(value)
    if bool(bad.any()):
        raise PredictionFault(
            "finite values",
            f"{int(bad.sum())} of {bad.numel()} values NaN or infinite in a prediction of shape {list(value.shape)}",
            "Look for divisions by zero, roots and logarithms.",
        )


def check_range(value: Tensor) -> None:
    """Raises PredictionFault where a value is outside [0, 1]."""
    low, high = float(value.min()), float(value.max())
    if low < -RANGE_SLACK or high > 1 + RANGE_SLACK:
        raise PredictionFault(
            "values in [0, 1]",
            f"[{low:.4g}, {high:.4g}] in a prediction of shape {list(value.shape)}",
            "Divide by 255." if high > 2 else "Map [-1, 1] to [0, 1]." if low < -0.5 else "Use clamp(0, 1).",
        )


def checked(outcome: Outcome, shape: tuple[int, ...], axes: str = AXES) -> Tensor:
    """The prediction of a call, float32 in [0, 1] on the CPU.

    Args:
        shape, axes: expected, and the names of its axes for messages.

    Raises:
        PredictionFault: it raised, or returned something else than a float tensor of that shape with finite values in
            [0, 1].
    """
    check_shape(outcome, shape, axes)
    value = cast(Tensor, outcome.value)
    if not value.is_floating_point():
        raise PredictionFault("a floating point tensor", f"{value.dtype}", "Return values in [0, 1] as float32.")
    check_finite(value)
    check_range(value)
    return value.detach().float().cpu()


def described(error: Exception) -> str:
    """An error as a few words; with the line it comes from, unless its message was written for users."""
    text = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else '(no message)'}"
    trace = traceback.extract_tb(error.__traceback__)
    if isinstance(error, MethodError) or not trace:
        return text
    return f"{text} ({Path(trace[-1].filename).name}, line {trace[-1].lineno})"


def difference(one: Tensor, other: Tensor) -> float:
    """Largest absolute difference; NaN counts as equal to nothing."""
    return float((one - other).abs().nan_to_num(nan=float("inf")).max())


def named(numbers: frozenset[int]) -> str:
    """Numbers as words; a long run of them as its ends."""
    listed = sorted(numbers)
    if len(listed) > 4 and listed[-1] - listed[0] == len(listed) - 1:
        return f"{listed[0]} to {listed[-1]}"
    return ", ".join(map(str, listed))
