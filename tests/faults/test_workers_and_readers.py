"""Clips that cannot be read, and processes that read them and die."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import Convolved, DriftingDiscs
from faults.programs import protocol
from faults.running import until

from bench.data.loader import ClipLoader, worker_fault
from bench.evaluate import evaluate
from bench.store import Store
from metrics.errors import DataError


class Broken(DriftingDiscs):
    """One clip cannot be read."""

    fault: Exception | None = OSError("the disk has a scratch")

    def load(self, clip_id: str) -> Any:
        if clip_id == "source003@000010" and self.fault is not None:
            raise self.fault
        return super().load(clip_id)


@pytest.mark.parametrize("fault", [OSError("the disk has a scratch"), ValueError("odd"), KeyError("frames")])
def test_a_reader_that_raises_in_an_evaluation(tmp_path: Path, faults: Any, fault: Exception) -> None:
    data, store = Broken(16), Store(tmp_path / "store")
    data.fault = fault
    with faults.one():
        with pytest.raises(DataError, match=rf"clip source003@000010 of discs.*{type(fault).__name__}.*run the same"):
            evaluate([Convolved()], data, protocol(), store, batch_size=4)
        data.fault = None
        method = Convolved()
        evaluate([method], data, protocol(), store, batch_size=4)
        faults.lost += method.calls - 2  # of four batches, two came before that of the clip


def test_a_reader_that_raises_in_a_worker(faults: Any) -> None:
    with faults.one(), pytest.raises(DataError, match=r"clip source003@000010 of discs.*OSError: the disk has"):
        list(ClipLoader(Broken(16), 4, workers=1))


def test_a_worker_that_is_killed_is_named(faults: Any) -> None:
    loader = ClipLoader(DriftingDiscs(64), 2, workers=1)
    batches = iter(loader)
    next(batches)
    [worker] = loader._loader._iterator._workers
    with faults.one():
        # Torch tells of it wherever this thread is: in the loader, or here.
        with pytest.raises((DataError, RuntimeError)) as raised:
            _kill_and_go_on(worker, batches)
        error = raised.value
        said = error if isinstance(error, DataError) else worker_fault(error)
        assert said is not None
        assert str(worker.pid) in str(said)
        assert "use fewer of them (--workers)" in str(said)


def _kill_and_go_on(worker: Any, batches: Any) -> None:
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    list(batches)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
def test_a_worker_of_a_training_that_is_killed(server: Any, faults: Any, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    server.run("train", out=whole)
    process = server.start("train", out=out, seconds=1.0, workers=1)  # long enough to be caught in it
    caught: list[int] = []

    def working() -> bool:  # between two epochs there is no worker, or an old one beside a new one
        caught[:] = children(process.pid)
        return len(caught) == 1 and bool(list((out / "checkpoints").glob("step-*")))

    until(working)
    [worker] = caught
    with faults.one():
        os.kill(worker, signal.SIGKILL)
        assert process.wait() == 1, process.said
        assert "Traceback" not in process.said
        said = rf"error: a process that reads clips has ended early: DataLoader worker \(pid(\(s\))? {worker}\)"
        assert re.search(said, process.said), process.said  # torch words it in two ways
        before = max(json.loads(path.read_text())["iteration"] for path in out.glob("checkpoints/step-*/state.json"))
        assert f"The training is kept up to step {before}; run the same command again" in process.said
        assert f"going on from {out}" in server.run("train", out=out).said
        same = [folder / "checkpoints/step-00000012/state.safetensors" for folder in (whole, out)]
        assert same[0].read_bytes() == same[1].read_bytes()


@pytest.mark.usefixtures("tiny")
def test_a_reader_that_raises_in_a_training_loses_no_step(tmp_path: Path, faults: Any) -> None:
    from faults.programs import plan

    from bench.train import train
    from bench.training.feed import TrainingData

    data, steps = Broken(18, length=11), []
    data.fault = None
    pairs = ("loop.validate_every=0", "loop.checkpoint_every=100")

    def report(done: int, total: int, text: str) -> None:
        steps.append(done)
        if done == 3:
            data.fault = OSError("gone")

    with faults.one():
        with pytest.raises(DataError, match=r"source003@000010.*kept up to step (\d+); run the same command again"):
            train(plan(*pairs), tmp_path / "out", data=TrainingData(data, None), report=report)
        last = steps[-1]
        data.fault = None
        done = train(plan(*pairs), tmp_path / "out", data=TrainingData(data, None), report=report)
        faults.lost += steps[steps.index(last) + 1] != last + 1
        whole = train(plan(*pairs), tmp_path / "whole", data=TrainingData(DriftingDiscs(18, length=11), None))
        assert done.model.name == whole.model.name
        both = [tmp_path / name / "checkpoints/step-00000012/state.safetensors" for name in ("out", "whole")]
        assert both[0].read_bytes() == both[1].read_bytes()
