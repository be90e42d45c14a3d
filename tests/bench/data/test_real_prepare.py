"""Preparation: archives, interruption, damage, repetition, counts, and folders prepared for training."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import stand_ins
import torch

from bench.data import human36m, poking_plants, prepare_videos, taichi, workers
from bench.data.clips import seeded_order
from bench.data.manifest import read_manifest
from bench.data.prepare import RawData, prepare
from bench.data.prepare_videos import Recipe, resized
from bench.data.prepared_flow import prepare_flow
from bench.data.registry import open_dataset, prepare_dataset, splits_of
from bench.data.zip_files import unpack_zip, zip_parts
from bench.flow.registry import FLOWS, flow_between
from bench.flow.source import FlowSource
from bench.protocol import Protocol
from bench.suite import open_protocol_data, open_validation_data
from bench.training.feed import open_training_data
from bench.training.plan import DataPlan
from metrics.errors import CacheError, DataError

pytestmark = pytest.mark.usefixtures("own_cache")


def prepared(raw: Path, data: RawData = poking_plants.DATA, *, workers: int = 1) -> Path:
    return prepare(data, raw, size=64, workers=workers, allow_partial=True)


def contents(folder: Path) -> dict[str, bytes]:
    """The frames of a prepared data set, by file."""
    return {path.name: path.read_bytes() for path in folder.glob("*.rgb")}


def times(folder: Path) -> dict[str, int]:
    """When each prepared video was written."""
    return {path.name: path.stat().st_mtime_ns for path in [*folder.glob("*.rgb"), *folder.glob("VID*.json")]}


@pytest.fixture(scope="module")
def plants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_ins.plants(tmp_path_factory.mktemp("plants"))


@pytest.fixture(scope="module")
def expected(plants: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What preparing the stand-in gives when nothing disturbs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POKEBENCH_CACHE", str(tmp_path_factory.mktemp("undisturbed")))
        return contents(prepared(plants))


def split_zip(plants: Path, folder: Path, *options: str) -> None:
    """Packs as the owners do, with the zip program; parts of 64 kB."""
    files = [str(path) for path in sorted(plants.iterdir())]
    subprocess.run(["zip", "-q", "-j", "-s", "64k", *options, str(folder / "poking_plants.zip"), *files], check=True)
    assert len(list(folder.glob("poking_plants.z0*"))) > 2


@pytest.mark.parametrize("form", ["one", "cut", "split", "split, 64 bit"])
def test_poking_plants_as_downloaded(
    plants: Path, expected: dict[str, bytes], tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form.startswith("split"):
        if shutil.which("zip") is None:
            pytest.skip("the zip program is not installed")
        # The records that the program writes by itself where all parts together exceed 4 GB.
        split_zip(plants, tmp_path, *(["-fz"] if form == "split, 64 bit" else []))
    else:
        whole = stand_ins.zipped(plants, tmp_path / "poking_plants.zip", "plants/")
        if form == "cut":
            stand_ins.cut(whole, 3)
    folder = prepared(tmp_path)
    assert contents(folder) == expected
    assert not list(folder.glob("unpacked*"))

    def forbidden(*_: object) -> None:
        raise AssertionError("it is unpacked again")

    before = times(folder)
    unchanged = dataclasses.replace(poking_plants.DATA, unpack=forbidden)
    assert prepared(tmp_path, unchanged) == folder
    assert times(folder) == before
    (folder / "VID_0_1.rgb").write_bytes(b"damaged")
    with pytest.raises(AssertionError, match="unpacked again"):
        prepared(tmp_path, unchanged)
    assert contents(prepared(tmp_path)) == expected


def test_an_interrupted_unpacking_keeps_finished_files(plants: Path, tmp_path: Path) -> None:
    parts = stand_ins.cut(stand_ins.zipped(plants, tmp_path / "poking_plants.zip"), 4)
    target = tmp_path / "target"
    whole = parts[1].read_bytes()
    parts[1].write_bytes(whole[: len(whole) // 2] + bytes(100) + whole[len(whole) // 2 + 100 :])
    with pytest.raises(DataError, match=r"cannot be unpacked \(.*\)\. A part is damaged or missing"):
        unpack_zip(zip_parts(tmp_path), target, lambda name: True)
    done = {path.name: path.stat().st_mtime_ns for path in target.iterdir()}
    assert 0 < len(done) < 3
    parts[1].write_bytes(whole)
    unpack_zip(zip_parts(tmp_path), target, lambda name: True)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        path.name: path.read_bytes() for path in plants.iterdir()
    }
    assert {name: (target / name).stat().st_mtime_ns for name in done} == done


def test_missing_and_foreign_parts_are_named(plants: Path, tmp_path: Path) -> None:
    parts = stand_ins.cut(stand_ins.zipped(plants, tmp_path / "poking_plants.zip"), 3)
    kept = parts[1].read_bytes()
    parts[1].unlink()
    with pytest.raises(DataError, match=r"parts \[2\] of poking_plants.zip are missing"):
        prepared(tmp_path)
    parts[1].write_bytes(kept)
    (tmp_path / "other.zip").write_bytes(b"")
    with pytest.raises(DataError, match="expected one zip file, found other, poking_plants"):
        prepared(tmp_path)


def test_a_file_name_that_leads_outside_is_refused(plants: Path, tmp_path: Path) -> None:
    archive = stand_ins.zipped(plants, tmp_path / "poking_plants.zip", "../")
    with pytest.raises(DataError, match="outside of its folder"):
        unpack_zip([archive], tmp_path / "target", lambda name: True)
    assert not list(tmp_path.rglob("*.mkv"))


def test_iper_as_downloaded_equals_iper_unpacked(tmp_path: Path) -> None:
    loose = contents(prepare_dataset("iper", stand_ins.iper(tmp_path / "a"), size=64, workers=1, allow_partial=True))
    raw = stand_ins.iper(tmp_path / "b", packed=True)
    assert sorted(path.name for path in raw.iterdir()) == ["iPER_1024_video_release.zip", "train.txt", "val.txt"]
    assert contents(prepare_dataset("iper", raw, size=64, workers=1, allow_partial=True)) == loose


def test_what_was_unpacked_from_other_archives_is_not_used(plants: Path, tmp_path: Path, own_cache: Path) -> None:
    def broken(archives: object, folder: Path) -> None:
        (folder / "VID_0_0.mkv").write_bytes(bytes((plants / "VID_0_0.mkv").stat().st_size))
        raise DataError("interrupted")

    stand_ins.zipped(plants, tmp_path / "poking_plants.zip")
    with pytest.raises(DataError, match="interrupted"):
        prepared(tmp_path, dataclasses.replace(poking_plants.DATA, unpack=broken))
    stand_ins.zipped(plants, tmp_path / "poking_plants.zip", "other/")
    assert len(contents(prepared(tmp_path))) == 3


def test_a_data_set_goes_to_other_processes_without_its_frames(plants: Path) -> None:
    prepared(plants)
    data = open_dataset("poking-plants", length=4, split="train")
    first = data.clips()[0].clip_id
    before = len(ForkingPickler.dumps(data))
    frames = data.load(first).frames
    sent = ForkingPickler.dumps(data)
    assert len(sent) == before
    assert np.array_equal(ForkingPickler.loads(sent).load(first).frames, frames)


def test_human36m_as_downloaded(tmp_path: Path) -> None:
    raw = stand_ins.human36m(tmp_path, packed=True, frames=10)
    folder = prepare(human36m.DATA, raw, size=64, workers=1)
    manifest = read_manifest(folder)
    assert manifest is not None
    assert len(manifest.videos) == 2 * 3 + 5
    assert [name for name, *_ in manifest.archives] == sorted(f"Videos_{actor}.tgz" for actor in stand_ins.H36M_ACTORS)
    (raw / "checksums.txt").write_text(f"{'0' * 32}  archives/Videos_S1.tgz\n", encoding="utf-8")
    shutil.rmtree(folder)
    with pytest.raises(DataError, match=r"Videos_S1.tgz: expected md5 0+, found [0-9a-f]{32}"):
        prepare(human36m.DATA, raw, size=64, workers=1)
    (raw / "checksums.txt").unlink()
    archive = raw / "Videos_S5.tgz"
    archive.write_bytes(archive.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"Videos_S5.tgz: the archive is damaged or cut short"):
        prepare(human36m.DATA, raw, size=64, workers=1)


def test_preparing_again_writes_nothing(plants: Path, expected: dict[str, bytes]) -> None:
    folder = prepared(plants)
    before, manifest = times(folder), (folder / "manifest.json").read_bytes()
    assert prepared(plants) == folder
    assert times(folder) == before
    assert (folder / "manifest.json").read_bytes() == manifest
    assert contents(folder) == expected


@pytest.mark.parametrize("damage", ["flipped", "short", "gone", "facts"])
def test_a_damaged_video_alone_is_made_again(plants: Path, expected: dict[str, bytes], damage: str) -> None:
    folder = prepared(plants)
    before, victim = times(folder), folder / "VID_0_1.rgb"
    if damage == "gone":
        victim.unlink()
    elif damage == "facts":
        (folder / "VID_0_1.json").write_text("{", encoding="utf-8")
    else:
        data = bytearray(victim.read_bytes())
        data[len(data) // 2] ^= 1
        victim.write_bytes(data if damage == "flipped" else data[:-1])
    if damage != "facts":
        data_set = open_dataset("poking-plants", length=4, split="train")
        with pytest.raises(DataError, match="damaged or gone; prepare the data set again"):
            data_set.load("VID_0_1@000000")
        assert data_set.load("VID_0_0@000000").frames.shape == (4, 3, 64, 64)
    assert contents(prepared(plants)) == expected
    changed = {name for name, when in times(folder).items() if when != before[name]}
    assert changed == {"VID_0_1.rgb", "VID_0_1.json"}


def test_a_raw_video_that_changed_is_made_again(tmp_path: Path) -> None:
    raw = stand_ins.plants(tmp_path)
    folder = prepared(raw)
    before = times(folder)
    old = open_dataset("poking-plants", length=4).content_hash
    os.utime(raw / "VID_0_0.mkv", ns=(0, 0))
    stand_ins.write(raw / "VID_12_0.mkv", 30, width=384, seed=77)
    assert prepared(raw) == folder
    assert {name for name, when in times(folder).items() if when != before[name]} == {"VID_12_0.rgb", "VID_12_0.json"}
    assert open_dataset("poking-plants", length=4).content_hash != old


@pytest.mark.parametrize("workers", [1, 2])
def test_resumes_after_a_kill_without_making_finished_videos_again(
    tmp_path: Path, own_cache: Path, workers: int
) -> None:
    names = [f"VID_{plant}_0" for plant in range(5)]
    raw = stand_ins.plants(tmp_path / "raw", (*names[:4],), frames=12)
    # The last video is a pipe that nobody writes to: whoever prepares it waits until it is killed.
    pipe = raw / f"{names[4]}.mkv"
    os.mkfifo(pipe)
    command = (
        "import sys; from pathlib import Path; from bench.data.registry import prepare_dataset; "
        "prepare_dataset('poking-plants', Path(sys.argv[1]), size=64, workers=int(sys.argv[2]), allow_partial=True)"
    )
    root = Path(prepare_videos.__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", command, str(raw), str(workers)], start_new_session=True, cwd=root
    )
    folder = own_cache / "data" / "poking-plants" / "64px"
    while len(list(folder.glob("VID*.json"))) < 4:
        assert process.poll() is None
        time.sleep(0.02)
    with pytest.raises(DataError, match="another process is preparing this data set"):
        prepared(raw)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while _alive(process.pid):  # a worker ends by itself once it is done with its video
        _let_go(pipe)
        time.sleep(0.02)
    finished = times(folder)
    assert len(finished) == 8
    (folder / f".{names[4]}.rgb.abc.rgb").write_bytes(b"half written")
    assert not (folder / "manifest.json").exists()
    with pytest.raises(DataError, match="is not prepared"):
        open_dataset("poking-plants")
    pipe.unlink()
    stand_ins.write(pipe, 12, width=384, seed=4)
    prepared(raw)
    assert {name: when for name, when in times(folder).items() if name in finished} == finished
    resumed = contents(folder)
    assert sorted(resumed) == [f"{name}.rgb" for name in names]
    shutil.rmtree(folder)
    assert contents(prepared(raw)) == resumed


def _let_go(pipe: Path) -> None:
    """Lets the reader of a pipe, if there is one, read its end."""
    with contextlib.suppress(OSError):  # nobody reads
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))


def _alive(group: int) -> bool:
    """Whether a process of this group is left that has not ended."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_two_processes_give_what_one_gives(plants: Path, expected: dict[str, bytes]) -> None:
    seen: list[tuple[int, int, str]] = []
    folder = prepare(
        poking_plants.DATA,
        plants,
        size=64,
        workers=2,
        allow_partial=True,
        progress=lambda done, total, what: seen.append((done, total, what)),
    )
    assert contents(folder) == expected
    assert [done for done, _, _ in seen] == [1, 2, 3]
    assert {total for _, total, _ in seen} == {3}


