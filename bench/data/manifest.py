"""The manifest of a prepared data set: what is there, what was counted, how it was made."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from metrics.cache import atomic_path, cache_root, writing_to_cache
from metrics.errors import DataError
from metrics.parsing import read_json, sealed, unsealed

FORMAT_VERSION = 1
"""Of the manifest."""

Part = Literal["train", "test", "within"]
"""Where a video belongs; "within": its first 80 % to train, the rest to test."""
Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class PreparedVideo:
    """One line of a manifest: the file without suffix, its source and split, and what is known of its frames."""

    file: str
    group: str
    part: Part
    frames: int
    frame_rate: float | None
    sha256: str
    raw_frames: int
    raw_sha256: str


@dataclass(frozen=True)
class Manifest:
    """What was prepared.

    Attributes:
        videos: by name, sorted.
        recipe: `Recipe` as a table.
        counts: everything that was counted, in words.
        faults: where the counts differ from the published ones; none in a whole data set.
        archives: name, size and time of change of every archive that was unpacked.
        versions: of the packages that decoded and resized.
    """

    name: str
    videos: dict[str, PreparedVideo]
    recipe: dict
    counts: list[str]
    faults: list[str]
    archives: list[list]
    versions: dict[str, str]
    format: int = FORMAT_VERSION


def folder_for(name: str, size: int) -> Path:
    """Where the data set is, or will be, prepared at `size` px."""
    return cache_root() / "data" / name / f"{size}px"


def prepared_sizes(name: str) -> list[int]:
    """Sizes at which the data set is prepared."""
    found = (cache_root() / "data" / name).glob("*px/manifest.json")
    return sorted(int(path.parent.name.removesuffix("px")) for path in found)


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Writes the manifest into `folder`, with a checksum over all of it.

    Raises:
        CacheError: it cannot be written.
    """
    path = folder / "manifest.json"
    with writing_to_cache(path, f"the manifest of {manifest.name}"), atomic_path(path) as temporary:
        temporary.write_text(json.dumps(sealed(asdict(manifest)), indent=1), encoding="utf-8")


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest in `folder`; None when there is none.

    Raises:
        DataError: it is damaged, or of another format.
    """
    path = folder / "manifest.json"
    try:
        facts = unsealed(read_json(path))
        if facts["format"] == FORMAT_VERSION:
            videos = {name: PreparedVideo(**video) for name, video in facts["videos"].items()}
            return Manifest(**{**facts, "videos": videos})
        why = f"of format {facts['format']}, expected {FORMAT_VERSION}"
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); make it readable, or remove it") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        why = f"damaged ({error})"
    raise DataError(f"{path} is {why}; remove it and prepare the data again, finished videos are kept")


def open_manifest(name: str, size: int, how: str) -> tuple[Path, Manifest]:
    """Folder and manifest of a prepared data set.

    Args:
        how: what to do when it is not there.

    Raises:
        DataError: it is not prepared at this size.
    """
    folder = folder_for(name, size)
    manifest = read_manifest(folder)
    if manifest is None:
        sizes = prepared_sizes(name)
        there = f"prepared at {', '.join(map(str, sizes))} px only, not at {size} px" if sizes else "not prepared"
        raise DataError(f"{name} is {there}. {how}")
    return folder, manifest


def report(folder: Path) -> str:
    """What was counted in a prepared data set, compared with the published numbers; one line each."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise DataError(f"{folder}: no data set was prepared here")
    frames = sum(video.frames for video in manifest.videos.values())
    side = manifest.recipe["size"]
    size = f"{frames * side * side * 3 / 1e9:.2f} GB"
    head = f"{manifest.name}: {len(manifest.videos)} videos, {frames:,} frames of {side} px in {folder} ({size})"
    tail = ["this is a part of the data set"] if manifest.faults else []
    return "\n".join([head, *manifest.counts, *tail])
