"""Reads predictions and targets from two folders for an audit: matched by name, never resized, cut or converted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.text import some
from methods.predictions import entries, is_lossy, read_entry, unit_range
from metrics.errors import DataError

NAMED = 5
"""Names that a message lists."""


@dataclass(frozen=True)
class Videos:
    """Predictions and targets of the same clips.

    Attributes:
        clip_ids: sorted.
        pred, target: float32 `[N, T, 3, H, W]` in [0, 1].
        notes: what a reader of the numbers must know of the files.
    """

    clip_ids: tuple[str, ...]
    pred: Tensor
    target: Tensor
    notes: tuple[str, ...]


def read_videos(pred: Path, target: Path) -> Videos:
    """Reads the videos of two folders, matched by name; nothing is resized, cut or converted.

    Args:
        pred, target: folders with one entry a clip, as `methods.predictions` reads them: NAME.npz (array `video`),
            NAME/ with PNG frames, or a video file.

    Raises:
        DataError: names, lengths or sizes differ, or an entry is damaged or holds several samples.
        MethodError: a folder is missing or empty, or values are out of range.
    """
    found, truth = entries(pred), entries(target)
    alone = {pred: sorted(found.keys() - truth.keys()), target: sorted(truth.keys() - found.keys())}
    if any(alone.values()):
        parts = [f"{len(names)} only in {folder} ({some(names, NAMED)})" for folder, names in alone.items() if names]
        raise DataError(f"each prediction needs a target of its name and each target a prediction: {', '.join(parts)}")
    clip_ids = tuple(sorted(found))
    videos = {
        folder: _stacked([paths[name] for name in clip_ids]) for folder, paths in ((pred, found), (target, truth))
    }
    if videos[pred].shape != videos[target].shape:
        (frames, height, width), (wanted, high, wide) = (sizes(videos[folder]) for folder in (pred, target))
        cure = (
            "Write the predicted frames only, without context frames, on both sides."
            if (height, width) == (high, wide)
            else "Write both at one size: frames are never resized here, for that moves every metric."
        )
        raise DataError(
            f"{pred} holds videos of {frames} frames, {width} x {height} px; {target} of {wanted} frames, "
            f"{wide} x {high} px. {cure}"
        )
    notes = []
    for folder, paths in ((pred, found), (target, truth)):
        lossy = [path.name for path in paths.values() if is_lossy(path)]
        if lossy:
            notes.append(
                f"{folder}: {len(lossy)} of {len(paths)} entries are in a lossy format ({some(lossy, NAMED)}), which "
                "moves every metric. A number is reproduced from PNG frames or .npz files."
            )
    return Videos(clip_ids, videos[pred], videos[target], tuple(notes))


def _stacked(paths: Sequence[Path]) -> Tensor:
    """float32 `[N, T, 3, H, W]` in [0, 1]."""
    videos: list[Tensor] = []
    for path in paths:
        video = read_entry(path)
        if video.ndim == 5 and len(video) == 1:
            video = video[0]
        if video.ndim != 4 or video.shape[-1] != 3 or 0 in video.shape:
            what = f"{len(video)} samples" if video.ndim == 5 else f"an array of shape {list(video.shape)}"
            raise DataError(f"{path}: expected one video [T, H, W, 3], found {what}; write one prediction a clip")
        videos.append(unit_range(path, video).movedim(-1, -3))
        if videos[-1].shape != videos[0].shape:
            (frames, height, width), (wanted, high, wide) = sizes(videos[-1][None]), sizes(videos[0][None])
            raise DataError(
                f"{path}: expected {wanted} frames of {wide} x {high} px as in {paths[0].name}, found {frames} frames "
                f"of {width} x {height} px. All clips must have one length and size."
            )
    return torch.stack(videos)


def sizes(video: Tensor) -> tuple[int, int, int]:
    """Frames, height, width of `[N, T, 3, H, W]`."""
    return video.shape[1], video.shape[3], video.shape[4]