@pytest.mark.parametrize("workers", [1, 2])
def test_videos_that_cannot_be_decoded_are_all_named(tmp_path: Path, workers: int) -> None:
    raw = stand_ins.plants(tmp_path, ("VID_1_0", "VID_2_0", "VID_3_0"), frames=12)
    (raw / "VID_1_0.mkv").write_bytes(b"nothing")
    stand_ins.write(raw / "VID_3_0.mkv", 3, height=200, width=384)
    with pytest.raises(
        DataError, match=r"2 videos cannot be prepared:\n.*VID_1_0: .*\n.*VID_3_0: its frames give 200 x"
    ):
        prepared(raw, workers=workers)
    stand_ins.plants(raw, ("VID_1_0", "VID_2_0", "VID_3_0"), frames=12)
    assert len(contents(prepared(raw))) == 3


def test_a_process_that_dies_is_told(plants: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.sys, "executable", shutil.which("false"))
    with pytest.raises(DataError, match=r"ended early \(exit status 1: it said nothing\)\. What is finished is kept"):
        prepared(plants, workers=2)


def test_a_full_disk_is_told(plants: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepare_videos, "atomic_path", full)
    with pytest.raises(CacheError, match=r"No space left on device.*finished videos are kept"):
        prepared(plants)


@pytest.mark.parametrize(
    ("about", "tail", "fits"),
    [(150, 0, True), (154, 0, True), (156, 0, False), (144, 0, False), (144, 2, True), (140, 2, True), (136, 2, False)],
)
def test_numbers_of_frames_are_compared_within_the_tolerance(plants: Path, about: int, tail: int, fits: bool) -> None:
    # 40 + 50 + 60 frames; without the last two of each, 144. Three percent either way.
    data = dataclasses.replace(poking_plants.DATA, frames={"all": about}, tail=tail, count=lambda _: [])
    if fits:
        manifest = read_manifest(prepare(data, plants, size=64, workers=1))
        assert manifest is not None
        assert manifest.faults == []
        assert manifest.counts == [f"frames (all): expected ~{about}, found 150"]
    else:
        with pytest.raises(DataError, match=rf"expected ~{about}, found 150(.|\n)*--allow-partial"):
            prepare(data, plants, size=64, workers=1)
        assert read_manifest(prepare(data, plants, size=64, workers=1, allow_partial=True)).faults


