"""iPER: 206 videos of 30 people in motion, about 180,000 frames to train on and 49,000 to test (paper section 4.1).

Split: the predefined one. A video is for training if `train.txt` names it; "001/1/1" means 001_1_1.mp4. Frame rate: as
recorded; the paper names no other.

`source` is the actor, the first part of the file name (ACTOR_OUTFIT_ACTION.mp4): videos of one person are no
independent samples of people, whatever they wear or do.

Differences from the release: it takes a line of the list for any part of a path, so that "001/1/1" would also choose
001_1_10 and 1001_1_1; here whole parts of the name are compared. Its preparation file keeps every eighth frame, which
its own loader then refuses; its published runs use every frame, as is done here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bench.data.manifest import Split
from bench.data.prepare import Counted, RawData, RawVideo, videos_in
from bench.data.prepare_videos import Recipe
from bench.data.prepared_set import source_for
from bench.data.zip_files import unpack_zip, zip_parts
from metrics.errors import DataError

NAME = re.compile(r"(\d+)_\d+_\d+")
LISTS = ("train.txt", "val.txt")


def _listed(path: Path) -> list[str]:
    """The names in a list, "001/1/1" as "001_1_1"."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a list of names ({error}); get it from the owner again") from error
    return [line.strip().strip("/").replace("/", "_") for line in lines if line.strip()]


def _is_in(name: str, listed: set[str]) -> bool:
    """Whether a list names this video, or its actor and outfit, or its actor."""
    parts = name.split("_")
    return any("_".join(parts[:count]) in listed for count in range(1, len(parts) + 1))


def _find(videos: Path, raw: Path) -> list[RawVideo]:
    missing = [name for name in LISTS if not (raw / name).is_file()]
    if missing:
        raise DATA.unlike(raw, f"{' and '.join(missing)}, which state the split, are not there")
    train, test = (set(_listed(raw / name)) for name in LISTS)
    found = []
    for path in videos_in(DATA, videos, ".mp4").values():
        match = NAME.fullmatch(path.stem)
        if match is None:
            raise DATA.unlike(raw, f"{path.name} is not called ACTOR_OUTFIT_ACTION.mp4")
        if _is_in(path.stem, train) and _is_in(path.stem, test):
            raise DataError(f"{raw}: {path.stem} is in train.txt and in val.txt; download both lists again")
        part: Split = "train" if _is_in(path.stem, train) else "test"
        found.append(RawVideo(path.stem, path, f"actor{match[1]}", part))
    return found


def _count(videos: Sequence[RawVideo]) -> list[Counted]:
    return [Counted("videos", 206, len(videos))]


def _unpack(archives: Sequence[Path], folder: Path) -> None:
    unpack_zip(archives, folder, lambda name: name.lower().endswith(".mp4") and not name.startswith("__MACOSX"))


DATA = RawData(
    name="iper",
    tree=(
        "  DIR/\n"
        "    train.txt, val.txt                  the lists of the split\n"
        "    iPER_1024_video_release.zip         as downloaded\n"
        "  or, unpacked, at any depth, in its place:\n"
        "    001_1_1.mp4, 001_1_2.mp4, ...       ACTOR_OUTFIT_ACTION.mp4, 206 videos"
    ),
    find=_find,
    recipe=lambda size: Recipe(size, "stretch", via=256),
    count=_count,
    frames={"train": 180_000, "test": 49_000},
    tail=20,
    archives=zip_parts,
    unpack=_unpack,
)

SOURCE = source_for(
    DATA,
    summary="people in front of a plain wall, 206 videos of 30 actors",
    obtain=(
        "the authors of Liquid Warping GAN share it on OneDrive (an account is needed): download "
        "iPER_1024_video_release.zip, train.txt and val.txt into DIR."
    ),
    citation=(
        "Liu, Piao, Min, Luo, Ma, Gao: Liquid Warping GAN: A Unified Framework for Human Motion Imitation, Appearance "
        "Transfer and Novel View Synthesis. ICCV 2019."
    ),
)
