"""Unpacks gzipped tar files, and compares archives with a list of md5 sums.

Every file is written whole or not at all, and one that is there with the stated size is not written again: an
interrupted unpacking goes on where it stopped. What came out of a damaged archive is removed.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from metrics.cache import atomic_path
from metrics.errors import DataError

PIECE = 1 << 20
"""Bytes read at once."""
MOST_EXPANSION = 200
"""By how much an archive of videos may expand; they are packed already, and hardly do."""
SPARE = 1 << 26
"""Bytes that any archive may expand to."""


def unpack_tar(archive: Path, target: Path, wanted: Callable[[str], bool]) -> None:
    """Writes the files of a gzipped tar file into `target`, under their bare names.

    Links, devices and sparse files are left out.

    Raises:
        DataError: the archive is damaged, names a file outside of `target`, or expands beyond all reason.
    """
    most = MOST_EXPANSION * archive.stat().st_size + SPARE
    written: list[Path] = []
    try:
        # tarfile's own reader of gzip does not compare the checksum at its end.
        with gzip.open(archive) as plain, tarfile.open(fileobj=plain, mode="r|") as members:
            for member in members:
                most -= member.size
                if most < 0:
                    raise tarfile.ReadError(f"its files state more than {MOST_EXPANSION} times its size")
                if not member.isreg() or member.issparse() or not wanted(member.name):
                    continue
                path = inside(target, PurePosixPath(member.name).name)
                if path.is_file() and path.stat().st_size == member.size:
                    continue
                content = members.extractfile(member)
                assert content is not None
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_path(path) as temporary, temporary.open("wb") as out:
                    shutil.copyfileobj(content, out, PIECE)
                written.append(path)
            while plain.read(PIECE):
                pass
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        for path in written:
            path.unlink()
        raise DataError(f"{archive}: the archive is damaged or cut short ({error}); download it again") from error


def check_md5(archives: Sequence[Path], listing: Path) -> None:
    """Compares archives with a list of lines "<md5>  <path>", matched by file name.

    Raises:
        DataError: an archive is not in the list, or differs from it.
    """
    known = {}
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{listing} cannot be read as a list of md5 sums ({error}); download it again") from error
    for line in lines:
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
    parts, elsewhere = PurePosixPath(name).parts, PureWindowsPath(name)
    if not parts or ".." in elsewhere.parts or elsewhere.drive or elsewhere.root or "\0" in name:
        raise DataError(f"the archive names a file {name!r} outside of its folder; get the data from their owner")
    return folder.joinpath(*parts)
