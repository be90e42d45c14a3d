"""Tai-Chi-HD: 252 and 28 videos from the web, about 211,000 frames to train on and 54,000 to test (paper section 4.1).

Split: the folders `train` and `test`. Frame rate: the paper takes every second frame; all are kept, clips have stride
2, and training clips begin at any frame.

`source` is the video of the web, the part of the file name before "#"; the files are pieces of these, cut and cropped
by the loading script. The published numbers are taken to count these videos, and frames before every second is left
out; since videos vanish from the web, a set that is loaded today may have fewer.

Difference from the release: its default pattern for the raw files misses the folders of the splits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.data.manifest import SPLITS
from bench.data.prepare import Counted, RawData, RawVideo, videos_in
from bench.data.prepare_videos import Recipe
from bench.data.prepared_set import source_for
from metrics.errors import DataError


def _find(videos: Path, raw: Path) -> list[RawVideo]:
    found = []
    for part in SPLITS:
        if not (videos / part).is_dir():
            raise DATA.unlike(raw, f"there is no folder {part}")
        for path in videos_in(DATA, videos / part, ".mp4").values():
            if "#" not in path.stem:
                raise DATA.unlike(raw, f"{part}/{path.name} is not called VIDEO#FIRST#LAST.mp4")
            found.append(RawVideo(f"{part}/{path.stem}", path, path.stem.partition("#")[0], part))
    both = set.intersection(*({video.group for video in found if video.part == part} for part in SPLITS))
    if both:
        raise DataError(f"{raw}: pieces of {', '.join(sorted(both)[:5])} are in train and in test; load the set again")
    return found


def _count(videos: Sequence[RawVideo]) -> list[Counted]:
    groups = {part: {video.group for video in videos if video.part == part} for part in SPLITS}
    return [
        Counted("videos to train on", 252, len(groups["train"])),
        Counted("videos to test", 28, len(groups["test"])),
    ]


DATA = RawData(
    name="taichi",
    tree=(
        "  DIR/\n"
        "    train/   VIDEO#FIRST#LAST.mp4, ...   pieces of 252 videos, 256 x 256 px\n"
        "    test/    VIDEO#FIRST#LAST.mp4, ...   pieces of 28 videos"
    ),
    find=_find,
    recipe=lambda size: Recipe(size, "stretch", via=256),
    stride=2,
    count=_count,
    frames={"train": 211_000, "test": 54_000},
    tail=20,
)

SOURCE = source_for(
    DATA,
    summary="Tai-Chi practised in many places, pieces of 280 videos from the web",
    obtain=(
        "the repository AliaksandrSiarohin/first-order-model on GitHub has a loading script (folder "
        "data/taichi-loading) that fetches and crops the videos; let it write into DIR, at 256 px."
    ),
    citation=(
        "Siarohin, Lathuiliere, Tulyakov, Ricci, Sebe: First Order Motion Model for Image Animation. NeurIPS 2019."
    ),
)
