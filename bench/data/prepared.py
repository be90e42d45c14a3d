"""The cache of prepared sources: every frame at the protocol's size, decoded once.

A source is two files in the user cache, named by a hash of its content, its preparation and the decoder: `.rgb`, the
frames as raw uint8 `[T, size, size, 3]`, and `.json`, which states T, the frame rate and the sha256 of the frames.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.data.frames import Preparation, prepare_frame
from bench.data.identity import content_hash
from methods.video_io import video_frame_rate, video_frames
from metrics.cache import ENVIRONMENT_VARIABLE, atomic_path, cache_folder, hash_of
from metrics.errors import CacheError, DataError
from metrics.parsing import read_json, sealed, unsealed

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
"""Rises with every change of the files, or of how frames are decoded, cropped or resized."""


@dataclass(frozen=True)
class Source:
    """A video to be prepared.

    Attributes:
        name: its path in the data set, with "/" separators.
        path: the file or frame folder.
        content: hex sha256 of it, see `content_hash`.
        preparation: what is done to its frames.
    """

    name: str
    path: Path
    content: str
    preparation: Preparation

    @property
    def key(self) -> str:
        """Name of its files in the cache."""
        return hash_of([FORMAT_VERSION, version("av"), self.content, self.preparation.facts()])[:40]


@dataclass(frozen=True)
class Facts:
    """What is known of a prepared source: number of frames, frames per second (None: unstated), sha256."""

    frames: int
    frame_rate: float | None
    sha256: str


class PreparedFrames:
    """Prepared sources on disk."""

    def __init__(self) -> None:
        self._folder = cache_folder("clips")
        self._verified: set[str] = set()

    def facts(self, source: Source) -> Facts:
        """What is known of `source`; decodes it the first time.

        Raises:
            DataError, OSError: it cannot be read or decoded, or is too small.
            CacheError: the cache cannot be written.
        """
        return self._stated(source) or self._build(source)

    def frames(self, source: Source) -> NDArray[np.uint8]:
        """All frames of `source`, uint8 `[T, size, size, 3]`, mapped from disk.

        The checksum is verified once a process; a damaged entry is rebuilt with a notice.

        Raises:
            As `facts`.
        """
        facts = self.facts(source)
        if source.key in self._verified:
            return self._mapped(source, facts)
        mapped = self._whole(source, facts)
        if mapped is None:
            path = self._path(source, ".rgb")
            log.warning("the cached frames of %s (%s) are damaged; decoding it again", source.name, path)
            mapped = self._mapped(source, self._build(source))
        self._verified.add(source.key)
        return mapped

    def _whole(self, source: Source, facts: Facts) -> np.memmap | None:
        """The frames on disk if they are as `facts` say; None if not, or if they cannot be read."""
        try:
            mapped = self._mapped(source, facts)
        except (OSError, ValueError):
            return None
        return mapped if hashlib.sha256(mapped.data).hexdigest() == facts.sha256 else None

    def _mapped(self, source: Source, facts: Facts) -> np.memmap:
        size = source.preparation.size
        return np.memmap(self._path(source, ".rgb"), np.uint8, "r", shape=(facts.frames, size, size, 3))

    def _path(self, source: Source, suffix: str) -> Path:
        return self._folder / f"{source.key}{suffix}"

    def _stated(self, source: Source) -> Facts | None:
        """The facts on disk, if they fit the frames on disk."""
        size = source.preparation.size
        try:
            facts = Facts(**unsealed(read_json(self._path(source, ".json"))))
            if self._path(source, ".rgb").stat().st_size == facts.frames * size * size * 3:
                return facts
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError):
            pass
        path = self._path(source, ".json")
        log.warning("the cache entry of %s (%s) is damaged; decoding it again", source.name, path)
        return None

    def _build(self, source: Source) -> Facts:
        if content_hash(source.path) != source.content:
            raise DataError("it was changed while it was in use; open the data set again")
        digest, count = hashlib.sha256(), 0
        try:
            with atomic_path(self._path(source, ".rgb")) as temporary, temporary.open("wb") as out:
                for frame in video_frames(source.path):
                    data = prepare_frame(frame, source.preparation).tobytes()
                    digest.update(data)
                    out.write(data)
                    count += 1
            facts = Facts(count, video_frame_rate(source.path), digest.hexdigest())
            with atomic_path(self._path(source, ".json")) as temporary:
                temporary.write_text(json.dumps(sealed(asdict(facts))), encoding="utf-8")
        except OSError as error:
            raise CacheError(
                f"the prepared frames of {source.name} cannot be written to {self._folder} "
                f"({error.strerror or error}). Free some space there, or set {ENVIRONMENT_VARIABLE} to another folder."
            ) from error
        return facts