def test_frames_of_a_split_are_counted_apart(tmp_path: Path) -> None:
    data = dataclasses.replace(taichi.DATA, frames={"train": 120, "test": 50}, tail=0, count=lambda _: [])
    manifest = read_manifest(prepare(data, stand_ins.taichi(tmp_path), size=64, workers=1))
    assert manifest is not None
    assert manifest.counts == ["frames (train): expected ~120, found 120", "frames (test): expected ~50, found 50"]


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 0}', '{"format": 1}'])
def test_a_damaged_manifest_is_told_and_can_be_made_again(plants: Path, text: str) -> None:
    folder = prepared(plants)
    whole = (folder / "manifest.json").read_text(encoding="utf-8")
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(
        DataError, match=r"manifest.json is (damaged|of format 0).*remove it and prepare the data again"
    ):
        open_dataset("poking-plants")
    (folder / "manifest.json").unlink()
    prepared(plants)
    assert json.loads((folder / "manifest.json").read_text(encoding="utf-8")) == json.loads(whole)


def test_frames_are_never_enlarged() -> None:
    with pytest.raises(DataError, match="250 x 300 px, fewer than the 256 x 256 px wanted"):
        resized(np.zeros((250, 300, 3), np.uint8), Recipe(64, via=256))
    with pytest.raises(DataError, match="size: expected 1 to 256 px, found 300"):
        prepare_dataset("human36m", Path(), size=300)
    with pytest.raises(DataError, match="size: expected at least 1 px, found 0"):
        prepare_dataset("folder", Path(), size=0)


