"""Content hashes of source files, remembered so that opening a large folder again is cheap."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

from methods.image_io import image_files
from methods.video_io import RATE_FILE
from metrics.cache import atomic_path, cache_folder, hash_of, sha256_of, writing_to_cache
from metrics.parsing import read_json, sealed, unsealed

log = logging.getLogger(__name__)


def content_hash(source: Path, hash_file: Callable[[Path], str] = sha256_of) -> str:
    """Hex sha256 of a file; of a frame folder, over the names and hashes of its frames and its stated rate.

    Raises:
        OSError: it cannot be read.
    """
    if not source.is_dir():
        return hash_file(source)
    files = image_files(source)
    files += [source / RATE_FILE] if (source / RATE_FILE).is_file() else []
    return hash_of([[file.name, hash_file(file)] for file in files])


class ContentHashes:
    """Remembers `content_hash` between runs.

    A file whose size and time of change (in nanoseconds) are as remembered is not read again. What is remembered lies
    in the user cache, one file for each data folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = cache_folder("clips", "identity") / f"{hash_of(str(folder.resolve()))[:32]}.json"
        self._known = self._read()
        self._changed = False

    def of(self, source: Path) -> str:
        """`content_hash` of a file or frame folder."""
        return content_hash(source, self._of_file)

    def save(self) -> None:
        """Writes what was learnt."""
        if self._changed:
            with writing_to_cache(self._path, "what is known of the files"), atomic_path(self._path) as temporary:
                temporary.write_text(json.dumps(sealed(self._known)), encoding="utf-8")
            self._changed = False

    def _of_file(self, file: Path) -> str:
        stat = file.stat()
        name, stamp = str(file.resolve()), [stat.st_size, stat.st_mtime_ns]
        known = self._known.get(name)
        if known is None or known[:2] != stamp:
            known = [*stamp, sha256_of(file)]
            self._known[name] = known
            self._changed = True
        return str(known[2])

    def _read(self) -> dict[str, list]:
        try:
            known = unsealed(read_json(self._path))
            if all(len(entry) == 3 for entry in known.values()):
                return dict(known)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError):
            pass
        log.warning("%s is damaged; the files are read again", self._path)
        return {}
