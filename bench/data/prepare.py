"""Raw data sets into frames that can be mapped from disk, with a manifest: what all data sets share.

The frames of a data set lie in the user cache, in a folder for each size: two files a video
(`bench.data.prepare_videos`) and `manifest.json`, written last, which lists them all with their sha256. Preparing again
checks every file and makes only what is missing, damaged or no longer right.

Where the counts of a raw data set differ from the published ones, that is an error, unless the user allows a part:

- videos, actors and the like must be exactly as many as published;
- frames must be as many as published to within FRAME_TOLERANCE. The papers do not say whether the last frames of a
  video count, for which the release stores no optical flow; both counts are accepted, and all between.

A data set prepared in part says so in its manifest and in `describe`.
"""

from __future__ import annotations

import fcntl
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from bench.data.clips import source_id
from bench.data.folder import find_videos
from bench.data.interface import Progress
from bench.data.manifest import Manifest, Part, PreparedVideo, read_manifest, write_manifest
from bench.data.prepare_crew import make_all
from bench.data.prepare_videos import Entry, Job, Recipe, is_whole, stated_entry
from metrics.cache import cache_folder, hash_of, writing_to_cache
from metrics.errors import DataError

FRAME_TOLERANCE = 0.03
"""Relative difference from a published number of frames that rounding and decoders may cause."""


@dataclass(frozen=True)
class RawVideo:
    """A raw video: its name in the data set, its file, the `source` of its clips, and the split it is in."""

    name: str
    path: Path
    group: str
    part: Part


@dataclass(frozen=True)
class Counted:
    """Something that was counted: what, as many as published, as many as found."""

    what: str
    expected: int
    found: int


@dataclass(frozen=True)
class RawData:
    """What is particular to one data set.

    Attributes:
        name: as the registry knows it.
        tree: what the raw folder looks like.
        find: the raw videos in `videos`, the folder of the (unpacked) videos; `raw` is the folder the user gave.
        recipe: what is done to the videos at a given size.
        stride: every how many prepared frames one is in a clip, unless the settings say otherwise.
        count: compares videos with the published numbers.
        frames: published number of frames of a split ("train", "test", or "all").
        tail: frames at the end of each raw video that may not be in the published number.
        archives: the archives in a raw folder; none when they are unpacked already.
        unpack: unpacks these archives into a folder.
    """

    name: str
    tree: str
    find: Callable[[Path, Path], list[RawVideo]]
    recipe: Callable[[int], Recipe]
    stride: int = 1
    count: Callable[[Sequence[RawVideo]], list[Counted]] = lambda _: []
    frames: Mapping[str, int] = field(default_factory=dict)
    tail: int = 0
    archives: Callable[[Path], list[Path]] = lambda _: []
    unpack: Callable[[Sequence[Path], Path], None] = lambda _archives, _folder: None

    def unlike(self, folder: Path, why: str) -> DataError:
        """The error for a folder that does not hold this data set."""
        there = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
        more = f", and {len(there) - 8} more" if len(there) > 8 else ""
        found = ", ".join(there[:8]) + more if there else "nothing"
        return DataError(f"{folder}: this is not {self.name}: {why}. Expected\n{self.tree}\nfound {found}.")


def prepare(
    data: RawData,
    raw: Path,
    *,
    size: int,
    progress: Progress | None = None,
    workers: int | None = None,
    allow_partial: bool = False,
) -> Path:
    """Prepares a data set at `size` px; returns its folder in the user cache.

    It can be stopped at any moment and run again.

    Args:
        raw: the folder with the videos, or with the archives as downloaded. These are unpacked beside the prepared
            frames, and what was unpacked is removed when all is done.
        progress: called for every video.
        workers: number of processes; None: as many as CPUs.
        allow_partial: take what is there, although the counts differ from the published ones.

    Raises:
        DataError: `size` cannot be had, `raw` does not look like the data set, its counts are wrong, videos cannot be
            used, or another process is at it.
        CacheError: the user cache cannot be written.
    """
    if not raw.is_dir():
        raise DataError(f"{raw}: expected a folder, found {'a file' if raw.exists() else 'nothing'}:\n{data.tree}")
    folder = cache_folder("data", data.name, f"{size}px")
    with _alone(folder):
        return _prepare(data, raw, folder, size, progress, workers, allow_partial)


