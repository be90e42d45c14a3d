"""A folder of videos as a data set."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.data import prepared
from bench.data.folder import ASSUMED_RATE, find_videos, open_folder
from bench.data.frames import Box
from bench.data.interface import DataSet, Settings
from bench.data.registry import open_dataset
from metrics.errors import CacheError, DataError, RegistryError

Write = Callable[..., Path]
Make = Callable[..., np.ndarray]

pytestmark = pytest.mark.usefixtures("own_cache")
SETTINGS = Settings(size=32, length=6)


def write_frames(folder: Path, video: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(video):
        Image.fromarray(frame).save(folder / f"{number}.png")


@pytest.fixture
def videos(tmp_path: Path, write_video: Write, moving_video: Make) -> Path:
    """Three lossless videos: 20 frames as .mkv, 13 in a sub-folder, 7 PNG frames."""
    folder = tmp_path / "videos"
    write_video(folder / "a.mkv", moving_video(20, seed=0), rate=25)
    write_video(folder / "sub" / "b.mkv", moving_video(13, seed=1), rate=50)
    write_frames(folder / "frames", moving_video(7, seed=2))
    return folder


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and from then on decoding anything is an error."""

    def forbidden(path: Path) -> None:
        raise AssertionError(f"{path} is decoded")

    return lambda: monkeypatch.setattr(prepared, "video_frames", forbidden)


def ids(dataset: DataSet) -> list[str]:
    return [clip.clip_id for clip in dataset.clips()]


def test_clips_hold_the_frames_of_their_video(videos: Path, moving_video: Make) -> None:
    dataset = open_folder(videos, Settings(size=48, length=3, stride=2))
    assert isinstance(dataset, DataSet)
    assert ids(dataset) == [
        "a.mkv@000000",
        "a.mkv@000005",
        "a.mkv@000010",
        "a.mkv@000015",
        "frames@000000",
        "sub_b.mkv@000000",
        "sub_b.mkv@000005",
    ]
    assert [clip.source for clip in dataset.clips()][::3] == ["a.mkv", "a.mkv", "sub/b.mkv"]
    clip = dataset.load("sub_b.mkv@000005")
    expected = moving_video(13, seed=1)[5:10:2, :, 8:56]
    assert torch.equal(clip.frames, torch.from_numpy(expected).permute(0, 3, 1, 2))
    assert clip.frames.is_contiguous()
    assert (clip.clip_id, clip.source, clip.frame_rate) == ("sub_b.mkv@000005", "sub/b.mkv", 25)
    assert dataset.skipped == ()


def test_clips_are_sub_sampled_to_the_wanted_rate(videos: Path) -> None:
    (videos / "frames" / "frame_rate.txt").write_text("30")
    dataset = open_folder(videos, Settings(size=32, length=3, frame_rate=12.5))
    assert [dataset.load(f"{name}@000000").frame_rate for name in ("a.mkv", "sub_b.mkv", "frames")] == [12.5, 12.5, 15]
    assert "at 12.5 to 15 fps" in dataset.describe()


def test_a_rate_that_is_not_stated_is_told(videos: Path) -> None:
    dataset = open_folder(videos, SETTINGS)
    assert dataset.load("frames@000000").frame_rate == ASSUMED_RATE
    assert dataset.describe() == (
        "folder:videos: 6 clips of 3 videos, 6 frames at 25 to 50 fps and an unstated rate (taken as 10 fps), "
        "32 px (centre-crop, area average)"
    )
    with pytest.raises(DataError, match="frames: it states no frame rate"):
        open_folder(videos, Settings(size=32, length=3, frame_rate=10))


def test_a_second_opening_decodes_nothing(videos: Path, no_decoding: Callable[[], None]) -> None:
    first = open_folder(videos, SETTINGS)
    frames = [first.load(name).frames for name in ids(first)]
    no_decoding()
    again = open_folder(videos, SETTINGS)
    assert ids(again) == ids(first)
    assert again.content_hash == first.content_hash
    assert all(torch.equal(again.load(name).frames, old) for name, old in zip(ids(again), frames, strict=True))
    with pytest.raises(AssertionError, match="is decoded"):
        open_folder(videos, Settings(size=31, length=6))


