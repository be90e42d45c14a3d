"""Shards on disk: whole scenes in one file, written atomically, found again by checksum.

A shard is two files: `NNNN.clips`, the packed clips one after the other, and `NNNN.json`, which says where each lies,
the sha256 of the file, the sha256 of the clips' content, with which versions they were made, and a checksum of itself.
A shard counts only when both are there and the file has its sha256; whatever is missing or damaged is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.data.sim.clips import SimClip
from bench.data.sim.codec import content, pack, unpack
from bench.data.sim.splits import VERSION, Split, make_scene
from metrics.cache import atomic_path, cache_folder, sha256_of, writing_to_cache
from metrics.errors import DataError
from metrics.parsing import read_json, sealed, unsealed

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """Where a clip lies in its shard, and the crc32 of its bytes there."""

    clip_id: str
    source: str
    kind: str
    start: int
    length: int
    crc32: int


@dataclass(frozen=True)
class Shard:
    """A stored shard.

    Attributes:
        file_sha256: of the file.
        content_sha256: of the clips, whatever their compression; equal wherever the same clips were made.
        made_with: versions of what made them.
    """

    path: Path
    size: int
    entries: tuple[Entry, ...]
    file_sha256: str
    content_sha256: str
    made_with: dict[str, str]

    def read(self, entry: Entry) -> SimClip:
        """One clip.

        Raises:
            DataError: the file is missing or the clip is damaged.
        """
        try:
            with self.path.open("rb") as stream:
                stream.seek(entry.start)
                packed = stream.read(entry.length)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path} cannot be read ({error}); open the data set again to make it anew") from error
        if zlib.crc32(packed) != entry.crc32:
            raise DataError(f"clip {entry.clip_id} in {self.path} is damaged; open the data set again to make it anew")
        return unpack(packed, self.size, entry.clip_id, entry.source, entry.kind)


def shard_folder(split: Split, size: int) -> Path:
    """Where the shards of a split lie in the user cache."""
    return cache_folder("sim", f"v{VERSION}", split.name, f"{size}px")


def versions() -> dict[str, str]:
    """What decides over the last bit of a simulation on this machine."""
    return {
        "mujoco": version("mujoco"),
        "numpy": version("numpy"),
        "machine": platform.machine(),
        "system": platform.system(),
    }


def scenes_of(split: Split, shard: int) -> range:
    """Numbers of the scenes in a shard."""
    first = shard * split.scenes_per_shard
    return range(first, min(first + split.scenes_per_shard, split.scenes))


def write_shard(split: Split, size: int, shard: int, folder: Path, done: Callable[[int], None] | None = None) -> Shard:
    """Makes the clips of a shard and stores them.

    Args:
        done: called after each scene with its number of clips.
    """
    entries: list[Entry] = []
    identity = hashlib.sha256()
    blobs: list[bytes] = []
    start = 0
    for scene in scenes_of(split, shard):
        clips = make_scene(split, scene, size)
        for clip in clips:
            packed = pack(clip)
            entries.append(Entry(clip.clip_id, clip.source, clip.kind, start, len(packed), zlib.crc32(packed)))
            identity.update(clip.clip_id.encode())
            identity.update(content(clip))
            blobs.append(packed)
            start += len(packed)
        if done is not None:
            done(len(clips))
    path = folder / f"{shard:04d}.clips"
    with writing_to_cache(path, f"the clips of {split.name}"), atomic_path(path) as temporary:
        temporary.write_bytes(b"".join(blobs))
        file_sha256 = sha256_of(temporary)
    facts = {
        "clips": [asdict(entry) for entry in entries],
        "content_sha256": identity.hexdigest(),
        "file_sha256": file_sha256,
        "made_with": versions(),
        "size": size,
        "split": split.name,
    }
    index = path.with_suffix(".json")
    with writing_to_cache(index, f"the list of clips of {split.name}"), atomic_path(index) as temporary:
        temporary.write_text(json.dumps(sealed(facts), indent=1, sort_keys=True))
    return _shard(path, facts)


def stored_shard(split: Split, size: int, shard: int, folder: Path) -> Shard | None:
    """The shard if it is stored undamaged; a damaged one gives a notice and None."""
    path = folder / f"{shard:04d}.clips"
    index = path.with_suffix(".json")
    if not path.exists() or not index.exists():
        return None
    try:
        found = _shard(path, unsealed(read_json(index)))
        digest = sha256_of(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s is damaged (%s); the shard is made again", index, error)
        return None
    wanted = [
        (split.clip_id(scene, clip), split.source(scene))
        for scene in scenes_of(split, shard)
        for clip in range(split.clips_per_scene)
    ]
    if [(entry.clip_id, entry.source) for entry in found.entries] != wanted or found.size != size:
        _log.warning("%s does not list the clips of %s at %d px; the shard is made again", index, split.name, size)
        return None
    if digest != found.file_sha256:
        _log.warning("%s is damaged: its sha256 is not that in %s; the shard is made again", path, index.name)
        return None
    return found


def _shard(path: Path, facts: dict[str, Any]) -> Shard:
    return Shard(
        path=path,
        size=facts["size"],
        entries=tuple(Entry(**entry) for entry in facts["clips"]),
        file_sha256=facts["file_sha256"],
        content_sha256=facts["content_sha256"],
        made_with=facts["made_with"],
    )
