"""Two runs at once: evaluations wait for each other, a second training in a folder is refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from faults.programs import NAMES
from faults.running import until

from bench.locks import locked
from bench.store import Store


def test_two_evaluations_of_the_same_store(server: Any, faults: Any, tmp_path: Path) -> None:
    store = tmp_path / "store"
    calls = [tmp_path / f"calls{number}" for number in range(2)]
    first = server.start("evaluate", store=store, clips=16, calls=calls[0], seconds=0.1)
    until(lambda: calls[0].exists())
    with faults.one():
        second = server.start("evaluate", store=store, clips=16, calls=calls[1])
        until(lambda: "waiting until it is done" in second.said)
        assert f"by process {first.pid} on " in second.said
        assert (first.wait(), second.wait()) == (0, 0), first.said + second.said
        assert "Traceback" not in first.said + second.said
        assert not calls[1].exists()  # the second found the records of the first
        faults.lost += len(NAMES) - len(list(Store(store).records()))
        assert {path.name for path in store.iterdir() if path.name[0] == "."} == set()


def test_two_evaluations_that_start_together(server: Any, faults: Any, tmp_path: Path) -> None:
    for number in range(3):
        store = tmp_path / f"store{number}"
        with faults.one():
            both = [server.start("evaluate", store=store, clips=8) for _ in range(2)]
            assert [process.wait() for process in both] == [0, 0], both[0].said + both[1].said
            assert "Traceback" not in both[0].said + both[1].said
            faults.lost += len(NAMES) - len(list(Store(store).records()))


def test_an_evaluation_goes_on_when_the_one_it_waits_for_is_killed(server: Any, faults: Any, tmp_path: Path) -> None:
    store = tmp_path / "store"
    calls = [tmp_path / f"calls{number}" for number in range(2)]
    first = server.start("evaluate", store=store, clips=16, calls=calls[0], seconds=0.1)
    until(lambda: calls[0].exists() and len(calls[0].read_text().splitlines()) >= 4)
    with faults.one():
        second = server.start("evaluate", store=store, clips=16, calls=calls[1])
        until(lambda: "waiting until it is done" in second.said)
        first.signal(signal.SIGKILL)
        assert (first.wait(), second.wait()) == (-signal.SIGKILL, 0), second.said
        asked = [json.loads(line) for path in calls for line in path.read_text().splitlines()]
        # All but the call in which the first was killed were kept.
        assert len(asked) in (8, 9)
        assert len(list(Store(store).records())) == len(NAMES)


def test_two_trainings_in_the_same_folder(server: Any, faults: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = server.start("train", out=out, seconds=0.1)
    until(lambda: (out / "log.jsonl").exists())
    with faults.one():
        second = server.start("train", out=out)
        assert second.wait() == 1, second.said
        assert f"error: {out} is in use by another training: process {first.pid} on " in second.said
        assert "Traceback" not in second.said
        assert first.wait() == 0, first.said
        assert (out / "checkpoints/step-00000012").is_dir()
    server.run("train", out=out)


def test_a_lock_is_free_when_its_holder_is_gone(tmp_path: Path, faults: Any) -> None:
    (tmp_path / "a.lock").write_text("left by a process that was killed")
    said: list[str] = []
    with faults.one(), locked(tmp_path / "a.lock", said.append):
        assert not said
    assert not (tmp_path / "a.lock").exists()
