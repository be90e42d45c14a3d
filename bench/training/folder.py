"""The folder of one training: held by one process at a time, and written with a cure where the disk fails."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from safetensors import SafetensorError

from bench.locks import locked
from metrics.errors import TrainingError


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keeps other processes from training in `out`; removes what a killed one left half written there.

    Raises:
        TrainingError: one does already, or the folder cannot be written.
    """

    def held(holder: str) -> None:
        raise TrainingError(
            f"{out} is in use by another training: {holder}. Wait until it has ended, or stop it, and run the same "
            "command again; or give another --out."
        )

    lock = locked(out / ".lock", held)
    with ExitStack() as stack:
        with writing(f"the folder {out}"):
            stack.enter_context(lock)
            for left in out.glob(".*.*.*"):  # what a process that was killed left half written, see `atomic_path`
                left.unlink()
        yield


@contextmanager
def writing(what: str, kept: str = "what was trained before is kept") -> Iterator[None]:
    """Turns a failure to write into an error with a cure.

    Args:
        what: is written, for the message.
        kept: what the failure leaves.

    Raises:
        TrainingError: something cannot be written.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        said = (getattr(error, "strerror", None) or str(error)).strip()
        cure = "Free some space" if full else "Make it writable"
        raise TrainingError(
            f"{what} cannot be written ({said}); {kept}. {cure} and run the same command again."
        ) from error
