"""Any folder of videos, prepared for training: two splits, in the same form as the large data sets.

Split over whole videos: their paths in the folder are ordered by the sha256 of "0/<path>"; the first fifth, rounded up,
is the test split, the others are for training. It depends on the paths alone. Frames are prepared as
`bench.data.folder` does: the largest centred square, area average, every frame kept.
"""

from __future__ import annotations

from pathlib import Path

from bench.data.clips import seeded_order
from bench.data.folder import find_videos
from bench.data.interface import Progress, Settings
from bench.data.manifest import folder_for, prepared_sizes, read_manifest
from bench.data.prepare import RawData, RawVideo, prepare
from bench.data.prepare_videos import Recipe
from bench.data.prepared_set import PreparedDataSet, open_prepared
from metrics.cache import hash_of
from metrics.errors import DataError


def prepare_folder(folder: Path, *, size: int, progress: Progress | None = None, workers: int | None = None) -> Path:
    """Prepares the videos and frame folders in `folder`; returns where they lie in the user cache.

    Raises:
        DataError: fewer than two videos, or some cannot be used.
    """
    return prepare(_data(folder), folder, size=size, progress=progress, workers=workers)


def open_prepared_folder(folder: Path, settings: Settings) -> PreparedDataSet:
    """One split of a prepared folder, "train" or "test"; without one: the test split.

    Raises:
        DataError: it is not prepared at this size, its videos are no longer the same, or a setting does not suit it.
    """
    data = _data(folder)
    how = f"Prepare it with `bench data prepare folder --raw {folder} --size {settings.size}`."
    manifest = read_manifest(folder_for(data.name, settings.size))
    if manifest is not None:
        now, then = set(find_videos(folder)), set(manifest.videos)
        if now != then:
            changed = ", ".join(sorted(now ^ then)[:5])
            raise DataError(f"{folder}: videos came or went since it was prepared ({changed}). {how}")
    opened = open_prepared(data, settings, how)
    opened.name = f"folder:{folder.resolve().name}/{opened.split}"
    return opened


def is_prepared(folder: Path) -> bool:
    """Whether the folder was prepared at any size: from then on it has a test split."""
    return bool(prepared_sizes(_data(folder).name))


def _data(folder: Path) -> RawData:
    return RawData(
        name=f"folder-{hash_of(str(folder.resolve()))[:16]}",
        tree="  DIR/\n    at least two videos or folders of frames, at any depth",
        find=_find,
        recipe=lambda size: Recipe(size, "centre-crop"),
    )


def _find(videos: Path, raw: Path) -> list[RawVideo]:
    found = find_videos(videos)
    if len(found) < 2:
        raise DataError(f"{raw}: expected at least two videos, to train and to test on, found {len(found)}")
    test = set(seeded_order(list(found), 0)[: -(-len(found) // 5)])
    return [RawVideo(key, path, key, "test" if key in test else "train") for key, path in found.items()]
