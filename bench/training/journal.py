"""What a training says of itself: a line of JSON for every entry, TensorBoard scalars and pictures beside it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from bench.training.folder import writing
from metrics.cache import atomic_path
from metrics.errors import TrainingError
from metrics.parsing import CHECKSUM, parse_json, sealed, unsealed


class Journal:
    """The log of one training in `folder`: `log.jsonl` and TensorBoard's event files.

    Entries after `iteration` are dropped when it is opened: a training that goes on from a checkpoint writes them anew.

    Raises:
        TrainingError: by every method: the disk is full or the folder cannot be written. Entries of before are kept.
    """

    def __init__(self, folder: Path, iteration: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._path, self._failed = folder / "log.jsonl", False
        kept = [entry for entry in read_journal(self._path) if entry["iteration"] <= iteration]
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(self._path) as temporary:
                temporary.write_text("".join(_line(entry) for entry in kept))
            self._stream = self._path.open("a", buffering=1)
            self._hook, threading.excepthook = threading.excepthook, self._from_thread
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=iteration + 1)

    def write(self, iteration: int, kind: str, values: Mapping[str, float]) -> None:
        """One entry of `kind` ("train" or "validation") after `iteration` steps."""
        with self._writing():
            self._stream.write(_line({"iteration": iteration, "kind": kind, **values}))
            for name, value in values.items():
                self._board.add_scalar(f"{kind}/{name}", value, iteration)

    def picture(self, iteration: int, name: str, image: Tensor) -> None:
        """A picture, float `[3, h, w]` in [0, 1]."""
        with self._writing():
            self._board.add_image(name, image, iteration)

    def close(self) -> None:
        """Writes what is not written yet. After a failure, which was raised already, that is left."""
        failed = self._failed
        try:
            with self._writing():
                try:
                    self._stream.close()
                finally:
                    self._board.close()
        except TrainingError:
            if not failed:
                raise
        finally:
            threading.excepthook = self._hook

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with writing(f"the log in {self._path.parent}"):
                yield
        except TrainingError:
            self._failed = True
            raise

    def _from_thread(self, args: threading.ExceptHookArgs) -> None:
        """TensorBoard's thread keeps what it failed with for the next call, which raises it: once is enough."""
        if not (isinstance(args.exc_value, OSError) and type(args.thread).__module__.startswith("tensorboard.")):
            self._hook(args)


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The entries of a `log.jsonl`; none when there is no such file. A last line that was cut off is left out.

    Raises:
        TrainingError: it cannot be read, or a line is not what its checksum says.
    """
    cure = "remove it (a training that goes on writes a new one), or restore it"
    if not path.exists():
        return []
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TrainingError(f"{path} cannot be read ({error.strerror or error}); {cure}") from error
    return [
        _entry(line, f"{path}, line {number}", cure) for number, line in enumerate(content.split(b"\n")[:-1], start=1)
    ]


def _entry(line: bytes, where: str, cure: str) -> dict[str, Any]:
    try:
        entry = unsealed(parse_json(line))
        if not isinstance(entry.get("iteration"), int) or not isinstance(entry.get("kind"), str):
            raise ValueError("it names no iteration and kind")
    except ValueError as error:
        raise TrainingError(f"{where}, is damaged ({error}); {cure}") from error
    return entry


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(sealed({key: value for key, value in entry.items() if key != CHECKSUM})) + "\n"
