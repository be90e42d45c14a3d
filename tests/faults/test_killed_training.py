"""A training that is killed goes on from its newest checkpoint, to the same bits."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from faults.running import killed_at_random
from safetensors.torch import load_file

from bench.training.journal import read_journal

CLOCKS = ("seconds", "steps_per_second")


def log(out: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in entry.items() if k not in CLOCKS} for entry in read_journal(out / "log.jsonl")]


def same_bits(whole: Path, out: Path) -> None:
    names = sorted(path.name for path in (whole / "checkpoints").iterdir())
    assert names == sorted(path.name for path in (out / "checkpoints").iterdir())
    assert len(names) == 3  # two kept, and the best
    for name in names:
        one, other = whole / "checkpoints" / name, out / "checkpoints" / name
        for file in ("model.safetensors", "state.safetensors"):
            first, second = load_file(one / file), load_file(other / file)
            assert first.keys() == second.keys()
            assert all(value.numpy().tobytes() == second[key].numpy().tobytes() for key, value in first.items())
        said = [json.loads((path / "state.json").read_text()) for path in (one, other)]
        assert [{k: entry[k] for k in ("iteration", "best", "loader")} for entry in said[:1]] == [
            {k: entry[k] for k in ("iteration", "best", "loader")} for entry in said[1:]
        ]
    assert log(whole) == log(out)


def steps_kept(out: Path) -> int:
    found = sorted((out / "checkpoints").glob("step-*/state.json"))
    return int(found[-1].parent.name.removeprefix("step-")) if found else 0


def goes_on(server: Any, faults: Any, out: Path, whole: Path) -> None:
    before = steps_kept(out)
    said = server.run("train", out=out).said
    begun = [line for line in said.splitlines() if line.startswith("going on from")]
    faults.lost += bool(before) and not begun
    same_bits(whole, out)
    left = [path for path in out.rglob("*") if path.name.startswith(".")]
    assert not left


@pytest.fixture(scope="module")
def whole(server: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The folder of a training that nothing disturbs, and its seconds."""
    folder = tmp_path_factory.mktemp("whole")
    server.run("train", out=folder / "first")  # estimates the flow, and keeps it in the cache
    return folder / "out", server.seconds("train", out=folder / "out")


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_killed_at_random_moments(server: Any, faults: Any, whole: Any, tmp_path: Path, kills: int) -> None:
    undisturbed, seconds = whole
    killed_at_random(
        lambda out: server.start("train", out=out),
        lambda out: goes_on(server, faults, out, undisturbed),
        tmp_path, seconds, kills, faults,
    )  # fmt: skip


PLACES = [
    ("half of the checkpoint written", 1),
    pytest.param("half of the checkpoint written", 4, marks=pytest.mark.slow),
    ("checkpoint written, not named", 2),
    ("best checkpoint not begun", 1),
    ("best checkpoint being replaced", 1),
    pytest.param("best checkpoint being replaced", 2, marks=pytest.mark.slow),
    pytest.param("old checkpoint being removed", 1, marks=pytest.mark.slow),
    ("old checkpoint being removed", 6),  # the last one: the next run has no step to do
]


@pytest.mark.parametrize(("place", "count"), PLACES)
def test_killed_at_a_named_place(server: Any, faults: Any, whole: Any, tmp_path: Path, place: str, count: int) -> None:
    out = tmp_path / "out"
    process = server.start("train", out=out, kill_at=[place, count])
    assert process.wait() == -signal.SIGKILL, process.said
    with faults.one():
        goes_on(server, faults, out, whole[0])


@pytest.mark.slow
def test_killed_while_the_log_is_rewritten(server: Any, faults: Any, whole: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = server.start("train", out=out, kill_at=["checkpoint written, not named", 4])
    assert process.wait() == -signal.SIGKILL, process.said
    entries = log(out)
    with faults.one():
        process = server.start("train", out=out, kill_at=["half of the log rewritten", 1])
        assert process.wait() == -signal.SIGKILL, process.said
        faults.lost += sum(entry not in log(out) for entry in entries)
        goes_on(server, faults, out, whole[0])
