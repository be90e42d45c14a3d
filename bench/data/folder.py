"""Any folder of videos as a data set.

The folder is searched through all its sub-folders (links to folders are not followed, hidden names are left out). A
video is a file with one of the suffixes of `methods.video_io`; a folder that holds images and no videos is one video,
its frames in natural order of their names, at the rate stated in `frame_rate.txt` beside them.

Videos are decoded once, into the user cache, at the size of the protocol (`bench.data.frames`, `bench.data.prepared`);
clips are cut by the rules of `bench.data.clips`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bench.data.clips import check_unique, clip_id, clip_starts, kept_clips, seeded_order, span, stride_for
from bench.data.frames import Box, Fit, Preparation
from bench.data.identity import ContentHashes
from bench.data.interface import ClipRef, Progress, Settings
from bench.data.prepared import PreparedFrames, Source
from methods.image_io import IMAGE_SUFFIXES
from methods.interface import Clip
from methods.video_io import VIDEO_SUFFIXES
from metrics.cache import hash_of
from metrics.errors import CacheError, DataError

ASSUMED_RATE = 10.0
"""Frames per second given to sources that state none; `describe` says so."""


@dataclass(frozen=True)
class _Cut:
    """Where a clip comes from."""

    source: Source
    group: str
    start: int
    stride: int
    source_rate: float | None

    @property
    def frame_rate(self) -> float | None:
        """Frames per second of the clip, None when the source states none."""
        return self.source_rate / self.stride if self.source_rate else None


class FolderDataSet:
    """Clips of the videos in a folder; see `bench.data.interface.DataSet`. Made by `open_folder`."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        fit: str,
        cuts: Mapping[str, _Cut],
        skipped: Sequence[str],
        prepared: PreparedFrames,
    ) -> None:
        self.name = name
        self.skipped: Sequence[str] = tuple(skipped)
        self._settings = settings
        self._fit = fit
        self._cuts = cuts
        self._prepared = prepared

    @property
    def content_hash(self) -> str:
        """Hex sha256 over ids, content and preparation of all clips."""
        clips = [
            [name, cut.group, cut.source.content, cut.source.preparation.facts(), cut.start, cut.stride]
            for name, cut in self._cuts.items()
        ]
        return hash_of([self._settings.length, clips])

    def clips(self) -> list[ClipRef]:
        """All clips, sorted by source and start."""
        return [ClipRef(name, cut.group) for name, cut in self._cuts.items()]

    def load(self, clip_id: str) -> Clip:
        """One clip, from the prepared frames.

        Raises:
            DataError: no such clip, or its video changed since the data set was opened.
        """
        if clip_id not in self._cuts:
            raise DataError(f"{self.name} has no clip {clip_id!r}; it has {len(self._cuts)}, see `clips()`")
        cut = self._cuts[clip_id]
        try:
            video = self._prepared.frames(cut.source)
        except (DataError, OSError) as error:
            if isinstance(error, CacheError):
                raise
            raise DataError(f"{self.name}: {cut.source.name}: {error}") from error
        part = video[cut.start : cut.start + span(self._settings.length, cut.stride) : cut.stride]
        frames = torch.from_numpy(np.ascontiguousarray(part.transpose(0, 3, 1, 2)))
        return Clip(frames, clip_id, cut.group, cut.frame_rate or ASSUMED_RATE)

    def describe(self) -> str:
        """One line."""
        sources = len({cut.source.name for cut in self._cuts.values()})
        groups = len({cut.group for cut in self._cuts.values()})
        in_groups = f" in {groups} groups" if groups != sources else ""
        return (
            f"{self.name}: {len(self._cuts)} clips of {sources} videos{in_groups}, {self._settings.length} frames at "
            f"{self._rates()}, {self._settings.size} px ({self._fit}, area average)"
        )

    def _rates(self) -> str:
        """The frame rates of all clips in words."""
        stated = sorted({round(cut.frame_rate, 3) for cut in self._cuts.values() if cut.frame_rate is not None})
        words = [f"{stated[0]:g} fps" if len(stated) == 1 else f"{stated[0]:g} to {stated[-1]:g} fps"] if stated else []
        if any(cut.frame_rate is None for cut in self._cuts.values()):
            words.append(f"an unstated rate (taken as {ASSUMED_RATE:g} fps)")
        return " and ".join(words)


