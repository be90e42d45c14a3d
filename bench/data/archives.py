"""Unpacks gzipped tar files, and compares archives with a list of md5 sums.

Every file is written whole or not at all, and one that is there with the stated size is not written again: an
interrupted unpacking goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from metrics.cache import atomic_path
from metrics.errors import DataError

PIECE = 1 << 20
"""Bytes read at once."""


def unpack_tar(archive: Path, target: Path, wanted: Callable[[str], bool]) -> None:
    """Writes the files of a gzipped tar file into `target`, under their bare names.

    Raises:
        DataError: the archive is damaged.
    """
    try:
        with tarfile.open(archive, "r|gz") as members:
            for member in members:
                if not member.isfile() or not wanted(member.name):
                    continue
                path = inside(target, PurePosixPath(member.name).name)
                if path.is_file() and path.stat().st_size == member.size:
                    continue
                content = members.extractfile(member)
                assert content is not None
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_path(path) as temporary, temporary.open("wb") as out:
                    shutil.copyfileobj(content, out, PIECE)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(f"{archive}: the archive is damaged or cut short ({error}); download it again") from error


def check_md5(archives: Sequence[Path], listing: Path) -> None:
    """Compares archives with a list of lines "<md5>  <path>", matched by file name.

    Raises:
        DataError: an archive is not in the list, or differs from it.
    """
    known = {}
    for line in listing.read_text(encoding="utf-8").splitlines():
        if line.strip():
            digest, _, name = line.strip().partition(" ")
            known[PurePosixPath(name.strip().lstrip("*")).name] = digest.lower()
    for archive in archives:
        expected = known.get(archive.name)
        if expected is None:
            raise DataError(f"{listing} does not name {archive.name}; add its md5, or remove the list")
        with archive.open("rb") as stream:
            found = hashlib.file_digest(stream, "md5").hexdigest()
        if found != expected:
            raise DataError(f"{archive}: expected md5 {expected}, found {found}; download it again")


def inside(folder: Path, name: str) -> Path:
    """The path of `name` in `folder`; refuses names that lead out of it."""
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or PurePosixPath(name).is_absolute():
        raise DataError(f"the archive names a file {name!r} outside of its folder; get the data from their owner")
    return folder.joinpath(*parts)
