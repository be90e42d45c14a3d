"""Turns one raw video into a file of frames.

A prepared video is two files: `.rgb`, its frames as raw uint8 `[T, size, size, 3]`, and `.json`, which states what was
done and the sha256 of both ends. Both are written whole or not at all, the second after the first, so that after an
interruption the finished videos stay and only the others are made.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data.frames import Fit, Preparation, prepare_frame
from bench.data.identity import content_hash
from methods.video_io import video_frame_rate, video_frames
from metrics.cache import ENVIRONMENT_VARIABLE, atomic_path, sha256_of
from metrics.errors import CacheError, DataError
from metrics.parsing import read_json, sealed, unsealed

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
"""Rises with every change of the files, or of how frames are decoded, cropped or resized."""
RATE_TOLERANCE = 0.01
"""Relative difference of a stated frame rate from the one required that is still taken for it."""


@dataclass(frozen=True)
class Recipe:
    """What is done to every video of a data set.

    Raises a DataError for a `size` below 1 or above `via`.

    Attributes:
        size: side of the result, px.
        fit: "stretch" takes the whole frame, "centre-crop" the largest centred square.
        via: resize to this side first, then to `size`, both times with OpenCV's bilinear interpolation on 8-bit
            values; None: one area average (`bench.data.frames`). Frames are never enlarged.
        step: every how many frames of the raw video one is kept, from the first on.
        rate: frames per second that the raw video must state; None: any.
    """

    size: int
    fit: Fit = "stretch"
    via: int | None = None
    step: int = 1
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.size < 1 or (self.via is not None and self.size > self.via):
            wanted = f"1 to {self.via}" if self.via else "at least 1"
            raise DataError(f"size: expected {wanted} px, found {self.size}")


@dataclass(frozen=True)
class Job:
    """One video: its name in the data set, the raw file, the target without suffix, and what to do."""

    name: str
    path: str
    target: str
    recipe: Recipe


@dataclass(frozen=True)
class Entry:
    """What is known of a prepared video.

    Attributes:
        frames: number of frames kept.
        frame_rate: of the frames kept, per second; None when the raw video states none.
        sha256: hex, of the `.rgb` file.
        raw_frames: number of frames of the raw video.
        raw_sha256: hex, its `content_hash`.
        raw_stamp: its size in bytes and time of change in ns; [] for a frame folder.
        recipe: `Recipe` as a table.
        decoder: version of PyAV.
        format: FORMAT_VERSION.
    """

    frames: int
    frame_rate: float | None
    sha256: str
    raw_frames: int
    raw_sha256: str
    raw_stamp: list[int]
    recipe: dict[str, Any]
    decoder: str
    format: int


def resized(frame: NDArray[np.uint8], recipe: Recipe) -> NDArray[np.uint8]:
    """One frame, uint8 `[H, W, 3]`, as uint8 `[size, size, 3]`.

    Raises:
        DataError: the frame is smaller than `via` or `size`.
    """
    if recipe.via is None:
        return prepare_frame(frame, Preparation(recipe.size, recipe.fit))
    import cv2

    if recipe.fit == "centre-crop":
        side = min(frame.shape[:2])
        top, left = ((extent - side) // 2 for extent in frame.shape[:2])
        frame = frame[top : top + side, left : left + side]
    for side in (recipe.via, recipe.size):
        if min(frame.shape[:2]) < side:
            raise DataError(
                f"its frames give {frame.shape[0]} x {frame.shape[1]} px, fewer than the {side} x {side} px wanted; "
                "frames are never enlarged"
            )
        if frame.shape[:2] != (side, side):
            frame = np.asarray(cv2.resize(frame, (side, side), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    return np.ascontiguousarray(frame)


def stated_entry(target: str) -> Entry | None:
    """What the `.json` beside a prepared video says; None when there is none or it is damaged."""
    try:
        return Entry(**unsealed(read_json(Path(f"{target}.json"))))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        log.warning("%s.json is damaged; preparing the video again", target)
        return None


def is_whole(entry: Entry, target: str) -> bool:
    """Whether the frames on disk are the ones that `entry` describes."""
    path = Path(f"{target}.rgb")
    try:
        return path.is_file() and sha256_of(path) == entry.sha256
    except OSError as error:
        log.warning("%s cannot be read (%s)", path, error.strerror or error)
        return False


def make(job: Job) -> Entry:
    """Prepares one video, unless that is done already.

    Raises:
        DataError: the raw video cannot be used, or changed meanwhile.
        CacheError: the result cannot be written.
    """
    path = Path(job.path)
    stamp = [] if path.is_dir() else [path.stat().st_size, path.stat().st_mtime_ns]
    done = stated_entry(job.target)
    made_alike = done is not None and (done.recipe, done.decoder, done.format) == (
        asdict(job.recipe),
        version("av"),
        FORMAT_VERSION,
    )
    if done is not None and made_alike and stamp and done.raw_stamp == stamp:
        raw_sha256 = done.raw_sha256
    else:
        raw_sha256 = content_hash(path)
    if done is not None and made_alike and done.raw_sha256 == raw_sha256:
        if is_whole(done, job.target):
            return done
        log.warning("the prepared frames of %s are damaged or gone; preparing it again", job.name)
    return _build(job, path, raw_sha256, stamp)


def _build(job: Job, path: Path, raw_sha256: str, stamp: list[int]) -> Entry:
    recipe, digest, seen, kept = job.recipe, hashlib.sha256(), 0, 0
    rate = video_frame_rate(path)
    if recipe.rate is not None and (rate is None or abs(rate / recipe.rate - 1) > RATE_TOLERANCE):
        found = "none" if rate is None else f"{rate:g}"
        raise DataError(f"{path}: expected a video of {recipe.rate:g} frames per second, found {found}")
    try:
        with atomic_path(Path(f"{job.target}.rgb")) as temporary, temporary.open("wb") as out:
            for seen, frame in enumerate(video_frames(path), start=1):
                if (seen - 1) % recipe.step:
                    continue
                data = resized(frame, recipe).tobytes()
                digest.update(data)
                out.write(data)
                kept += 1
        kept_rate = rate / recipe.step if rate else None
        facts = (kept, kept_rate, digest.hexdigest(), seen, raw_sha256, stamp, asdict(recipe), version("av"))
        entry = Entry(*facts, FORMAT_VERSION)
        with atomic_path(Path(f"{job.target}.json")) as temporary:
            temporary.write_text(json.dumps(sealed(asdict(entry)), indent=1), encoding="utf-8")
    except OSError as error:
        raise CacheError(
            f"{job.name} cannot be prepared in {Path(job.target).parent} ({error.strerror or error}). Free some space "
            f"there, or set {ENVIRONMENT_VARIABLE} to another folder; finished videos are kept."
        ) from error
    return entry
