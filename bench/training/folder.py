"""The folder of one training: held by one process at a time, and written with a cure where the disk fails."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from safetensors import SafetensorError

from bench.locks import locked
from bench.training.plan import Plan, read_plan
from metrics.cache import atomic_path
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


def store_plan(plan: Plan, out: Path) -> None:
    """Writes the plan into the folder of its training.

    Raises:
        TrainingError: the folder holds a training under another plan.
    """
    out.mkdir(parents=True, exist_ok=True)
    target = out / "plan.json"
    if target.is_file():
        before = read_plan(target)
        if before.identity != plan.identity:
            different = [
                f"{section}.{key}: {old.get(key)!r} there, {value!r} here"
                for section in ("model", "data", "loop", "start")
                for old, new in [(before.model_dump()[section] or {}, plan.model_dump()[section] or {})]
                for key, value in new.items()
                if old.get(key) != value
            ]
            raise TrainingError(
                f"{out} holds a training under another plan ({'; '.join(different) or 'another method'}). "
                "Give the same settings to go on, or another --out to start anew."
            )
    with atomic_path(target) as temporary:
        temporary.write_text(json.dumps(plan.model_dump(mode="json"), indent=1))
