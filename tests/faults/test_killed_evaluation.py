"""An evaluation that is killed goes on where it was, to the same bits."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import DriftingDiscs
from faults.programs import NAMES, Counting, protocol
from faults.running import killed_at_random

from bench.evaluate import run_key
from bench.record import LoadedRecord
from bench.store import Store

CLIPS = 36
EVERY = {(name, ref.clip_id) for name in NAMES for ref in DriftingDiscs(CLIPS).clips()}


def records(store: Path) -> dict[str, LoadedRecord]:
    return {record.facts.method.name: record for record in Store(store).records()}


def kept(store: Path) -> set[tuple[str, str]]:
    """The (method, clip) of which there are sound results, in records or parts."""
    found = {(name, clip_id) for name, record in records(store).items() for clip_id in record.facts.clip_ids}
    for name in NAMES:
        key = run_key(Counting(name).card, protocol(), DriftingDiscs(CLIPS))
        found |= {(name, clip_id) for ids, _, _ in Store(store).parts(key).values() for clip_id in ids}
    return found


def computed(calls: Path) -> list[tuple[str, str]]:
    """What the methods were asked for."""
    lines = calls.read_text().splitlines() if calls.exists() else []
    return [(name, clip_id) for name, ids in map(json.loads, lines) for clip_id in ids]


def same_bits(whole: Path, found: Path) -> None:
    one, other = records(whole), records(found)
    assert one.keys() == other.keys() == set(NAMES)
    for name, record in one.items():
        assert record.facts.arrays == other[name].facts.arrays  # with the sha256 of the rows
        assert record.facts.set_results == other[name].facts.set_results
        assert record.facts.clip_ids == other[name].facts.clip_ids


def goes_on(server: Any, faults: Any, store: Path, whole: Path) -> None:
    """The next run computes what is missing, that and nothing else, and leaves nothing lying about."""
    before, calls = kept(store), store.with_suffix(".calls")
    calls.unlink(missing_ok=True)
    server.run("evaluate", store=store, clips=CLIPS, calls=calls)
    again = computed(calls)
    assert len(again) == len(set(again))
    faults.lost += len(before.intersection(again))
    assert set(again) == EVERY - before
    same_bits(whole, store)
    left = [path for path in store.rglob("*") if path.name.startswith(".")]
    assert not left


@pytest.fixture(scope="module")
def whole(server: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The store of a run that nothing disturbs, and its seconds."""
    folder = tmp_path_factory.mktemp("whole")
    server.run("evaluate", store=folder / "first", clips=CLIPS)
    return folder / "store", server.seconds("evaluate", store=folder / "store", clips=CLIPS)


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_killed_at_random_moments(server: Any, faults: Any, whole: Any, tmp_path: Path, kills: int) -> None:
    undisturbed, seconds = whole
    killed_at_random(
        lambda store: server.start("evaluate", store=store, clips=CLIPS),
        lambda store: goes_on(server, faults, store, undisturbed),
        tmp_path, seconds, kills, faults,
    )  # fmt: skip


PLACES = [
    ("half of the part written", 1),
    pytest.param("half of the part written", 7, marks=pytest.mark.slow),
    pytest.param("part written, not named", 3, marks=pytest.mark.slow),
    ("half of the rows written", 1),
    ("rows written, record not begun", 1),
    ("half of the record written", 2),
    pytest.param("parts being removed", 1, marks=pytest.mark.slow),
    ("parts being removed", 12),
    ("lock being removed", 1),
]


@pytest.mark.parametrize(("place", "count"), PLACES)
def test_killed_at_a_named_place(server: Any, faults: Any, whole: Any, tmp_path: Path, place: str, count: int) -> None:
    store = tmp_path / "store"
    process = server.start("evaluate", store=store, clips=CLIPS, kill_at=[place, count])
    assert process.wait() == -signal.SIGKILL, process.said
    with faults.one():
        goes_on(server, faults, store, whole[0])


@pytest.mark.slow
def test_killed_again_and_again(server: Any, faults: Any, whole: Any, tmp_path: Path) -> None:
    """One evaluation that never gets further than two parts."""
    store = tmp_path / "store"
    for done in range(0, len(EVERY) - 8, 8):
        with faults.one():
            process = server.start("evaluate", store=store, clips=CLIPS, kill_at=["part written, not named", 3])
            assert process.wait() == -signal.SIGKILL, process.said
            assert len(kept(store)) == done + 8
    goes_on(server, faults, store, whole[0])
