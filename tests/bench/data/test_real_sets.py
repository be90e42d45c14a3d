"""The four real data sets on stand-ins: layout, splits, rates, sources, counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import stand_ins

from bench.data.interface import DataSet
from bench.data.manifest import read_manifest, report
from bench.data.registry import DATASETS, open_dataset, prepare_dataset
from methods.video_io import decode_video
from metrics.errors import DataError

NAMES = ("poking-plants", "iper", "taichi", "human36m")
MAKERS: dict[str, Callable[..., Path]] = dict(
    zip(NAMES, (stand_ins.plants, stand_ins.iper, stand_ins.taichi, stand_ins.human36m), strict=True)
)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in MAKERS.items()}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, raw: dict[str, Path]) -> Iterator[Path]:
    """A user cache with all four prepared at 64 px."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POKEBENCH_CACHE", str(folder))
        for name in NAMES:
            prepare_dataset(name, raw[name], size=64, workers=1, allow_partial=True)
        yield folder


def ids(data: DataSet) -> list[str]:
    return [ref.clip_id for ref in data.clips()]


def stored(cache: Path, name: str, video: str) -> np.ndarray:
    """All prepared frames of a video, read without the data set's own code."""
    return np.fromfile(cache / "data" / name / "64px" / f"{video}.rgb", np.uint8).reshape(-1, 64, 64, 3)


def by_hand(frame: np.ndarray) -> np.ndarray:
    """The release's two bilinear steps by plain arithmetic, for sides that divide: 256, then 64 px."""

    def step(image: np.ndarray, side: int) -> np.ndarray:
        for axis in (0, 1):
            factor = image.shape[axis] / side
            place = np.clip((np.arange(side) + 0.5) * factor - 0.5, 0, image.shape[axis] - 1)
            low = np.floor(place).astype(int)
            high = np.minimum(low + 1, image.shape[axis] - 1)
            weight = (place - low).reshape([-1 if a == axis else 1 for a in range(3)])
            image = image.take(low, axis) * (1 - weight) + image.take(high, axis) * weight
        return image

    return step(np.round(step(frame.astype(float), 256)), 64)


def test_poking_plants_splits_each_video_at_four_fifths() -> None:
    train = open_dataset("poking-plants", length=11, split="train")
    test = open_dataset("poking-plants", length=5)
    assert {ref.source for ref in train.clips()} == {"plant0", "plant12"}
    # 40, 50 and 60 frames give 32, 40 and 48 to train on; the last of them is never used.
    assert ids(train) == [
        f"{name}@{start:06d}"
        for name, frames in (("VID_0_0", 32), ("VID_0_1", 40), ("VID_12_0", 48))
        for start in range(frames - 11)
    ]
    # 8, 10 and 12 frames to test on.
    assert ids(test) == ["VID_0_0@000032", "VID_0_1@000040", "VID_12_0@000048", "VID_12_0@000053"]
    assert train.load("VID_0_0@000000").frame_rate == 30


def test_parts_too_short_for_a_clip_are_refused_or_listed() -> None:
    with pytest.raises(
        DataError,
        match=r"2 videos are too short.*\n.*VID_0_0: it has 8 frames for test, .* needs 12[^$]*--skip-unreadable",
    ):
        open_dataset("poking-plants", length=11)
    found = open_dataset("poking-plants", length=11, skip_unreadable=True)
    assert ids(found) == ["VID_12_0@000048"]
    assert [line.partition(":")[0] for line in found.skipped] == ["VID_0_0", "VID_0_1"]


def test_iper_follows_its_lists_by_whole_names() -> None:
    train, test = (open_dataset("iper", length=11, split=split) for split in ("train", "test"))
    assert {name.partition("@")[0] for name in ids(train)} == {"001_1_1", "001_1_2", "002_1_1"}
    assert {name.partition("@")[0] for name in ids(test)} == {"001_1_10", "003_4_2"}
    assert {ref.source for ref in test.clips()} == {"actor001", "actor003"}
    assert open_dataset("iper", length=11).content_hash == test.content_hash != train.content_hash


def test_taichi_takes_every_second_frame_from_any_start() -> None:
    train, test = (open_dataset("taichi", length=11, split=split) for split in ("train", "test"))
    assert {ref.source for ref in train.clips()} == {"aB-1_x", "Cd2"}
    assert [ref.source for ref in test.clips()] == ["Ef3", "Ef3"]
    # 40 frames, 10 strides of 2: a clip may begin at 0, 1, ..., 39 - 20 - 1.
    first = [name for name in ids(train) if "_000003_" in name]
    assert [int(name.partition("@")[2]) for name in first] == list(range(19))
    clip = train.load(first[3])
    assert clip.frame_rate == 12.5
    assert clip.frames.shape == (11, 3, 64, 64)


