"""Ways to damage a file, and a folder that is put back after each of them."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

FLIPS = 12
NOBODY = 65534


@contextmanager
def without_root() -> Iterator[None]:
    """Within, this process has no rights beyond those that modes of files give."""
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)


def _flip(path: Path, place: int, bit: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(place)
        (byte,) = stream.read(1)
        stream.seek(place)
        stream.write(bytes([byte ^ (1 << bit)]))


def _cut(path: Path, keep: int) -> None:
    os.truncate(path, keep)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def damages(path: Path) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """What can happen to a file: cut short, emptied, bits flipped at seeded places, replaced by a folder."""
    size = path.stat().st_size
    yield "emptied", lambda p: _cut(p, 0)
    yield "cut in half", lambda p: _cut(p, size // 2)
    yield "one byte short", lambda p: _cut(p, size - 1)
    yield "a folder", _folder
    drawn = random.Random(f"{path.name}/{size}")
    places = [(0, 3), (size - 1, 0)] + [(drawn.randrange(size), drawn.randrange(8)) for _ in range(FLIPS)]
    for place, bit in places:
        yield f"bit {bit} of byte {place} flipped", lambda p, place=place, bit=bit: _flip(p, place, bit)


class Bench:
    """A folder in which files are damaged, each time from the same content.

    Attributes:
        root: the folder, open to every user, so that a process without rights can work in it.
    """

    def __init__(self, root: Path) -> None:
        self.root, self._sound = root, root.with_name(f"{root.name}.sound")

    def keep(self) -> None:
        """Takes what lies there now as sound."""
        shutil.copytree(self.root, self._sound)

    def restore(self) -> None:
        """Puts back what was kept."""
        shutil.rmtree(self.root)
        shutil.copytree(self._sound, self.root)

    @contextmanager
    def unreadable(self, path: Path) -> Iterator[None]:
        """Within, `path` alone cannot be opened: by its mode, and without the rights of root."""
        for found in (self.root, *self.root.rglob("*")):
            found.chmod(0o777)
        path.chmod(0)
        with without_root():
            yield

    @contextmanager
    def read_only(self, folder: Path) -> Iterator[None]:
        """Within, nothing can be made or changed in `folder`: by its mode, and without the rights of root."""
        inside = [folder, *(found for found in folder.rglob("*") if found.is_dir())]
        for found in inside:
            found.chmod(0o555)
        try:
            with without_root():
                yield
        finally:
            for found in inside:
                found.chmod(0o755)


def digest(value: Any) -> str:
    """Identifies a value made of plain values, arrays and tensors."""
    return hashlib.sha256(repr(_plain(value)).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    if isinstance(value, dict):
        return sorted((str(key), _plain(inner)) for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value
