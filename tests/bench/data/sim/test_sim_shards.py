"""Storage: no loss, the same bytes from any process, resumable, and damage is found."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from bench.data.sim import reference
from bench.data.sim.clips import SimClip
from bench.data.sim.codec import content, pack, unpack
from bench.data.sim.generate import ensure_shards
from bench.data.sim.reference import difference, manifest, record, reference_hashes
from bench.data.sim.shards import shard_folder, stored_shard, versions, write_shard
from bench.data.sim.splits import SPLITS, VERSION, Split, make_scene
from metrics.errors import DataError

SIZE = 64
PINNED = "d128f55ee58be2ac10a29e63d88315e04d345569cea81ac9c63ec2b7de559db8"
"""Content sha256 of shard 0 of the tiny split at 64 px, made with MuJoCo 4.0.0 and numpy 2.4.6."""


@pytest.fixture(scope="module")
def clips() -> list[SimClip]:
    poked = Split("sim-one", "for tests", "pull", ("palm",), 1, 1, 1)
    natural = Split("sim-two", "for tests", "natural", ("cactus",), 1, 1, 1)
    return make_scene(poked, 0, SIZE) + make_scene(natural, 0, SIZE)


def same(one: SimClip, other: SimClip) -> bool:
    arrays = all(np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one) if f.name != "poke")
    if one.poke is None or other.poke is None:
        return arrays and one.poke is other.poke
    return (
        arrays
        and one.poke.mode == other.poke.mode
        and one.poke.location == other.poke.location
        and np.array_equal(one.poke.displacement, other.poke.displacement)
        and np.array_equal(one.poke.force, other.poke.force)
    )


def test_packing_loses_nothing(clips: list[SimClip]) -> None:
    for clip in clips:
        packed = pack(clip)
        back = unpack(packed, SIZE, clip.clip_id, clip.source, clip.kind)
        assert same(clip, back)
        assert content(back) == content(clip)
        assert len(packed) < 60_000
    assert clips[0].poke is not None
    assert clips[1].poke is None


def test_any_frames_survive_the_filter(clips: list[SimClip]) -> None:
    rng = np.random.default_rng(0)
    odd = replace(clips[0], frames=rng.integers(0, 256, clips[0].frames.shape, dtype=np.uint8))
    assert same(unpack(pack(odd), SIZE, odd.clip_id, odd.source, odd.kind), odd)


def test_damaged_bytes_are_an_error(clips: list[SimClip]) -> None:
    packed = pack(clips[0])
    with pytest.raises(DataError, match="damaged"):
        unpack(packed[:100] + bytes(50) + packed[150:-10], SIZE, "a", "b", "c")
    with pytest.raises(DataError, match="not the length of a 128 px clip"):
        unpack(packed, 128, "a", "b", "c")


def test_a_shard_has_the_pinned_content(tiny_split: Split, tmp_path: Path) -> None:
    shard = write_shard(tiny_split, SIZE, 0, tmp_path)
    assert shard.content_sha256 == PINNED
    assert shard.made_with == versions()


def test_one_process_two_processes_and_a_fresh_one_agree(tiny_split: Split, tmp_path: Path) -> None:
    made = {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        made[processes] = ensure_shards(tiny_split, SIZE, processes=processes, folder=folder)
    # With two processes the shards come from freshly started ones.
    assert [s.content_sha256 for s in made[1]] == [s.content_sha256 for s in made[2]]
    assert [s.file_sha256 for s in made[1]] == [s.file_sha256 for s in made[2]]


def test_an_older_cpu_makes_the_same_content(tmp_path: Path) -> None:
    """The C library, numpy and OpenBLAS without the wide instructions that they choose by CPU."""
    program = (
        "from pathlib import Path\n"
        "from bench.data.sim.shards import write_shard\n"
        "from bench.data.sim.splits import Split\n"
        "split = Split('sim-tiny', 'for tests', 'natural', ('cactus', 'human', 'palm'), 3, 2, 1)\n"
        f"print(write_shard(split, 64, 0, Path({str(tmp_path)!r})).content_sha256)\n"
    )
    old = {
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-FMA,-FMA4",
        "OPENBLAS_CORETYPE": "Prescott",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env={**os.environ, **old},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == PINNED


def test_progress_counts_clips(tiny_split: Split, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    ensure_shards(tiny_split, SIZE, [0, 2], processes=1, progress=lambda *call: seen.append(call), folder=tmp_path)
    assert seen == [(0, 4, "simulating sim-tiny"), (2, 4, "simulating sim-tiny"), (4, 4, "simulating sim-tiny")]
    seen.clear()
    ensure_shards(tiny_split, SIZE, [0, 2], progress=lambda *call: seen.append(call), folder=tmp_path)
    assert seen == []


def test_generation_goes_on_after_a_kill(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path\n"
        "from bench.data.sim.generate import ensure_shards\n"
        "from bench.data.sim.splits import Split\n"
        "split = Split('sim-kill', 'for tests', 'natural', ('cactus',), 40, 2, 1)\n"
        f"ensure_shards(split, 64, processes=1, folder=Path({str(tmp_path)!r}))\n"
    )
    paths = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": paths})
    deadline = time.monotonic() + 60
    while not (tmp_path / "0001.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = sorted(path.stem for path in tmp_path.glob("0*.json"))
    assert 2 <= len(finished) < 40
    split = Split("sim-kill", "for tests", "natural", ("cactus",), 40, 2, 1)
    before = (tmp_path / "0000.clips").stat().st_mtime_ns
    wanted = range(len(finished) + 1)
    shards = ensure_shards(split, SIZE, wanted, processes=1, folder=tmp_path)
    assert (tmp_path / "0000.clips").stat().st_mtime_ns == before
    assert len(shards) == len(finished) + 1
    clean = tmp_path / "clean"
    clean.mkdir()
    last = len(finished)
    assert write_shard(split, SIZE, last, clean).content_sha256 == shards[last].content_sha256


@pytest.mark.parametrize("damage", ["bits", "short", "index", "gone", "other"])
def test_a_damaged_shard_is_found_and_made_again(
    tiny_split: Split, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    good = write_shard(tiny_split, SIZE, 0, tmp_path)
    index = good.path.with_suffix(".json")
    bytes_before = good.path.read_bytes()
    if damage == "bits":
        good.path.write_bytes(bytes_before[:500] + b"x" + bytes_before[501:])
    elif damage == "short":
        good.path.write_bytes(bytes_before[:-5])
    elif damage == "index":
        index.write_text("{")
    elif damage == "gone":
        index.unlink()
    else:
        index.write_text(index.read_text().replace("sim-tiny-00000", "sim-tiny-00007"))
    with caplog.at_level(logging.WARNING):
        assert stored_shard(tiny_split, SIZE, 0, tmp_path) is None
    assert ("made again" in caplog.text) == (damage != "gone")
    (again,) = ensure_shards(tiny_split, SIZE, [0], processes=1, folder=tmp_path)
    assert again.content_sha256 == good.content_sha256
    assert good.path.read_bytes() == bytes_before


def test_a_clip_damaged_after_opening_is_an_error(tiny_split: Split, tmp_path: Path) -> None:
    shard = write_shard(tiny_split, SIZE, 0, tmp_path)
    assert shard.read(shard.entries[1]).clip_id == shard.entries[1].clip_id
    data = bytearray(shard.path.read_bytes())
    data[shard.entries[1].start + 20] ^= 1
    shard.path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="is damaged; open the data set again"):
        shard.read(shard.entries[1])
    shard.path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        shard.read(shard.entries[0])


def test_a_worker_that_fails_says_why(tmp_path: Path) -> None:
    broken = Split("sim-broken", "for tests", "natural", ("oak",), 2, 1, 1)
    with pytest.raises(DataError, match="unknown kind of object 'oak'"):
        ensure_shards(broken, SIZE, processes=2, folder=tmp_path)


def test_a_worker_that_cannot_write_is_reported(tiny_split: Split, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be written to .*No such file.*set POKEBENCH_CACHE"):
        ensure_shards(tiny_split, SIZE, processes=2, folder=tmp_path / "missing")


@pytest.mark.parametrize("size", [32, 300])
def test_sizes_that_cannot_be_drawn_are_refused_at_once(tiny_split: Split, size: int) -> None:
    with pytest.raises(DataError, match="64 to 256 px"):
        ensure_shards(tiny_split, size)


def test_the_manifest_covers_every_split_at_64_px() -> None:
    assert manifest()["version"] == VERSION
    for split in SPLITS.values():
        hashes = reference_hashes(split, 64)
        assert hashes is not None
        assert len(hashes) == split.shards
        assert all(len(text) == 64 for text in hashes)
    assert reference_hashes(SPLITS["sim-plants"], 65) is None


def test_a_shard_of_the_test_set_has_the_hash_of_the_manifest() -> None:
    split = SPLITS["sim-humans"]
    (shard,) = ensure_shards(split, 64, [0], processes=1)
    assert difference(split, 64, [(0, shard)]) == ""


def test_another_platform_is_told_what_differs(tiny_split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = ensure_shards(tiny_split, SIZE, [0, 1], processes=1)
    foreign = replace(shards[0], content_sha256="0" * 64, made_with={"mujoco": "3.3.0", "numpy": "2.0.0"})
    known = {
        "version": VERSION,
        "made_with": {"mujoco": "4.0.0"},
        "shards": {"sim-tiny/64": [s.content_sha256 for s in shards]},
    }
    monkeypatch.setattr(reference, "manifest", lambda: known)
    assert difference(tiny_split, SIZE, [(0, shards[0]), (1, shards[1])]) == ""
    text = difference(tiny_split, SIZE, [(0, foreign), (1, shards[1])])
    assert "1 of 2 shards" in text
    assert "mujoco 3.3.0, numpy 2.0.0" in text
    assert "mujoco 4.0.0" in text
    assert "differ slightly" in text
    assert difference(tiny_split, 65, [(0, foreign)]) == ""


def test_recording_writes_the_hashes_and_refuses_mixed_versions(tiny_split: Split, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    record(tiny_split, SIZE, path)
    assert '"sim-tiny/64"' in path.read_text()
    assert stored_shard(tiny_split, SIZE, 0, shard_folder(tiny_split, SIZE)) is not None
    path.write_text(path.read_text().replace(versions()["numpy"], "1.0.0"))
    with pytest.raises(DataError, match="other versions"):
        record(tiny_split, SIZE, path)
