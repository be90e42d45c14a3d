"""Somebody else's code, a method or the reader of a data set, may raise anything: an error that says where."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from metrics.errors import PokeBenchError


class Reported:
    """Turns an exception of a block into an error with a message for the user.

    Errors that are such already, what is no ordinary exception, such as an interruption, and the news of the end of a
    worker, which has nothing to do with the block, pass unchanged.

    Args:
        into: makes the error, which is raised from the exception; None lets the exception pass.
    """

    def __init__(self, into: Callable[[Exception], PokeBenchError | None]) -> None:
        self._into = into

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, PokeBenchError) and not of_worker(error):
            made = self._into(error)
            if made is not None:
                raise made from error


def of_worker(error: BaseException) -> bool:
    """Whether an exception is torch's news that a process of a DataLoader has ended early.

    Torch raises it in the main thread as soon as it hears of it, whatever that thread is doing.
    """
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")


def described(error: Exception, owner: Any) -> str:
    """Type, message and place of an exception: the last line of it in the file of `owner`'s class, else the last."""
    text = str(error).strip()
    said = f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
    trace = traceback.extract_tb(error.__traceback__)
    if not trace:
        return said
    file = getattr(sys.modules.get(type(owner).__module__), "__file__", None)
    own = [frame for frame in trace if frame.filename == file]
    place = (own or trace)[-1]
    return f"{said} ({Path(place.filename).name}, line {place.lineno}, in {place.name})"
