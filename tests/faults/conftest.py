"""Counts of injected faults, one line a test and their sum; and what injects them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from faults.disk import Disk, small_disk
from faults.running import Server
from peers.tiny_training import TinyTraining

from methods.training import TRAININGS


@dataclass
class Faults:
    """What a test injected.

    Attributes:
        name: of the test.
        injected: faults so far.
        survived: those after which the program ended as it should, now or in the next run.
        lost: results that were there before a fault and were not, or were computed again, after it.
    """

    name: str
    injected: int = 0
    survived: int = 0
    lost: int = 0
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def one(self) -> Iterator[None]:
        """A fault; it is survived when the block ends without an exception."""
        self.injected += 1
        yield
        self.survived += 1

    def __str__(self) -> str:
        return f"faults injected {self.injected}, survived {self.survived}, results lost {self.lost}"


COUNTS = pytest.StashKey[list[Faults]]()


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Iterator[Faults]:
    """The counts of this test; without a fault, or with a loss, it fails."""
    counts = Faults(request.node.name)
    request.config.stash.setdefault(COUNTS, []).append(counts)
    yield counts
    assert counts.injected > 0
    assert (counts.survived, counts.lost) == (counts.injected, 0)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """A line for each test, and one for all."""
    found = config.stash.get(COUNTS, [])
    if not found:
        return
    terminalreporter.section("injected faults")
    for counts in found:
        notes = f" ({'; '.join(counts.notes)})" if counts.notes else ""
        terminalreporter.line(f"{counts}: {counts.name}{notes}")
    total = Faults("all")
    for counts in found:
        total.injected += counts.injected
        total.survived += counts.survived
        total.lost += counts.lost
    terminalreporter.line(f"{total}: {len(found)} tests together")


@pytest.fixture(scope="session")
def server(session_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Starts programs in processes of their own without importing everything anew for each."""
    with Server(tmp_path_factory.mktemp("said")) as started:
        yield started


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: Faults) -> Iterator[Disk]:
    """A small disk that can be full."""
    with small_disk(tmp_path / "disk", monkeypatch) as made:
        faults.notes.append(made.kind)
        yield made


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the tiny training known under its name."""
    monkeypatch.setitem(TRAININGS._loaded, "tiny", TinyTraining)