def test_a_second_opening_reads_no_video_at_all(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.data import identity

    open_folder(videos, SETTINGS)
    read: list[Path] = []
    monkeypatch.setattr(identity, "sha256_of", lambda path: read.append(path) or "")
    open_folder(videos, SETTINGS)
    assert read == []


def test_identity_follows_content_not_name_of_the_folder_or_time(videos: Path, tmp_path: Path) -> None:
    first = open_folder(videos, SETTINGS)
    moved = videos.rename(tmp_path / "elsewhere")
    os.utime(moved / "a.mkv", (1, 1))
    again = open_folder(moved, SETTINGS)
    assert (ids(again), again.content_hash) == (ids(first), first.content_hash)


def test_the_content_hash_changes_with_what_is_in_the_clips(
    videos: Path, write_video: Write, moving_video: Make
) -> None:
    hashes = [
        open_folder(videos, SETTINGS).content_hash,
        open_folder(videos, Settings(size=31, length=6)).content_hash,
        open_folder(videos, Settings(size=32, length=5)).content_hash,
        open_folder(videos, Settings(size=32, length=6, max_clips=2)).content_hash,
        open_folder(videos, SETTINGS, fit="stretch").content_hash,
        open_folder(videos, SETTINGS, boxes={"a.mkv": Box(0, 0, 40)}).content_hash,
    ]
    write_video(videos / "a.mkv", moving_video(20, seed=9))
    hashes.append(open_folder(videos, SETTINGS).content_hash)
    assert len(set(hashes)) == len(hashes)


def test_the_order_of_loading_does_not_matter(videos: Path) -> None:
    dataset = open_folder(videos, SETTINGS)
    forwards = {name: dataset.load(name).frames for name in ids(dataset)}
    other = open_folder(videos, SETTINGS)
    assert all(torch.equal(other.load(name).frames, forwards[name]) for name in reversed(ids(other)))


def test_max_clips_reads_no_more_videos_than_needed(
    tmp_path: Path, write_video: Write, moving_video: Make, no_decoding: Callable[[], None]
) -> None:
    for number in range(8):
        write_video(tmp_path / f"{number}.mkv", moving_video(14, 32, 32, seed=number))
    settings = Settings(size=32, length=6, max_clips=5, seed=1)
    seen: list[str] = []
    dataset = open_folder(tmp_path, settings, progress=lambda done, total, what: seen.append(what))
    assert len([name for name in seen if name]) == 5
    assert len({clip.source for clip in dataset.clips()}) == 5
    no_decoding()
    assert ids(open_folder(tmp_path, settings)) == ids(dataset)
    with pytest.raises(AssertionError, match="is decoded"):
        open_folder(tmp_path, Settings(size=32, length=6, max_clips=6, seed=1))


def test_max_clips_takes_from_the_same_clips_as_the_whole_set(videos: Path) -> None:
    everything = open_folder(videos, Settings(size=32, length=3))
    for count in (1, 2, 3, 5, 100):
        some = open_folder(videos, Settings(size=32, length=3, max_clips=count))
        assert len(ids(some)) == min(count, len(ids(everything)))
        assert ids(some) == [name for name in ids(everything) if name in ids(some)]


def test_boxes_and_groups_belong_to_their_video(videos: Path, moving_video: Make) -> None:
    dataset = open_folder(
        videos, SETTINGS, name="mine", boxes={"a.mkv": Box(5, 7, 32)}, groups={"a.mkv": "g", "sub/b.mkv": "g"}
    )
    expected = moving_video(20, seed=0)[:6, 7:39, 5:37]
    assert torch.equal(dataset.load("a.mkv@000000").frames, torch.from_numpy(expected).permute(0, 3, 1, 2))
    assert {clip.source for clip in dataset.clips()} == {"g", "frames"}
    assert dataset.describe().startswith("mine: 6 clips of 3 videos in 2 groups")


@pytest.fixture
def troubled(videos: Path, write_video: Write, moving_video: Make) -> Path:
    """The three videos beside six that cannot be used."""
    cut = write_video(videos / "cut.mp4", moving_video(30), container_options={"movflags": "faststart"})
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (videos / "empty.avi").touch()
    write_video(videos / "short.mkv", moving_video(4))
    write_video(videos / "small.mkv", moving_video(20, 24, 64))
    write_frames(videos / "mixed", moving_video(7))
    Image.new("RGB", (9, 9)).save(videos / "mixed" / "7.png")
    write_frames(videos / "alpha", np.zeros((7, 48, 64, 4), np.uint8))
    return videos


FAULTS = {
    "alpha": "found an image with alpha",
    "cut.mp4": "cut short",
    "empty.avi": "empty (0 bytes)",
    "mixed": "expected frames of one size",
    "short.mkv": "it has 4 frames, too short: a clip of 6 frames at stride 1 needs 6",
    "small.mkv": "24 x 24 px, fewer than the 32 x 32 px wanted",
}


def test_all_unusable_videos_are_reported_together(troubled: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_folder(troubled, SETTINGS)
    message = str(caught.value)
    assert "6 videos cannot be used" in message
    assert message.endswith("\nMend or remove them, or leave them out with --skip-unreadable.")
    lines = message.splitlines()
    for name, fault in FAULTS.items():
        assert any(line.startswith(f"  - {name}: ") and fault in line for line in lines), name


def test_unusable_videos_are_skipped_only_on_request(troubled: Path) -> None:
    dataset = open_folder(troubled, Settings(size=32, length=6, skip_unreadable=True))
    assert [line.partition(":")[0] for line in dataset.skipped] == list(FAULTS)
    assert {clip.source for clip in dataset.clips()} == {"a.mkv", "sub/b.mkv", "frames"}


def test_skipping_everything_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    with pytest.raises(DataError, match="1 videos cannot be used"):
        open_folder(tmp_path, Settings(skip_unreadable=True))


def test_grey_frames_are_repeated(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (6, 32, 32), dtype=np.uint8)
    write_frames(tmp_path / "v", grey)
    frames = open_folder(tmp_path, SETTINGS).load("v@000000").frames
    assert torch.equal(frames, torch.from_numpy(grey)[:, None].expand(6, 3, 32, 32))


def test_folders_that_are_no_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found nothing"):
        open_folder(tmp_path / "nowhere", SETTINGS)
    with pytest.raises(DataError, match="found none, in no sub-folder either"):
        open_folder(tmp_path, SETTINGS)
    (tmp_path / "readme.txt").write_text("no video")
    (tmp_path / ".hidden.mp4").touch()
    with pytest.raises(DataError, match="found none"):
        open_folder(tmp_path, SETTINGS)
    with pytest.raises(DataError, match="found a file"):
        open_folder(tmp_path / "readme.txt", SETTINGS)


def test_videos_are_found_as_stated(tmp_path: Path) -> None:
    for name in ("b.MP4", "sub/a.avi", "sub/thumb.png", "f/1.png", "f/2.jpg", ".git/x.mp4", "sub/.x.mp4", "n.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(find_videos(tmp_path)) == ["b.MP4", "f", "sub/a.avi"]
    assert list(find_videos(tmp_path / "f")) == ["f"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")
def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "fine \u4e2d.mp4").touch()
    assert list(find_videos(tmp_path)) == ["fine \u4e2d.mp4"]
    (tmp_path / os.fsdecode(b"caf\xe9.mp4")).touch()
    with pytest.raises(DataError, match=r"the file name 'caf\\udce9.mp4' is no UTF-8 text; rename it"):
        find_videos(tmp_path)


def test_names_that_collide_are_refused(tmp_path: Path, write_video: Write, moving_video: Make) -> None:
    video = moving_video(6, 32, 32)
    write_video(tmp_path / "a_b.mkv", video)
    write_video(tmp_path / "a" / "b.mkv", video)
    with pytest.raises(DataError, match="rename one of the files"):
        open_folder(tmp_path, SETTINGS)


def test_an_unknown_clip_is_refused(videos: Path) -> None:
    with pytest.raises(DataError, match=r"folder:videos has no clip 'x'; it has 6"):
        open_folder(videos, SETTINGS).load("x")


def cache_files(cache: Path, suffix: str) -> list[Path]:
    return sorted((cache / "clips").glob(f"*{suffix}"))


def test_damaged_frames_in_the_cache_are_rebuilt_with_a_notice(
    videos: Path, own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = {name: open_folder(videos, SETTINGS).load(name).frames for name in ids(open_folder(videos, SETTINGS))}
    for path in cache_files(own_cache, ".rgb"):
        data = bytearray(path.read_bytes())
        data[100] ^= 1
        path.write_bytes(data)
    dataset = open_folder(videos, SETTINGS)
    with caplog.at_level(logging.WARNING):
        assert all(torch.equal(dataset.load(name).frames, frames) for name, frames in before.items())
    said = [record.getMessage() for record in caplog.records]
    assert [line.partition(" (")[0] for line in said] == [
        f"the cached frames of {name}" for name in ("a.mkv", "frames", "sub/b.mkv")
    ]
    assert all(line.endswith(".rgb) are damaged; decoding it again") for line in said)


@pytest.mark.parametrize("damage", ["truncated frames", "no frames", "broken facts", "wrong facts"])
def test_damaged_cache_entries_are_rebuilt(
    videos: Path, own_cache: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    dataset = open_folder(videos, SETTINGS)
    before = {name: dataset.load(name).frames for name in ids(dataset)}
    for path in cache_files(own_cache, ".rgb"):
        if damage == "truncated frames":
            path.write_bytes(path.read_bytes()[:-1])
        elif damage == "no frames":
            path.unlink()
    for path in cache_files(own_cache, ".json"):
        if damage == "broken facts":
            path.write_text("{")
        elif damage == "wrong facts":
            path.write_text(json.dumps({**json.loads(path.read_text()), "frames": 3}))
    with caplog.at_level(logging.WARNING):
        again = open_folder(videos, SETTINGS)
    assert {record.getMessage().partition(" is ")[2] for record in caplog.records} <= {"damaged; decoding it again"}
    assert bool(caplog.records) == (damage != "no frames")
    assert all(torch.equal(again.load(name).frames, frames) for name, frames in before.items())


def test_a_damaged_memory_of_hashes_is_rebuilt(
    videos: Path, own_cache: Path, caplog: pytest.LogCaptureFixture, no_decoding: Callable[[], None]
) -> None:
    first = open_folder(videos, SETTINGS)
    (memory,) = (own_cache / "clips" / "identity").iterdir()
    memory.write_text("[1, 2")
    no_decoding()
    with caplog.at_level(logging.WARNING):
        assert open_folder(videos, SETTINGS).content_hash == first.content_hash
    assert "is damaged; the files are read again" in caplog.text


def test_a_video_that_changes_while_in_use_is_told(
    videos: Path, own_cache: Path, write_video: Write, moving_video: Make
) -> None:
    dataset = open_folder(videos, SETTINGS)
    write_video(videos / "a.mkv", moving_video(20, seed=9))
    for path in cache_files(own_cache, ".rgb"):
        path.unlink()
    with pytest.raises(DataError, match=r"folder:videos: a.mkv: it was changed while it was in use"):
        dataset.load("a.mkv@000000")


def test_a_cache_that_cannot_be_written_is_told(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepared, "atomic_path", full)
    with pytest.raises(CacheError, match=r"cannot be written .*No space left on device"):
        open_folder(videos, Settings(size=32, length=6, skip_unreadable=True))


def test_open_dataset_takes_names_and_folders(videos: Path) -> None:
    dataset = open_dataset(videos, size=32, length=6, max_clips=4)
    assert len(dataset.clips()) == 4
    assert dataset.content_hash == open_dataset(str(videos), size=32, length=6, max_clips=4).content_hash
    with pytest.raises(RegistryError, match=r"did you mean 'humans-real-mini'.*nor is there a folder 'humans-real'"):
        open_dataset("humans-real")
