"""A full disk: an error with the cure, what was there stays, and the next run goes on."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Convolved, DriftingDiscs
from faults.disk import Disk
from faults.programs import plan, protocol, training_data
from peers.tiny_training import TinyTraining

from bench.evaluate import evaluate, run_key
from bench.record import LoadedRecord
from bench.store import Store
from bench.train import train
from bench.training.journal import Journal, read_journal
from metrics.errors import RecordError, TrainingError

CLIPS = 16
CURE = r"No space left on device.*Free some space and run the same command again"


def run(store: Path, method: Convolved, progress: Any = None) -> LoadedRecord:
    [record] = evaluate([method], DriftingDiscs(CLIPS), protocol(), Store(store), batch_size=4, progress=progress)
    return record


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> LoadedRecord:
    return run(tmp_path_factory.mktemp("whole"), Convolved())


def kept(store: Path) -> set[str]:
    parts = Store(store).parts(run_key(Convolved().card, protocol(), DriftingDiscs(CLIPS)))
    return {clip_id for ids, _, _ in parts.values() for clip_id in ids}


def rows_bytes(store: Path) -> int:
    run(store, Convolved())
    return next(store.rglob("rows-*.safetensors")).stat().st_size


@pytest.mark.parametrize("what", ["part", "rows", "record"])
def test_full_while_results_are_written(
    disk: Disk, faults: Any, whole: LoadedRecord, tmp_path: Path, what: str
) -> None:
    leave = rows_bytes(tmp_path / "measured") if what == "record" else 0
    when = 8 if what == "part" else CLIPS

    def progress(done: int, total: int) -> None:
        if done == when:
            disk.fill(leave)

    store = disk.root / "store"
    with faults.one():
        with pytest.raises(RecordError, match=CURE):
            run(store, Convolved(), progress)
        assert len(list(store.rglob("rows-*"))) == (what == "record")
        before = kept(store)
        assert len(before) == when
        with pytest.raises(RecordError, match=CURE):  # it is full still; nothing is lost by trying
            run(store, Convolved())
        faults.lost += len(before - kept(store))
        disk.free()
        method = Convolved()
        found = run(store, method)
        faults.lost += 4 * method.calls - (CLIPS - len(before))
        assert found.facts.arrays == whole.facts.arrays


def full_from(step: int, disk: Disk, patch: pytest.MonkeyPatch) -> None:
    """The disk is full from a step of the tiny training on."""
    real = TinyTraining.step

    def fills(training: TinyTraining, parts: Any, engine: Any) -> dict[str, torch.Tensor]:
        if engine.iteration == step:
            disk.fill()
        return real(training, parts, engine)

    patch.setattr(TinyTraining, "step", fills)


def weights(model: Path) -> bytes:
    return (model.parent / "checkpoints/step-00000012/state.safetensors").read_bytes()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    def made(*pairs: str) -> bytes:
        patch = pytest.MonkeyPatch()
        from methods.training import TRAININGS

        patch.setitem(TRAININGS._loaded, "tiny", TinyTraining)
        folder = tmp_path_factory.mktemp("trained")
        train(plan("loop.validate_every=0", *pairs), folder, data=training_data())
        patch.undo()
        return state(folder)

    return made


def state(out: Path) -> bytes:
    newest = sorted((out / "checkpoints").glob("step-*"))[-1]
    return (newest / "state.safetensors").read_bytes()


@pytest.mark.usefixtures("tiny")
def test_full_while_a_checkpoint_is_written(
    disk: Disk, faults: Any, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, out = ("loop.validate_every=0", "loop.checkpoint_every=5", "loop.log_every=12"), disk.root / "out"
    with faults.one():
        with monkeypatch.context() as patch:
            full_from(7, disk, patch)
            with pytest.raises(TrainingError, match=r"step-00000010 cannot be written.*step-00000005.*Free some space"):
                train(plan(*pairs), out, data=training_data())
        assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-00000005"]
        disk.free()
        asked: list[int] = []
        with monkeypatch.context() as patch:
            real = TinyTraining.step
            patch.setattr(
                TinyTraining,
                "step",
                lambda t, parts, engine: (asked.append(engine.iteration), real(t, parts, engine))[1],
            )
            train(plan(*pairs), out, data=training_data())
        faults.lost += asked[0] != 5
        assert state(out) == trained("loop.checkpoint_every=5", "loop.log_every=12")


@pytest.mark.usefixtures("tiny")
def test_full_while_the_log_is_written(
    disk: Disk, faults: Any, trained: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pairs, out = ("loop.validate_every=0", "loop.steps=80", "loop.checkpoint_every=40"), disk.root / "out"
    with faults.one():
        with monkeypatch.context() as patch:
            full_from(42, disk, patch)
            with pytest.raises(TrainingError, match=rf"the log in .*{CURE}"):
                train(plan(*pairs), out, data=training_data())
        assert "Traceback" not in capfd.readouterr().err
        before = [entry["iteration"] for entry in read_journal(out / "log.jsonl")]
        assert before == list(range(1, len(before) + 1))
        faults.lost += len(before) < 42
        disk.free()
        train(plan(*pairs), out, data=training_data())
        assert [entry["iteration"] for entry in read_journal(out / "log.jsonl")] == list(range(1, 81))
        assert state(out) == trained("loop.steps=80", "loop.checkpoint_every=40")


def test_full_while_the_log_is_opened_anew(disk: Disk, faults: Any) -> None:
    """It is written beside itself first: what was in it stays in it."""
    journal = Journal(disk.root)
    for step in range(1, 30):
        journal.write(step, "train", {"loss": 1.0})
    journal.close()
    before = (disk.root / "log.jsonl").read_bytes()
    disk.fill()
    with faults.one():
        with pytest.raises(TrainingError, match=CURE):
            Journal(disk.root, 20)
        faults.lost += (disk.root / "log.jsonl").read_bytes() != before
        disk.free()
        Journal(disk.root, 20).close()
        assert len(read_journal(disk.root / "log.jsonl")) == 20


@pytest.mark.usefixtures("tiny")
def test_full_before_the_first_step(disk: Disk, faults: Any) -> None:
    out = disk.root / "out"
    disk.fill()
    with faults.one():
        with pytest.raises(TrainingError, match=CURE):
            train(plan("loop.validate_every=0"), out, data=training_data())
        disk.free()
        train(plan("loop.validate_every=0", "loop.steps=2"), disk.root / "other", data=training_data())


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path, faults: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.mkdir

    def refused(path: Path, *arguments: Any, **keywords: Any) -> None:
        if ".partial" in path.parts:
            raise PermissionError(errno.EACCES, "Permission denied")
        real(path, *arguments, **keywords)

    with faults.one():
        with monkeypatch.context() as patch:
            patch.setattr(Path, "mkdir", refused)
            with pytest.raises(RecordError, match=r"Permission denied.*Make it writable"):
                run(tmp_path / "store", Convolved())
        assert json.loads(json.dumps(run(tmp_path / "store", Convolved()).facts.samples)) == 1