def test_human36m_keeps_every_eighth_frame_of_the_stated_actors(cache: Path) -> None:
    train, test = (open_dataset("human36m", length=11, split=split) for split in ("train", "test"))
    assert {name.partition("_")[0] for name in ids(train)} == {"S1", "S5", "S6", "S7", "S8"}
    assert {name.partition("_")[0] for name in ids(test)} == {"S9", "S11"}
    # Two cameras of one take are one source; the videos of all actions in one are left out.
    assert {ref.source for ref in test.clips()} == {"S9/Directions 1", "S11/Directions 1", "S11/WalkDog"}
    clip = test.load(ids(test)[0])
    assert clip.frame_rate == 6.25
    manifest = read_manifest(cache / "data" / "human36m" / "64px")
    assert manifest is not None
    assert {(video.frames, video.raw_frames) for video in manifest.videos.values()} == {(17, 130)}


@pytest.mark.parametrize(
    ("name", "video", "step", "crop"),
    [
        ("poking-plants", "VID_12_0", 1, slice(None)),
        ("iper", "003_4_2", 1, slice(None)),
        ("human36m", "S9/Directions 1.54138969", 8, slice(1, 257)),
    ],
)
def test_frames_are_the_raw_ones_resized_in_two_bilinear_steps(
    raw: dict[str, Path], cache: Path, name: str, video: str, step: int, crop: slice
) -> None:
    path = next(path for path in raw[name].rglob("*.m*") if f"{path.parent.parent.name}/{path.stem}".endswith(video))
    frames = decode_video(path)[0][::step, crop]
    manifest = read_manifest(cache / "data" / name / "64px")
    assert manifest is not None
    found = stored(cache, name, manifest.videos[video].file)
    assert len(found) == len(frames)
    for index in (0, len(frames) // 2, len(frames) - 1):
        assert np.abs(found[index] - by_hand(frames[index])).max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_is_a_strided_run_of_the_stored_frames(cache: Path, name: str) -> None:
    data = open_dataset(name, length=4, split="train")
    manifest = read_manifest(cache / "data" / name / "64px")
    assert manifest is not None
    stride = 2 if name == "taichi" else 1
    files = {video.file: video for video in manifest.videos.values()}
    for clip_id in (ids(data)[0], ids(data)[-1]):
        clip = data.load(clip_id)
        file, _, start = clip_id.partition("@")
        expected = stored(cache, name, file)[int(start) : int(start) + 3 * stride + 1 : stride]
        assert np.array_equal(clip.frames.numpy(), expected.transpose(0, 3, 1, 2))
        assert (clip.clip_id, clip.source) == (clip_id, files[file].group)


@pytest.mark.parametrize("name", NAMES)
def test_no_frame_is_in_both_splits(name: str) -> None:
    used: dict[str, set[tuple[str, int]]] = {}
    for split in ("train", "test"):
        data = open_dataset(name, length=4, stride=1, split=split)
        places = [clip_id.partition("@") for clip_id in ids(data)]
        used[split] = {(video, int(start) + t) for video, _, start in places for t in range(4)}
    assert used["train"]
    assert used["test"]
    assert not used["train"] & used["test"]


@pytest.mark.parametrize("name", NAMES)
def test_test_clips_do_not_overlap_and_a_stride_can_be_chosen(name: str) -> None:
    data = open_dataset(name, length=4, stride=2)
    last: dict[str, int] = {}
    for clip_id in ids(data):
        video, _, start = clip_id.partition("@")
        assert int(start) > last.get(video, -1)
        last[video] = int(start) + 6
    slower = open_dataset(name, length=4, frame_rate=data.load(ids(data)[0]).frame_rate)
    assert slower.content_hash == data.content_hash


@pytest.mark.parametrize("name", NAMES)
def test_max_clips_keeps_a_stable_choice(name: str) -> None:
    everything = open_dataset(name, length=4, split="train")
    few, more = (open_dataset(name, length=4, split="train", max_clips=count) for count in (3, 6))
    assert len(few.clips()) == 3
    assert set(ids(few)) < set(ids(more)) < set(ids(everything))
    assert few.content_hash != more.content_hash


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("poking-plants", "videos: expected 27, found 3"),
        ("iper", "videos: expected 206, found 5"),
        ("taichi", "videos to test: expected 28, found 1"),
    ],
)
def test_wrong_numbers_of_videos_are_an_error_before_any_work(
    raw: dict[str, Path], own_cache: Path, name: str, fault: str
) -> None:
    with pytest.raises(DataError, match=rf"counts differ from the published ones:(.|\n)*{fault}(.|\n)*--allow-partial"):
        prepare_dataset(name, raw[name], size=64, workers=1)
    assert not list(own_cache.rglob("*.rgb"))


