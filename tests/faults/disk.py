"""A small disk that can be full: a real one where it can be mounted, else one whose writes fail as on a full disk."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SIZE = 8 * 2**20
PAGE = 4096


class Disk:
    """A tmpfs of SIZE bytes, mounted at `root`; what does not fit on it is refused by the system itself."""

    kind = "a mounted disk"

    def __init__(self, root: Path) -> None:
        self.root = root

    def fill(self, leave: int = 0) -> None:
        """Leaves `leave` bytes, rounded up to pages."""
        pages = -(-leave // PAGE)
        free = os.statvfs(self.root).f_bavail
        with (self.root / "filler").open("wb") as stream:
            stream.write(bytes(max(free - pages, 0) * PAGE))
        assert os.statvfs(self.root).f_bavail == pages

    def free(self) -> None:
        """Makes room again."""
        (self.root / "filler").unlink()


class PatchedDisk(Disk):
    """A folder in which the system's fsync and appending to logs fail while it is full.

    A disk that allocates late reports that it is full just there.
    """

    kind = "a disk of patched writes"

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        super().__init__(root)
        self._left: int | None = None
        real_sync, real_open = os.fsync, Path.open

        def fsync(handle: int) -> None:
            path = Path(f"/proc/self/fd/{handle}").readlink()
            if self._left is not None and path.is_relative_to(root):
                self._left -= -(-path.stat().st_size // PAGE) * PAGE
                if self._left < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real_sync(handle)

        def opened(path: Path, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
            stream = real_open(path, mode, *arguments, **keywords)
            return _Filling(stream, self) if mode == "a" and path.is_relative_to(root) else stream

        patch.setattr(os, "fsync", fsync)
        patch.setattr(Path, "open", opened)

    def fill(self, leave: int = 0) -> None:
        self._left = -(-leave // PAGE) * PAGE

    def free(self) -> None:
        self._left = None

    @property
    def is_full(self) -> bool:
        """Whether nothing can be written."""
        return self._left == 0


class _Filling:
    """An open file that can be appended to until the disk is full."""

    def __init__(self, stream: Any, disk: PatchedDisk) -> None:
        self._stream, self._disk = stream, disk

    def write(self, text: str) -> int:
        """Writes a line, or nothing."""
        if self._disk.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(self._stream.write(text))

    def close(self) -> None:
        self._stream.close()


@contextmanager
def small_disk(root: Path, patch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """A disk at `root`."""
    root.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run(
            [mount, "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(root)], capture_output=True
        ).returncode
    ):
        yield PatchedDisk(root, patch)
        return
    try:
        yield Disk(root)
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True)
