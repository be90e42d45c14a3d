"""Progress of long work: a bar with rate and time left on a terminal, a line a minute in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.data.interface import Progress


@contextmanager
def clip_bar(what: str, shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Clips done and in all; `shown` on the first process alone."""
    with progress_bar(what, "clips", shown) as update:
        yield update and (lambda done, total: update(done, total, what))


@contextmanager
def data_bar() -> Iterator[Progress | None]:
    """Whatever is done to prepare data."""
    with progress_bar("data", "steps", True) as update:
        yield update


def line_a_minute() -> Progress:
    """Progress for a log: a line of steps, rate and time left, once a minute."""
    began: list[tuple[float, int]] = []
    said = time.monotonic()

    def report(done: int, total: int, text: str) -> None:
        nonlocal said
        now = time.monotonic()
        if not began:
            began.append((now, done))
            return
        if now - said >= 60 or done == total:
            said = now
            rate = (done - began[0][1]) / (now - began[0][0])
            left = (total - done) / rate / 60
            logging.info("step %d of %d, %.3g a second, %.0f min left: %s", done, total, rate, left, text)

    return report


@contextmanager
def progress_bar(what: str, unit: str, shown: bool) -> Iterator[Progress | None]:
    """A progress bar with rate and time left on a terminal; nothing elsewhere."""
    if not shown or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def update(done: int, total: int, text: str) -> None:
            bar.update(task, completed=done, total=total or None, description=text)

        yield update
