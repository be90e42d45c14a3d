"""Where derived files live: one user cache, atomic writes, content hashes."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metrics.errors import CacheError

ENVIRONMENT_VARIABLE = "POKEBENCH_CACHE"


def user_path(text: str | Path) -> Path:
    """`text` as a path, "~" and "~NAME" replaced by homes; where there is no such user, as the shell, left as it is."""
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def cache_root() -> Path:
    """Root of the user cache: `$POKEBENCH_CACHE`, else `$XDG_CACHE_HOME/pokebench`, else `~/.cache/pokebench`."""
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    if chosen:
        return user_path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pokebench"


def cache_folder(*parts: str) -> Path:
    """A folder in the user cache, made if it is missing.

    Raises:
        CacheError: the folder cannot be made or written to.
    """
    folder = cache_root().joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CacheError(
            f"the cache folder {folder} cannot be written ({error.strerror or error}), where "
            f"{'/'.join(parts) or 'everything that is derived'} is to be kept. "
            f"Make it writable, or set {ENVIRONMENT_VARIABLE} to a folder that is."
        ) from error
    return folder


@contextmanager
def writing_to_cache(path: Path, what: str) -> Iterator[None]:
    """Says, where a file of the cache cannot be written, which it is, what belongs in it, and what to do.

    Raises:
        CacheError: for every OSError within.
    """
    try:
        yield
    except CacheError:
        raise
    except OSError as error:
        raise CacheError(
            f"{what} cannot be written to {path} ({error.strerror or error}). Free some space there and make it "
            f"writable, or set {ENVIRONMENT_VARIABLE} to another folder."
        ) from error


def hash_of(value: Any) -> str:
    """Hex sha256 of a JSON-able value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yields a temporary path beside `target`; renames it to `target` on success, removes it on any failure.

    A reader therefore sees the old file, or the whole new one, and never a part. The bytes are forced to
    disk before the rename.
    """
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=target.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