def test_halving_and_quartering_have_closed_forms() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    mean = frame.reshape(256, 2, 256, 2, 3).mean((1, 3))
    assert np.abs(resized(frame, Recipe(256, via=256)) - mean).max() <= 0.5
    half = resized(frame, Recipe(256, via=256)).astype(float)
    quarter = half.reshape(64, 4, 64, 4, 3)[:, 1:3, :, 1:3].mean((1, 3))
    assert np.abs(resized(frame, Recipe(64, via=256)) - quarter).max() <= 0.5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(6):
        stand_ins.write(tmp_path / "videos" / "sub" / f"{seed}.mkv", 20, height=64, width=96, seed=seed)
    return tmp_path / "videos"


def test_a_folder_is_prepared_for_training(folder: Path) -> None:
    with pytest.raises(DataError, match=r"is not prepared. Prepare it with `bench data prepare folder --raw"):
        open_dataset(folder, size=32, split="train")
    plain = open_dataset(folder, size=32, length=5)
    assert splits_of(folder) == ()
    prepare_dataset("folder", folder, size=32, workers=1)
    train, test = (open_dataset(folder, size=32, length=5, split=split) for split in ("train", "test"))
    names = [f"sub/{seed}.mkv" for seed in range(6)]
    held_out = set(seeded_order(names, 0)[:2])  # a fifth of six, rounded up
    assert {ref.source for ref in test.clips()} == held_out
    assert {ref.source for ref in train.clips()} == set(names) - held_out
    assert len(train.clips()) == 4 * 15
    # The same frames and the same ids as the folder gives without preparation.
    for ref in test.clips():
        if ref.clip_id in {clip.clip_id for clip in plain.clips()}:
            assert np.array_equal(test.load(ref.clip_id).frames, plain.load(ref.clip_id).frames)
            break
    else:
        raise AssertionError("no clip in common")


