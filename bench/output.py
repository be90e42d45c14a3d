"""Files that a user asks for: written whole, or one sentence on why not."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metrics.cache import atomic_path
from metrics.errors import OutputError, PokeBenchError


@contextmanager
def output_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path that becomes `path`, see `atomic_path`; its folder is made where it is missing.

    Raises:
        OutputError: for every OSError, of what is done within too.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            yield temporary
    except PokeBenchError:
        raise
    except OSError as error:
        raise _refused(path, error) from error


def check_writable(path: Path) -> None:
    """Says before long work what `output_path` would say after it, as far as that can be known; leaves nothing behind.

    Raises:
        OutputError: `path` is a folder, or its folder cannot be made or written to.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        folder = next(parent for parent in path.parents if parent.exists())
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path} cannot be written ({error.strerror or error}); choose another place")