def open_folder(
    folder: Path,
    settings: Settings,
    *,
    name: str = "",
    fit: Fit = "centre-crop",
    boxes: Mapping[str, Box] | None = None,
    groups: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> FolderDataSet:
    """Prepares the videos of `folder` and opens them.

    With `max_clips`, only as many videos are read as can give a clip (see `kept_clips`).

    Args:
        folder: any folder of videos and frame folders.
        settings: how clips are prepared and drawn.
        name: of the data set; "folder:NAME" when empty.
        fit: how frames become square.
        boxes: path in the folder -> crop to take of that video; the others follow `fit`.
        groups: path in the folder -> `source` of its clips, for videos that are not independent; default: the path.
        progress: called for every video.

    Raises:
        DataError: no folder, no videos, or (all listed at once) videos that cannot be used. With `skip_unreadable` the
            last are left out instead, and an error is raised only if none is left.
    """
    sources = find_videos(folder)
    name = name or f"folder:{folder.resolve().name}"
    hashes, prepared = ContentHashes(folder), PreparedFrames()
    order, enough = list(sources), len(sources)
    if settings.max_clips is not None:
        order, enough = seeded_order(order, settings.seed), min(settings.max_clips, enough)
    cuts: dict[str, list[_Cut]] = {}
    faults: list[str] = []
    for source_name in order:
        if len(cuts) == enough:
            break
        if progress is not None:
            progress(len(cuts), enough, source_name)
        try:
            preparation = Preparation(settings.size, fit, (boxes or {}).get(source_name))
            path = sources[source_name]
            source = Source(source_name, path, hashes.of(path), preparation)
            group = (groups or {}).get(source_name, source_name)
            cuts[source_name] = _cuts(source, group, prepared, settings)
        except CacheError:
            raise
        except (DataError, OSError) as error:
            faults.append(f"{source_name}: {_reason(error, sources[source_name])}")
    hashes.save()
    if progress is not None:
        progress(len(cuts), len(cuts), "")
    faults.sort()
    if faults and (not settings.skip_unreadable or not cuts):
        raise DataError(_fault_message(folder, faults, bool(cuts)))
    return FolderDataSet(name, settings, _fit_name(fit, boxes), _kept(cuts, settings), faults, prepared)


def find_videos(folder: Path) -> dict[str, Path]:
    """Videos and frame folders below `folder`, by their path in it ("/" separators), sorted.

    Raises:
        DataError: no such folder, or no videos.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of videos, found {'a file' if folder.exists() else 'nothing'}")
    found: dict[str, Path] = {}
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        suffixes = {name: Path(name).suffix.lower() for name in files if not name.startswith(".")}
        videos = [Path(parent) / name for name, suffix in suffixes.items() if suffix in VIDEO_SUFFIXES]
        if not videos and IMAGE_SUFFIXES & set(suffixes.values()):
            videos = [Path(parent)]
        for video in videos:
            relative = video.relative_to(folder).as_posix()
            if relative.encode(errors="replace") != os.fsencode(relative):
                raise DataError(f"{folder}: the file name {relative!a} is no UTF-8 text; rename it")
            found[folder.resolve().name if relative == "." else relative] = video
    if not found:
        raise DataError(
            f"{folder}: expected videos ({', '.join(sorted(VIDEO_SUFFIXES))}) or folders of PNG or JPEG frames, "
            "found none, in no sub-folder either"
        )
    return dict(sorted(found.items()))


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: the folder cannot be read ({error.strerror}); make it readable")


def _cuts(source: Source, group: str, prepared: PreparedFrames, settings: Settings) -> list[_Cut]:
    """The clips of a source.

    Raises:
        DataError: it cannot be decoded, is too slow or too short.
    """
    facts = prepared.facts(source)
    stride = stride_for(facts.frame_rate, settings)
    starts = clip_starts(facts.frames, settings, stride)
    if not starts:
        raise DataError(
            f"it has {facts.frames} frames, too short: a clip of {settings.length} frames at stride {stride} "
            f"needs {span(settings.length, stride)}"
        )
    return [_Cut(source, group, start, stride, facts.frame_rate) for start in starts]


def _kept(cuts: Mapping[str, list[_Cut]], settings: Settings) -> dict[str, _Cut]:
    """The clips that `max_clips` keeps, by id, sorted by source and start."""
    named = {clip_id(source, cut.start): cut for source in sorted(cuts) for cut in cuts[source]}
    check_unique([ClipRef(clip_id(source, cut.start), source) for source in sorted(cuts) for cut in cuts[source]])
    kept = kept_clips([ClipRef(name, cut.source.name) for name, cut in named.items()], settings)
    return {ref.clip_id: named[ref.clip_id] for ref in kept}


def _reason(error: Exception, path: Path) -> str:
    """The error's message without the path, which the caller puts in front."""
    if isinstance(error, OSError):
        return f"it cannot be read ({error.strerror or error})"
    return str(error).removeprefix(f"{path}: ")


def _fault_message(folder: Path, faults: Sequence[str], some_left: bool) -> str:
    listing = "".join(f"\n  - {fault}" for fault in faults)
    cure = "Mend or remove them" + (", or leave them out with --skip-unreadable." if some_left else ".")
    return f"{folder}: {len(faults)} videos cannot be used:{listing}\n{cure}"


def _fit_name(fit: Fit, boxes: Mapping[str, Box] | None) -> str:
    return "fixed crops" if boxes else fit
