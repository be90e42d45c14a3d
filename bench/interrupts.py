"""Interruptions: the first one asks long work to stop where nothing is lost, the second stops it at once."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger(__name__)


@contextmanager
def interruptible(after: str) -> Iterator[Callable[[], bool]]:
    """Turns the first interrupt or termination signal into a request to stop; a second one stops now.

    Args:
        after: what is finished first, such as "step", for the notice.

    Yields:
        Whether it was asked to stop. Outside the main thread, which alone receives signals, never.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        log.info("stopping after this %s; once more to stop at once", after)

    for number in before:
        signal.signal(number, ask)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interruption(error: BaseException | None) -> KeyboardInterrupt | None:
    """The interruption from which an exception came; None when it came from none."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error
