"""Which clips are cut from a video, what they are called, and which of them are kept: pure rules.

Clip ids are "<source>@<index of the first frame, six digits>", the source being its path in the data set with "_"
for every character that is no letter, digit, ".", "-" or "_". If such a character other than the path separator was
replaced, eight hex digits of the path's sha256 are added, so that "a b.mp4" and "a-b.mp4" stay apart.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence

from bench.data.interface import ClipRef, Settings
from metrics.errors import DataError

SLOWEST_SHARE = 2 / 3
"""A source may have as little as this share of the wanted frame rate; below, frames would have to be invented."""


def span(length: int, stride: int) -> int:
    """Number of source frames from the first to the last of a clip, both counted."""
    return (length - 1) * stride + 1


def stride_for(source_rate: float | None, settings: Settings) -> int:
    """Every how many frames of a source one is kept.

    The stride given, or the one that comes nearest to the wanted rate: round(source rate / wanted rate), halves
    up. Without either, 1.

    Raises:
        DataError: a rate is wanted and the source does not state its own, or it is too slow (SLOWEST_SHARE).
    """
    if settings.stride is not None:
        return settings.stride
    if settings.frame_rate is None:
        return 1
    if source_rate is None:
        raise DataError(
            f"it states no frame rate, so {settings.frame_rate:g} fps cannot be taken from it; write its rate into "
            "frame_rate.txt beside the frames, or leave frame_rate out"
        )
    ratio = source_rate / settings.frame_rate
    if ratio < SLOWEST_SHARE:
        raise DataError(f"it has {source_rate:g} fps, fewer than the {settings.frame_rate:g} fps wanted")
    return max(1, math.floor(ratio + 0.5))


def clip_starts(frames: int, settings: Settings, stride: int) -> list[int]:
    """Index of the first frame of every clip of a source with `frames` frames.

    Without `clips_per_source`: from frame 0 on, as many clips as fit with no source frame between the first and the
    last of one clip in another. With it: that many starts evenly spaced from the first possible to the last, rounded
    down; one clip stands in the middle; a source too short for that many different starts gives all it has.
    """
    last = frames - span(settings.length, stride)
    if last < 0:
        return []
    count = settings.clips_per_source
    if count is None:
        return list(range(0, last + 1, span(settings.length, stride)))
    if count == 1:
        return [last // 2]
    count = min(count, last + 1)
    return [index * last // (count - 1) for index in range(count)] if count > 1 else [0]


def source_id(source: str) -> str:
    """`source`, a path with "/" separators, in the characters of a clip id."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", source)
    if re.search(r"[^A-Za-z0-9._/-]", source):
        name += f"-{hashlib.sha256(source.encode()).hexdigest()[:8]}"
    return name


def clip_id(source: str, start: int) -> str:
    """The id of the clip of `source` that begins at frame `start`."""
    return f"{source_id(source)}@{start:06d}"


def seeded_order(names: Sequence[str], seed: int) -> list[str]:
    """`names` in an order that depends on `seed` and the names alone, not on how they came."""
    return sorted(names, key=lambda name: (hashlib.sha256(f"{seed}/{name}".encode()).digest(), name))


def kept_clips(clips: Sequence[ClipRef], settings: Settings) -> list[ClipRef]:
    """The clips that `max_clips` keeps, in the order of `clips`.

    Sources take turns, in seeded order, and each gives its clips in seeded order: the clips kept are spread over as
    many sources as possible.
    """
    if settings.max_clips is None or len(clips) <= settings.max_clips:
        return list(clips)
    by_source: dict[str, list[str]] = {}
    for clip in clips:
        by_source.setdefault(clip.source, []).append(clip.clip_id)
    queues = [seeded_order(by_source[source], settings.seed) for source in seeded_order(list(by_source), settings.seed)]
    turns = (queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue))
    kept = {name for name, _ in zip(turns, range(settings.max_clips), strict=False)}
    return [clip for clip in clips if clip.clip_id in kept]


def check_unique(clips: Sequence[ClipRef]) -> None:
    """Raises a DataError if two clips have one id."""
    seen: dict[str, str] = {}
    for clip in clips:
        if clip.clip_id in seen:
            raise DataError(
                f"two clips are called {clip.clip_id!r}, of {seen[clip.clip_id]!r} and {clip.source!r}; "
                "rename one of the files"
            )
        seen[clip.clip_id] = clip.source