def test_a_prepared_folder_is_trained_and_evaluated_on_apart(folder: Path) -> None:
    prepare_dataset("folder", folder, size=32, workers=1)
    assert splits_of(folder) == ("train", "test")
    protocol = Protocol(dataset="folder:videos", size=32, horizon=3)
    tested = open_protocol_data(protocol, str(folder))
    learned = open_training_data(
        DataPlan(dataset=str(folder), size=32, context=2, horizon=3, flow="dis", validation_clips=4)
    )
    assert learned.validation is not None
    assert open_validation_data(protocol, str(folder)).clips()
    assert (tested.name, learned.training.name) == ("folder:videos/test", "folder:videos/train/training")
    sources = [{ref.source for ref in data.clips()} for data in (tested, learned.training, learned.validation)]
    assert sum(map(len, sources)) == len(set().union(*sources)) == 6
    with pytest.raises(DataError, match="--size 64"):  # not silently all clips, at another size
        open_protocol_data(Protocol(dataset="folder:videos", size=64, horizon=3), str(folder))


def test_flow_is_estimated_ahead_of_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_dataset("folder", folder, size=32, workers=1)
    counts = {split: len(open_dataset(folder, size=32, length=6, split=split).clips()) for split in ("train", "test")}
    seen: list[int] = []
    done = prepare_flow(folder, size=32, length=6, context=2, progress=lambda at, *_: seen.append(at))
    assert done == sum(counts.values())
    assert seen[-1] == counts["test"]
    data = open_dataset(folder, size=32, length=6, split="test")
    ref = data.clips()[-1]
    frames = data.load(ref.clip_id).frames[1:]
    expected = flow_between(FLOWS.get("dis")("cpu"), frames[None])[0]

    def forbidden(*_: object) -> None:
        raise AssertionError("it is estimated again")

    monkeypatch.setattr(FlowSource, "_estimate", forbidden)
    assert torch.equal(FlowSource(data, "dis", context=2)(ref.clip_id), expected)
    assert prepare_flow(folder, size=32, length=6, context=2) == done


def test_a_folder_that_changed_since_is_refused(folder: Path) -> None:
    prepare_dataset("folder", folder, size=32, workers=1)
    (folder / "sub" / "3.mkv").unlink()
    with pytest.raises(DataError, match=r"videos came or went since it was prepared \(sub/3.mkv\)"):
        open_dataset(folder, size=32, length=5, split="train")


def test_a_folder_of_one_video_cannot_be_split(tmp_path: Path) -> None:
    stand_ins.write(tmp_path / "a.mkv", 3)
    with pytest.raises(DataError, match="expected at least two videos, to train and to test on, found 1"):
        prepare_dataset("folder", tmp_path, size=32)
