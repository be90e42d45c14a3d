"""Scores videos that another program wrote to disk.

The folder holds one entry for every clip, named by its clip id, with exactly the predicted frames x1..xT at the
protocol's size:

    <id>.npz                array `video`, uint8 or float in [0, 1], [T, H, W, 3] or [S, T, H, W, 3] for S samples
    <id>/                   PNG frames in natural order of their names
    <id>/s000/, s001/, ...  the same for S samples
    <id>.mp4 .mkv ...       a video; accepted, but a lossy format lowers the scores, and the card says so

Nothing is ever resized, cut or converted: what does not fit is an error.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from methods.image_io import folder_frames, image_files
from methods.interface import Conditioning, MethodCard
from methods.video_io import VIDEO_SUFFIXES, decode_video, is_lossless
from metrics.array_files import read_npz
from metrics.cache import sha256_of
from metrics.errors import DataError, MethodError

SAMPLE_FOLDER = re.compile(r"s[0-9]+")
RANGE_TOLERANCE = 1e-6
"""How far outside [0, 1] rounding may push a float."""


class LossyWarning(UserWarning):
    """Predictions are stored in a format that does not keep them as they were."""


class Predictions:
    """Reads predictions by clip id; looks at nothing else of the conditioning but its sizes.

    Args:
        folder: holds one entry for every clip, see the module.
        title: row header; the folder's name when empty.

    The card's revision is a hash of all files, so that changed predictions are a new row.

    Raises:
        MethodError: the folder is missing or empty, or an id has two entries.
    """

    def __init__(self, folder: Path, title: str = "") -> None:
        self.folder = folder
        self._entries = entries(folder)
        lossy = [path.name for path in self._entries.values() if is_lossy(path)]
        label = title or folder.resolve().name
        notes = "Frames written by another program."
        if lossy:
            caution = f"{len(lossy)} of {len(self._entries)} entries are in a lossy format (first: {lossy[0]})"
            warnings.warn(
                f"{folder}: {caution}, which lowers every score. Write PNG frames or .npz files instead.",
                LossyWarning,
                stacklevel=2,
            )
            notes += f" {caution}; every score is lowered by it."
        first = next(iter(self._entries.values()))
        self.card = MethodCard(
            name=f"predictions:{label}",
            title=label,
            revision=_content_hash(folder)[:12],
            inputs=frozenset(),
            stochastic=_stored_samples(first) > 1,
            notes=notes,
        )

    def prepare(self, device: torch.device) -> None:
        """Nothing to load."""

    def check_clips(self, clip_ids: Sequence[str]) -> None:
        """Raises a MethodError unless there is an entry for each of `clip_ids`; cheap, for use before a long run."""
        missing = [clip_id for clip_id in clip_ids if clip_id not in self._entries]
        if missing:
            raise MethodError(
                f"{self.folder}: {len(missing)} of {len(clip_ids)} clips have no prediction. Missing: "
                f"{_first(missing)}. Found: {_first(list(self._entries))}. "
                f"Name them {missing[0]}.npz, or {missing[0]}/ with PNG frames."
            )

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        """The stored frames, `[B, S, T, 3, H, W]`; the first `samples` of those stored, S = 1 when there is one.

        Raises:
            MethodError: clips are missing, unreadable, of another size or frame count, or out of range.
        """
        self.check_clips(conditioning.clip_ids)
        wanted = (conditioning.horizon, *conditioning.context.shape[-2:])
        count = samples if self.card.stochastic else 1
        videos = [self._video(clip_id, count, wanted) for clip_id in conditioning.clip_ids]
        return torch.stack(videos).to(conditioning.context.device)

    def _video(self, clip_id: str, samples: int, wanted: tuple[int, int, int]) -> Tensor:
        path = self._entries[clip_id]
        try:
            video = read_entry(path)
        except DataError as error:
            raise MethodError(str(error)) from error
        if video.ndim == 4:
            video = video[None]
        _check_shape(path, video, wanted)
        if self.card.stochastic != (len(video) > 1):
            raise MethodError(
                f"{path}: expected {'several samples' if self.card.stochastic else 'one sample'} as in the first "
                f"entry, found {len(video)}. Write the same number for every clip."
            )
        if len(video) < samples:
            raise MethodError(f"{path}: expected {samples} samples, found {len(video)}. Write more, or score fewer.")
        return unit_range(path, video[:samples]).movedim(-1, -3)


def entries(folder: Path) -> dict[str, Path]:
    """Clip id -> entry of `folder`.

    Raises:
        MethodError: the folder is missing or empty, or an id has two entries.
    """
    if not folder.is_dir():
        raise MethodError(
            f"{folder}: expected a folder of predictions, found {'a file' if folder.exists() else 'none'}"
        )
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        readable = path.is_dir() or path.suffix.lower() in {".npz", *VIDEO_SUFFIXES}
        if path.name.startswith(".") or not readable:
            continue
        clip_id = path.name if path.is_dir() else path.stem
        if clip_id in found:
            raise MethodError(f"{folder}: {found[clip_id].name} and {path.name} are both {clip_id!r}; remove one")
        found[clip_id] = path
    if not found:
        raise MethodError(f"{folder}: expected <clip id>.npz, <clip id>/ with PNG frames or <clip id>.mp4, found none")
    return found


def _content_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256_of(path)}\0".encode())
    return digest.hexdigest()


def is_lossy(path: Path) -> bool:
    """Whether an entry is in a format that does not keep frames as they were."""
    if path.suffix.lower() == ".npz" and path.is_file():
        return False
    try:
        return not all(is_lossless(part) for part in (_sample_folders(path) or [path]))
    except DataError:
        return False  # unreadable: `predict` says so when the clip is asked for


def _sample_folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(part for part in path.iterdir() if part.is_dir() and SAMPLE_FOLDER.fullmatch(part.name))


def _stored_samples(path: Path) -> int:
    """Number of samples in an entry; 1 when it cannot be read, which `predict` reports."""
    if path.is_dir():
        return max(len(_sample_folders(path)), 1)
    if path.suffix.lower() != ".npz":
        return 1
    try:
        video = _read_npz(path)
    except DataError:
        return 1
    return len(video) if video.ndim == 5 else 1


def read_entry(path: Path) -> NDArray:
    """The array of an entry: `[T, H, W, 3]` or `[S, T, H, W, 3]`.

    Raises:
        DataError: it is missing, damaged or of another layout.
    """
    if path.is_dir():
        return _read_folder(path)
    if path.suffix.lower() == ".npz":
        return _read_npz(path)
    return decode_video(path)[0]


def _read_folder(path: Path) -> NDArray:
    folders = _sample_folders(path)
    if folders and image_files(path):
        raise DataError(f"{path}: holds both frames and sample folders ({folders[0].name}, ...); keep one kind")
    samples = [np.stack(list(folder_frames(part, grey="refuse"))) for part in folders or [path]]
    if len({sample.shape for sample in samples}) > 1:
        raise DataError(f"{path}: the samples differ in frame count or size; write the same for every sample")
    return np.stack(samples)


def _read_npz(path: Path) -> NDArray:
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes); write it again")
    try:
        arrays = read_npz(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable .npz file ({error}); write it again") from error
    if "video" not in arrays:
        raise DataError(f"{path}: expected an array named 'video', found {list(arrays)}. Use np.savez(path, video=...)")
    return arrays["video"]


def _check_shape(path: Path, video: NDArray, wanted: tuple[int, int, int]) -> None:
    """Raises unless `video` is `[S, *wanted, 3]`."""
    frames, height, width = wanted
    if video.ndim == 5 and video.shape[1:] == (*wanted, 3) and len(video) > 0:
        return
    expected = f"[{frames}, {height}, {width}, 3] or [S, {frames}, {height}, {width}, 3]"
    found = list(video.shape[1:] if video.ndim == 5 and len(video) == 1 else video.shape)
    cure = "Predictions are never resized or cut: write them at the protocol's size and horizon."
    if video.ndim != 5:
        cure = "A grey video needs three equal channels: np.repeat(video[..., None], 3, axis=-1)."
    elif video.shape[-1] == 4:
        cure = "Blend or drop the alpha channel."
    elif video.shape[-1] == 1:
        cure = "Repeat the grey channel: np.repeat(video, 3, axis=-1)."
    elif video.shape[-1] != 3 and video.shape[2] == 3:
        cure = "Move the channels to the end: np.moveaxis(video, -3, -1)."
    elif video.shape[1] > frames and video.shape[2:4] == (height, width):
        cure = f"Write the {frames} predicted frames only, without context frames."
    raise MethodError(f"{path}: expected {expected}, found {found}. {cure}")


def unit_range(path: Path, video: NDArray) -> Tensor:
    """float32 in [0, 1] from uint8 or a float array in [0, 1].

    Raises:
        MethodError: another type, or values that are not finite or out of range; `path` is named in the message.
    """
    if video.dtype == np.uint8:
        return torch.from_numpy(video).float() / 255
    if video.dtype.kind != "f":
        raise MethodError(
            f"{path}: expected uint8, or float in [0, 1], found {video.dtype}. Use video.astype(np.uint8)."
        )
    if not np.isfinite(video).all():
        raise MethodError(f"{path}: {int((~np.isfinite(video)).sum())} values are NaN or infinite")
    low, high = float(video.min()), float(video.max())
    if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        cure = "divide by 255" if high > 2 else "map [-1, 1] to [0, 1]" if low < -0.5 else "clip it"
        raise MethodError(f"{path}: expected values in [0, 1], found [{low:.4g}, {high:.4g}]; {cure}")
    return torch.from_numpy(np.asarray(video, np.float32)).clamp(0, 1)


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
