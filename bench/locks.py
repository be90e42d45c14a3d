"""Locks between processes: a file that says who holds it. The system frees them when their process ends, however."""

from __future__ import annotations

import errno
import json
import logging
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import provenance

log = logging.getLogger(__name__)


@contextmanager
def locked(path: Path, held: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock `path` for a block; its folder is made, and the file removed afterwards.

    The lock belongs to the process: not to its children, and not to one of its threads.

    Args:
        held: called once, with a description of the process that holds the lock, when it is not free. It raises, or
            returns to wait until it is.

    Raises:
        OSError: the file cannot be written.
    """
    handle = _acquired(path, held)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(_own()).encode())
        yield
    finally:
        path.unlink(missing_ok=True)  # first, so that nobody takes a lock that is about to vanish
        os.close(handle)


def _acquired(path: Path, held: Callable[[str], None]) -> int:
    """The open file, locked."""
    wait = False
    while True:
        handle = _opened(path)
        kept = False
        try:
            if not _taken(handle, path, wait):
                held(_holder(path))
                wait = True
            elif _is_at(handle, path):  # else it was removed by the process that held it before
                kept = True
                return handle
        finally:
            if not kept:
                os.close(handle)


def _opened(path: Path) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:  # another process has just removed the folder, which was empty
            continue


def _taken(handle: int, path: Path, wait: bool) -> bool:
    import fcntl

    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            raise
        log.warning("%s: this file system has no locks; do not run the same command twice at once", path.parent)
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return path.stat().st_ino == os.fstat(handle).st_ino
    except FileNotFoundError:
        return False


def _own() -> dict[str, str | int]:
    return {
        "process": os.getpid(),
        "machine": platform.node(),
        "since": provenance.now(),
        "command": provenance.command(),
    }


def _holder(path: Path) -> str:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):  # removed, or not yet written
        return "a process that has just begun or ended"
    return f"process {found['process']} on {found['machine']}, since {found['since']} ({found['command']})"
