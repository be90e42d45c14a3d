"""Damage to every kind of file that is read back: refused by name, or made again with a notice; never other numbers."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.conftest import Faults
from faults.damage import Bench, damages
from faults.stored_files import KINDS, MADE_AGAIN, SPLIT, Kind

from bench.data.sim import shards
from metrics import weights
from metrics.errors import CacheError, PokeBenchError


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A folder that every user may enter, unlike those that pytest makes."""
    parent = Path(tempfile.mkdtemp(prefix="pokebench-damage-"))
    parent.chmod(0o777)
    root = parent / "work"
    root.mkdir()
    monkeypatch.setenv("POKEBENCH_CACHE", str(root / "cache"))
    monkeypatch.setattr(weights, "TABLE", dict(weights.TABLE))
    yield Bench(root)
    shutil.rmtree(parent)


def targets(kind: Kind, root: Path) -> list[Path]:
    found = [sorted(root.glob(pattern)) for pattern in kind.files]
    assert all(found), f"{kind.files} are not all there"
    return [path for paths in found for path in paths]


def outcome(kind: Kind, root: Path, caplog: pytest.LogCaptureFixture) -> tuple[str, str]:
    """What came of reading: the digest, or "refused"; and what was said."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        try:
            return kind.read(root), caplog.text
        except PokeBenchError as error:
            return "refused", str(error)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("name", KINDS)
def test_damage_is_found(name: str, bench: Bench, caplog: pytest.LogCaptureFixture, faults: Faults) -> None:
    kind = KINDS[name]
    kind.make(bench.root)
    sound = kind.read(bench.root)
    assert kind.read(bench.root) == sound != MADE_AGAIN
    bench.keep()
    harmless = 0
    for path in targets(kind, bench.root):
        content = path.read_bytes()
        for what, damage in damages(path):
            with faults.one():
                damage(path)
                changed = not path.is_file() or path.read_bytes() != content
                assert changed, what
                found, said = outcome(kind, bench.root, caplog)
                assert found in (sound, MADE_AGAIN, "refused"), f"{path.name} {what}: other content, unnoticed"
                if found == "refused":
                    assert path.name in said or path.parent.name in said, f"{path.name} {what}: {said}"
                elif not said:
                    # Nothing was said: nothing may be lost.
                    assert found == sound or kind.quiet, f"{path.name} {what}: passed over in silence"
                    harmless += 1
            bench.restore()
    faults.notes.append(f"{harmless} without effect")


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("name", KINDS)
def test_what_cannot_be_read_is_named(
    name: str, bench: Bench, caplog: pytest.LogCaptureFixture, faults: Faults
) -> None:
    kind = KINDS[name]
    kind.make(bench.root)
    sound = kind.read(bench.root)
    bench.keep()
    for path in targets(kind, bench.root):
        with faults.one():
            with bench.unreadable(path):
                found, said = outcome(kind, bench.root, caplog)
            assert found in (sound, MADE_AGAIN, "refused")
            assert path.name in said or path.parent.name in said or path.stem in said, said
        bench.restore()


NEEDS_CACHE = {
    "decoded clips": "clips",
    "content hashes": "clips/identity",
    "metric weights": "weights",
    "prepared again": "data",
}
"""Kinds of files in the cache, and where they are kept in it."""


@pytest.mark.parametrize("name", NEEDS_CACHE)
def test_a_cache_that_cannot_be_written_is_one_error(name: str, bench: Bench, faults: Faults) -> None:
    kind, cache = KINDS[name], bench.root / "cache"
    kind.make(bench.root)
    shutil.rmtree(cache)
    cache.mkdir()
    with faults.one(), bench.read_only(cache), pytest.raises(CacheError) as found:
        kind.read(bench.root)
    said = str(found.value)
    assert f"the cache folder {cache / NEEDS_CACHE[name]}" in said
    assert "Permission denied" in said
    assert f"where {NEEDS_CACHE[name]}" in said
    assert "set POKEBENCH_CACHE to a folder that is" in said
    assert list(cache.iterdir()) == []
    kind.read(bench.root)  # and once it can, all is as before


def test_weights_in_a_read_only_cache_are_used(bench: Bench, faults: Faults) -> None:
    kind = KINDS["metric weights"]
    kind.make(bench.root)
    sound = kind.read(bench.root)
    with faults.one(), bench.read_only(bench.root / "cache"):
        assert kind.read(bench.root) == sound


@pytest.mark.parametrize("name", ["cached flow", "simulated shard"])
def test_a_file_of_the_cache_that_cannot_be_written_is_named(
    name: str, bench: Bench, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Scenes and versions ask for programs that nobody may run.
    clips, versions = shards.make_scene(SPLIT, 0, 64), shards.versions()
    monkeypatch.setattr(shards, "make_scene", lambda *_: clips)
    monkeypatch.setattr(shards, "versions", lambda: versions)
    with (
        faults.one(),
        bench.read_only(bench.root),
        pytest.raises(CacheError, match=r"0(000)?\.(flow|clips) .*(cannot be written|denied).*set POKEBENCH_CACHE"),
    ):
        KINDS[name].make(bench.root)
    assert list(bench.root.iterdir()) == []
