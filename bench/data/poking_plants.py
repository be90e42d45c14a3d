"""Poking-Plants: 27 videos of 13 pot plants in motion, about 43,000 frames (paper section 4.1).

Split: within each video, the first 80 % of the frames to train on, the rest for the test. The paper says "a fifth as
test", the release how. Train and test thus show the same plants. Frame rate: as recorded; the paper names no other.

`source` is the plant, the second part of the file name (VID_PLANT_TAKE.mkv): videos of one plant look alike and are no
independent samples of plants.

Differences from the release: its loader leaves out plant 8, and its extraction drops the last frames of every video,
for which it stores no flow; all videos and frames are used here, as the paper counts them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bench.data.prepare import Counted, RawData, RawVideo, videos_in
from bench.data.prepare_videos import Recipe
from bench.data.prepared_set import source_for
from bench.data.zip_files import unpack_zip, zip_parts

NAME = re.compile(r"VID_(\d+)_\d+(_.*)?")


def _find(videos: Path, raw: Path) -> list[RawVideo]:
    found = []
    for path in videos_in(DATA, videos, ".mkv").values():
        match = NAME.fullmatch(path.stem)
        if match is None:
            raise DATA.unlike(raw, f"{path.name} is not called VID_PLANT_TAKE.mkv")
        found.append(RawVideo(path.stem, path, f"plant{match[1]}", "within"))
    return found


def _count(videos: Sequence[RawVideo]) -> list[Counted]:
    return [Counted("videos", 27, len(videos))]


def _unpack(archives: Sequence[Path], folder: Path) -> None:
    unpack_zip(archives, folder, lambda name: name.lower().endswith(".mkv") and not name.startswith("__MACOSX"))


DATA = RawData(
    name="poking-plants",
    tree=(
        "  DIR/\n"
        "    poking_plants.z01, poking_plants.z02, ..., poking_plants.zip   all parts, as downloaded\n"
        "  or, unpacked, at any depth:\n"
        "    VID_0_0.mkv, VID_0_1.mkv, ...                                  VID_PLANT_TAKE.mkv, 27 videos"
    ),
    find=_find,
    recipe=lambda size: Recipe(size, "stretch", via=256),
    count=_count,
    frames={"all": 43_000},
    tail=30,
    archives=zip_parts,
    unpack=_unpack,
)

SOURCE = source_for(
    DATA,
    summary="pot plants in motion, 27 videos of 13 plants (the paper's own recordings)",
    obtain=(
        "the authors share it on heiBOX of Heidelberg University, linked from the repository "
        "CompVis/interactive-image2video-synthesis on GitHub, as a zip file in parts; download all parts into DIR."
    ),
    citation=(
        "Blattmann, Milbich, Dorkenwald, Ommer: Understanding Object Dynamics for Interactive Image-to-Video "
        "Synthesis. CVPR 2021."
    ),
)