def test_a_missing_actor_of_human36m_is_an_error(tmp_path: Path, own_cache: Path) -> None:
    stand_ins.human36m(tmp_path, frames=2)
    for path in (tmp_path / "S6" / "Videos").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="actors: expected 7, found 6"):
        prepare_dataset("human36m", tmp_path, size=64, workers=1)


@pytest.mark.parametrize("name", NAMES)
def test_a_part_says_so(cache: Path, name: str) -> None:
    text = report(cache / "data" / name / "64px")
    described = open_dataset(name, length=4).describe()
    if name == "human36m":  # all seven actors are there, and no number of frames is published
        assert "actors: expected 7, found 7" in text
        assert "A PART" not in described
    else:
        assert "this is a part of the data set" in text
        assert "A PART of the data set" in described


def test_the_report_compares_with_the_published_numbers(cache: Path) -> None:
    assert "frames (all): expected ~43,000, found 150" in report(cache / "data" / "poking-plants" / "64px")
    assert "frames (test): expected ~54,000, found 50" in report(cache / "data" / "taichi" / "64px")
    assert "videos: expected 206, found 5" in report(cache / "data" / "iper" / "64px")


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_something_else_is_answered_with_the_expected_tree(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a folder, found nothing"):
        prepare_dataset(name, tmp_path / "absent", size=64)
    with pytest.raises(DataError, match=rf"this is not {name}: .*\. Expected\n  DIR/\n(.|\n)*found nothing\."):
        prepare_dataset(name, tmp_path, size=64)
    stand_ins.write(tmp_path / "holiday.mp4", 3)
    stand_ins.write(tmp_path / "holiday.mkv", 3)
    (tmp_path / "train.txt").write_text("", encoding="utf-8")
    (tmp_path / "val.txt").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=rf"this is not {name}(.|\n)*found holiday.mkv, holiday.mp4, train.txt"):
        prepare_dataset(name, tmp_path, size=64, allow_partial=True)


def test_a_video_in_both_lists_of_iper_is_refused(tmp_path: Path) -> None:
    stand_ins.iper(tmp_path)
    (tmp_path / "val.txt").write_text("001/1/1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"001_1_1 is in train.txt and in val.txt"):
        prepare_dataset("iper", tmp_path, size=64, allow_partial=True)


def test_pieces_of_one_taichi_video_in_both_splits_are_refused(tmp_path: Path) -> None:
    stand_ins.taichi(tmp_path)
    stand_ins.write(tmp_path / "test" / "Cd2#000200#000300.mp4", 3)
    with pytest.raises(DataError, match=r"pieces of Cd2 are in train and in test"):
        prepare_dataset("taichi", tmp_path, size=64, allow_partial=True)


def test_human36m_at_another_rate_is_refused(tmp_path: Path, own_cache: Path) -> None:
    stand_ins.human36m(tmp_path, rate=25, frames=2)
    with pytest.raises(DataError, match=r"expected a video of 50 frames per second, found 25"):
        prepare_dataset("human36m", tmp_path, size=64, workers=1)


@pytest.mark.parametrize("name", NAMES)
def test_status_tells_where_it_is_or_how_to_get_it(cache: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = DATASETS.get(name)
    assert source.status().present
    assert "prepared at 64 px" in source.status().detail
    with pytest.raises(DataError, match="prepared at 64 px only, not at 128 px"):
        open_dataset(name, size=128)
    monkeypatch.setenv("POKEBENCH_CACHE", str(cache / "elsewhere"))
    found = source.status()
    assert not found.present
    assert f"bench data prepare {name} --raw DIR" in found.detail
    with pytest.raises(DataError, match=r"is not prepared. Prepare it with"):
        open_dataset(name)
    assert source.citation
    assert source.licence


def test_splits_are_refused_where_there_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no split 'train'"):
        open_dataset("humans-real-mini", split="train")
    with pytest.raises(DataError, match="expected train or test, found 'val'"):
        open_dataset("iper", split="val")
    with pytest.raises(DataError, match="needs no preparation"):
        prepare_dataset("humans-real-mini", tmp_path, size=64)