def _prepare(
    data: RawData,
    raw: Path,
    folder: Path,
    size: int,
    progress: Progress | None,
    workers: int | None,
    allow_partial: bool,
) -> Path:
    """`prepare`, while no other process works in `folder`."""
    recipe, archives = data.recipe(size), data.archives(raw)
    stamp = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in archives]
    if archives and _is_done(folder, stamp, recipe) and (allow_partial or not _faults(folder)):
        return folder
    # What was unpacked from other archives must not be taken for this.
    videos, unpacked = raw, folder / f"unpacked-{hash_of(stamp)[:16]}"
    for other in folder.glob("unpacked-*"):
        if other != unpacked:
            shutil.rmtree(other)
    if archives:
        if progress is not None:
            progress(0, 0, f"unpacking {archives[0].name}")
        unpacked.mkdir(exist_ok=True)
        data.unpack(archives, unpacked)
        videos = unpacked
    found = sorted(data.find(videos, raw), key=lambda video: video.name)
    twice = [name for name, times in Counter(video.name for video in found).items() if times > 1]
    if twice:
        raise DataError(f"{raw}: several videos are called {', '.join(twice[:5])}; leave one of each")
    counted = data.count(found)
    faults = [line for count in counted if (line := _difference(count))]
    _refuse(raw, faults, allow_partial)
    jobs = [Job(video.name, str(video.path), str(folder / source_id(video.name)), recipe) for video in found]
    entries = make_all(jobs, workers, progress)
    lines = [f"{count.what}: expected {count.expected}, found {count.found}" for count in counted]
    for part, about in data.frames.items():
        most, least = _frame_range(part, found, entries, data.tail)
        lines.append(f"frames ({part}): expected ~{about:,}, found {most:,}")
        if not least * (1 - FRAME_TOLERANCE) <= about <= most * (1 + FRAME_TOLERANCE):
            faults.append(lines[-1])
    manifest = Manifest(
        data.name,
        {video.name: _line(video, entries[video.name]) for video in found},
        asdict(recipe),
        lines,
        faults,
        stamp,
        {package: version(package) for package in ("av", "opencv-python-headless")},
    )
    _refuse(raw, faults, allow_partial)
    write_manifest(manifest, folder)
    if archives:
        shutil.rmtree(unpacked)
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps other processes out of `folder`, and removes what a killed one left half written."""
    file = folder / ".lock"
    with writing_to_cache(file, "the lock of this preparation"):
        lock = file.open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{folder}: another process is preparing this data set; wait until it has ended") from error
        for suffix in (".rgb", ".json"):
            for left in folder.glob(f".*{suffix}"):
                left.unlink(missing_ok=True)
        yield


def videos_in(data: RawData, folder: Path, suffix: str) -> dict[str, Path]:
    """Raw videos below `folder` with this suffix, by their path in it.

    Raises:
        DataError: there are none.
    """
    if not any(path.suffix.lower() == suffix for path in folder.rglob("*")):
        raise data.unlike(folder, f"there are no {suffix} videos")
    return {name: path for name, path in find_videos(folder).items() if path.suffix.lower() == suffix}


def _is_done(folder: Path, stamp: list[list], recipe: Recipe) -> bool:
    """Whether these archives were prepared alike before, and every file is whole."""
    manifest = read_manifest(folder)
    if manifest is None or manifest.archives != stamp or manifest.recipe != asdict(recipe):
        return False
    entries = {video.file: stated_entry(str(folder / video.file)) for video in manifest.videos.values()}
    return all(entry is not None and is_whole(entry, str(folder / file)) for file, entry in entries.items())


def _faults(folder: Path) -> list[str]:
    manifest = read_manifest(folder)
    return manifest.faults if manifest else []


def _difference(count: Counted) -> str:
    if count.expected == count.found:
        return ""
    return f"{count.what}: expected {count.expected}, found {count.found}"


def _refuse(raw: Path, faults: Sequence[str], allow_partial: bool) -> None:
    if faults and not allow_partial:
        listing = "".join(f"\n  - {fault}" for fault in faults)
        raise DataError(
            f"{raw}: the counts differ from the published ones:{listing}\nGet what is missing, or allow a part of the "
            "data set (--allow-partial); results on a part cannot be compared with published ones."
        )


def _frame_range(part: str, videos: Sequence[RawVideo], entries: Mapping[str, Entry], tail: int) -> tuple[int, int]:
    """Number of raw frames of a split, with and without the last `tail` of every video."""
    counts = [entries[video.name].raw_frames for video in videos if part in ("all", video.part)]
    return sum(counts), sum(max(count - tail, 0) for count in counts)


def _line(video: RawVideo, entry: Entry) -> PreparedVideo:
    kept = (entry.frames, entry.frame_rate, entry.sha256, entry.raw_frames, entry.raw_sha256)
    return PreparedVideo(source_id(video.name), video.group, video.part, *kept)
