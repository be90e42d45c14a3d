"""What a training says of itself: a line of JSON for every entry, TensorBoard scalars and pictures beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor


class Journal:
    """The log of one training in `folder`: `log.jsonl` and TensorBoard's event files.

    Entries after `iteration` are dropped when it is opened: a training that goes on from a checkpoint writes them anew.
    """

    def __init__(self, folder: Path, iteration: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "log.jsonl"
        kept = [entry for entry in read_journal(self._path) if entry["iteration"] <= iteration]
        self._path.write_text("".join(json.dumps(entry) + "\n" for entry in kept))
        self._stream = self._path.open("a", buffering=1)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=iteration + 1)

    def write(self, iteration: int, kind: str, values: Mapping[str, float]) -> None:
        """One entry of `kind` ("train" or "validation") after `iteration` steps."""
        self._stream.write(json.dumps({"iteration": iteration, "kind": kind, **values}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, iteration)

    def picture(self, iteration: int, name: str, image: Tensor) -> None:
        """A picture, float `[3, h, w]` in [0, 1]."""
        self._board.add_image(name, image, iteration)

    def close(self) -> None:
        """Writes what is not written yet."""
        self._stream.close()
        self._board.close()


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The entries of a `log.jsonl`; none when there is no such file. A last line that was cut off is left out."""
    if not path.is_file():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
