"""Clips of a prepared data set: splits, clip rule, loading.

Which clips there are, for a clip of L frames at stride s of a video whose part in the split is the frames a..b:

- A clip may begin at a, a + 1, ..., b - (L - 1) s - 1. The release takes start = min(i, b - (L - 1) s - 1) for every
  frame i of a split, so that these are exactly its clips; frame b is never used. It draws the last clip of a video more
  often than the others, once for each of the last (L - 1) s + 2 frames; here every clip counts once.
- Train: all of them. Test: those that do not overlap, from a on, or `clips_per_source` evenly spaced ones
  (`bench.data.clips`). The release draws test clips at random from all of them, anew in each run.
- A part too short for one clip: the release lets the clip begin before the part. Here it is an error, or the video is
  left out and listed (`skip_unreadable`).
- Clips carry no flow; `bench.flow.source` estimates it, also ahead of time (`bench.data.prepared_flow`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.data.clips import check_unique, clip_id, clip_starts, kept_clips, span, stride_for
from bench.data.folder import ASSUMED_RATE
from bench.data.interface import ClipRef, DataSource, Prepare, Progress, Settings, Status
from bench.data.manifest import SPLITS, PreparedVideo, open_manifest, prepared_sizes
from bench.data.prepare import RawData, prepare
from methods.interface import Clip
from metrics.cache import cache_root, hash_of, sha256_of
from metrics.errors import DataError

log = logging.getLogger(__name__)


def part_of(video: PreparedVideo, split: str) -> range:
    """Indices of the prepared frames that a video gives to a split.

    Of a video that belongs to both, the first 80 % (rounded down) are for training, the others for the test.
    """
    if video.part != "within":
        return range(video.frames if video.part == split else 0)
    cut = video.frames * 4 // 5
    return range(cut) if split == "train" else range(cut, video.frames)


def split_starts(part: range, split: str, settings: Settings, stride: int) -> list[int]:
    """Index of the first frame of every clip of a part, see the rule above; [] when it is too short."""
    usable = len(part) - 1
    if split == "train" and settings.clips_per_source is None:
        return list(range(part.start, part.start + usable - span(settings.length, stride) + 1))
    return [part.start + start for start in clip_starts(usable, settings, stride)]


class PreparedDataSet:
    """One split of a prepared data set; see `bench.data.interface.DataSet`. Made by `open_prepared`.

    Attributes:
        folder: where its frames lie.
        faults: where its counts differ from the published ones.
    """

    def __init__(self, data: RawData, settings: Settings, how: str) -> None:
        self.split = settings.split or "test"
        self.name = f"{data.name}/{self.split}"
        self.settings, self.default_stride = settings, data.stride
        self.folder, manifest = open_manifest(data.name, settings.size, how)
        self.faults: Sequence[str] = tuple(manifest.faults)
        self._videos, self._strides = manifest.videos, dict[str, int]()
        self._fit = manifest.recipe["fit"]
        self._where: dict[str, tuple[str, int]] = {}
        self._maps: dict[str, NDArray[np.uint8]] = {}
        refs, short = self._all_clips()
        if short and (not settings.skip_unreadable or not refs):
            listing = "".join(f"\n  - {line}" for line in short[:10])
            raise DataError(
                f"{self.name}: {len(short)} videos are too short for a clip:{listing}\nTake fewer frames or a "
                "higher frame rate, or leave these videos out with --skip-unreadable."
            )
        if not refs:
            raise DataError(f"{self.name} has no videos; it was prepared in part, see {self.folder / 'manifest.json'}")
        check_unique(refs)
        self.skipped: Sequence[str] = tuple(short)
        kept = kept_clips(refs, settings)
        self._where = {ref.clip_id: self._where[ref.clip_id] for ref in kept}
        self._refs = [ClipRef(ref.clip_id, self._videos[ref.source].group) for ref in kept]

    def __getstate__(self) -> dict[str, Any]:
        # A mapped file would be pickled with all its content.
        return {**self.__dict__, "_maps": {}}

    def _all_clips(self) -> tuple[list[ClipRef], list[str]]:
        """All clips, with the name of the video as source, and a line for every video that is too short."""
        refs, short = [], []
        for name, video in self._videos.items():
            part = part_of(video, self.split)
            if not part and video.part != "within":
                continue
            stride = self._stride(name, video)
            starts = split_starts(part, self.split, self.settings, stride)
            if not starts:
                needed = span(self.settings.length, stride) + 1
                short.append(f"{name}: it has {len(part)} frames for {self.split}, a clip needs {needed}")
            for start in starts:
                refs.append(ClipRef(clip_id(name, start), name))
                self._where[refs[-1].clip_id] = (name, start)
            self._strides[name] = stride
        return refs, short

    def _stride(self, name: str, video: PreparedVideo) -> int:
        if self.settings.stride is None and self.settings.frame_rate is None:
            return self.default_stride
        try:
            return stride_for(video.frame_rate, self.settings)
        except DataError as error:
            raise DataError(f"{self.name}: {name}: {error}") from error

    @property
    def content_hash(self) -> str:
        """Hex sha256 over ids, content and preparation of all clips."""
        used = {name for name, _ in self._where.values()}
        videos = {name: [self._videos[name].sha256, self._strides[name]] for name in sorted(used)}
        return hash_of([self.settings.size, self.settings.length, videos, list(self._where)])

    def clips(self) -> Sequence[ClipRef]:
        """All clips, sorted by video and start."""
        return self._refs

    def load(self, clip_id: str) -> Clip:
        """One clip, in a time that does not depend on how many there are.

        The checksum of a video is verified when it is first used in a process.

        Raises:
            DataError: no such clip, or the prepared frames are damaged.
        """
        if clip_id not in self._where:
            raise DataError(f"{self.name} has no clip {clip_id!r}; it has {len(self._where)}, see `clips()`")
        name, start = self._where[clip_id]
        video, stride = self._videos[name], self._strides[name]
        part = self._mapped(name)[start : start + span(self.settings.length, stride) : stride]
        frames = torch.from_numpy(np.ascontiguousarray(part.transpose(0, 3, 1, 2)))
        return Clip(frames, clip_id, video.group, (video.frame_rate or ASSUMED_RATE) / stride)

    def _mapped(self, name: str) -> NDArray[np.uint8]:
        """All frames of a video, uint8 `[T, size, size, 3]`."""
        if name not in self._maps:
            video, size = self._videos[name], self.settings.size
            path = self.folder / f"{video.file}.rgb"
            again = "prepare the data set again, only this file is made anew"
            try:
                if not path.is_file() or sha256_of(path) != video.sha256:
                    raise DataError(f"{path} is damaged or gone; {again}")
                self._maps[name] = np.memmap(path, np.uint8, "r", shape=(video.frames, size, size, 3))
            except (OSError, ValueError) as error:
                raise DataError(f"{path} cannot be read ({error}); make it readable, or {again}") from error
        return self._maps[name]

    @property
    def within(self) -> bool:
        """Whether the test split is the later part of the same videos."""
        return any(self._videos[name].part == "within" for name in self._strides)

    def place(self, clip_id: str) -> tuple[str, range]:
        """The video of a clip, and the indices of its prepared frames from the first to the last."""
        name, start = self._where[clip_id]
        return name, range(start, start + span(self.settings.length, self._strides[name]))

    def describe(self) -> str:
        """One line."""
        videos = {name for name, _ in self._where.values()}
        rates = sorted({(self._videos[name].frame_rate or ASSUMED_RATE) / self._strides[name] for name in videos})
        rate = f"{rates[0]:g}" + (f" to {rates[-1]:g}" if len(rates) > 1 else "")
        groups = len({ref.source for ref in self._refs})
        partial = "; A PART of the data set" if self.faults else ""
        return (
            f"{self.name}: {len(self._refs)} clips of {len(videos)} videos, {groups} independent sources, "
            f"{self.settings.length} frames at {rate} fps, {self.settings.size} px ({self._fit}){partial}"
        )


def open_prepared(data: RawData, settings: Settings, how: str) -> PreparedDataSet:
    """One split of a prepared data set.

    Args:
        how: what to do when it is not prepared.

    Raises:
        DataError: it is not prepared at this size, or a setting does not suit it.
    """
    return PreparedDataSet(data, settings, how)


def source_for(data: RawData, summary: str, obtain: str, citation: str) -> DataSource:
    """The entry of the data registry for a data set whose raw files the user brings.

    Args:
        obtain: how to get the raw data, in a sentence or two.
    """
    how = f"Prepare it with `bench data prepare {data.name} --raw DIR`. How to get it: {obtain}"

    def status() -> Status:
        sizes = prepared_sizes(data.name)
        if sizes:
            return Status(True, f"prepared at {', '.join(map(str, sizes))} px in {cache_root() / 'data' / data.name}")
        return Status(False, f"not prepared. {how}")

    def open_split(settings: Settings, progress: Progress | None) -> PreparedDataSet:
        return open_prepared(data, settings, how)

    def prepare_raw(
        raw: Path,
        *,
        size: int,
        progress: Progress | None = None,
        workers: int | None = None,
        allow_partial: bool = False,
    ) -> Path:
        return prepare(data, raw, size=size, progress=progress, workers=workers, allow_partial=allow_partial)

    checked: Prepare = prepare_raw
    return DataSource(
        summary=summary,
        status=status,
        open=open_split,
        licence="not stated with this suite; see the owner's terms",
        citation=citation,
        prepare=checked,
        splits=SPLITS,
    )
