"""Whatever a user writes, or a file says: a valid value or one clear error."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzz.running import JSON, LONG, QUICK, fuzz, mutated, mutated_bytes
from hypothesis import strategies as st
from pydantic import ValidationError

from bench.checkpoint_card import card_faults, load_card
from bench.data.folder import open_folder
from bench.data.identity import ContentHashes
from bench.data.interface import Settings
from bench.data.manifest import read_manifest
from bench.flow.store import read_flow
from bench.protocol import Protocol
from bench.record import Record
from bench.store import load_record
from bench.suite import chosen_suite, parse_overrides
from bench.suite_file import load_suite, suite_names
from bench.training.journal import read_journal
from bench.training.plan import make_plan
from methods.registry import METHODS, build_method
from methods.training import TRAININGS
from methods.video_io import video_frame_rate

ROOT = Path(__file__).parents[2]
RECORDS = sorted((ROOT / "tests" / "golden" / "records").glob("*/record.json"))
CARDS = sorted((ROOT / "results" / "checkpoints").glob("*.json"))
SUITES = sorted((ROOT / "bench" / "suites").glob("*.toml"))
FOLDER = Path(tempfile.mkdtemp(prefix="pokebench-fuzz-"))
Property = tuple[Callable[[Any], Any], st.SearchStrategy[Any], tuple[type[Exception], ...]]


@pytest.fixture(scope="module", autouse=True)
def _folder() -> Any:
    yield
    import shutil

    shutil.rmtree(FOLDER)


def in_file(name: str, use: Callable[[Path], Any]) -> Callable[[Any], Any]:
    """Gives `use` a file of this name that holds a value: bytes and text as they are, all else as JSON."""

    def used(value: Any) -> None:
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(value, (bytes, str)):
            value = json.dumps(value)
        path.write_bytes(value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value)
        use(path)

    return used


def _record(path: Path) -> None:
    found = load_record(path)
    assert isinstance(found.facts, Record)
    again = Record(**json.loads(found.facts.model_dump_json()))
    assert again.clip_ids == found.facts.clip_ids


def _golden(path: Path) -> Any:
    content = json.loads(path.read_text())
    (FOLDER / content["arrays"]["file"]).write_bytes((path.parent / content["arrays"]["file"]).read_bytes())
    return content


def _hashes(content: Any) -> None:
    hashes = ContentHashes(FOLDER)
    hashes._path.write_text(json.dumps(content))
    ContentHashes(FOLDER)


def _protocol(fields: Any) -> None:
    protocol = Protocol(**{str(key): value for key, value in fields.items()})
    assert len(protocol.hash) == 12
    assert Protocol(**json.loads(protocol.model_dump_json())) == protocol


def _plan(pairs: list[str]) -> None:
    plan = make_plan("poking", "small", pairs)
    assert plan.identity == make_plan("poking", "small", pairs).identity


def _methods(spec: str) -> None:
    if ".py:" not in spec:  # a file of the user's is executed, on purpose
        build_method(spec)


PAIR_TEXT = st.sampled_from(
    [
        *(
            "size=64",
            "size=128",
            "size=none",
            "metrics=['psnr']",
            "poke={}",
            "poke={count=2}",
            "flow=exact",
            "size=1e3",
        ),
        *("quantise=round", "tracks={source='exact'}", "clips=" + "9" * 5000, "size=" + "[" * 5000, "dataset={}"),
        *("dataset=~nobody/x", "dataset=", "dataset=a\0b", "dataset=[]", "seed=-1", "=", "", "samples=nan"),
        *("frame_rate=inf", "frame_rate=nan", "metrics=", "metrics=[1]", "horizon=1\nclips=2", "poke.count=2"),
    ]
)
TEXT = st.text(max_size=30) | st.text("[]{}=\"'.,:\n\\#-_ 0129aeinf", max_size=40)
SETS = st.lists(
    PAIR_TEXT
    | st.builds(lambda key, value: f"{key}={value}", st.sampled_from(sorted(Protocol.model_fields)), TEXT)
    | TEXT,
    max_size=3,
)
PLAN_KEYS = st.sampled_from(
    [
        *("loop.steps", "loop.steps.x", "data.poke", "data.poke.count", "data.poke.count.x", "model.size", "model"),
        *("data.augmentation.mirror", "data.tracks.source", "loop.ema", "loop.validation_metrics", "loop.best", "x.y"),
        *("data.dataset", "data.flow", "model.predictor", "model.levels", "data..x", "loop.", ".", "model.width"),
    ]
)
PLAN_SETS = st.lists(
    st.builds(lambda key, value: f"{key}={value}", PLAN_KEYS, TEXT | st.sampled_from(["1", "none", "{}", "[" * 3000]))
    | TEXT,
    max_size=3,
)
OPTIONS = st.lists(
    st.builds(
        lambda key, value: f"{key}={value}",
        st.sampled_from(
            ["sigma", "checkpoint", "official", "folder", "title", "size", "euler_steps", "batch_norm", "x"]
        ),
        TEXT
        | st.sampled_from(["1e400", "9" * 5000, "~nobody", "none", "nan", "-1", "true", "/", "/dev/null", ".", "a\0"]),
    ),
    max_size=3,
)
SPECS = st.builds(lambda name, options: f"{name}:{','.join(options)}", st.sampled_from(sorted(METHODS)), OPTIONS) | TEXT


def suite_text() -> st.SearchStrategy[Any]:
    texts = [path.read_bytes() for path in SUITES]
    return st.sampled_from(texts).flatmap(mutated_bytes) | st.just(b"a=" + b"[" * 20000) | TEXT


def properties() -> dict[str, Property]:
    """Each property: what is done, with which values, and which errors besides ours are documented."""
    records = st.sampled_from([_golden(path) for path in RECORDS])
    cards = [json.loads(path.read_text()) for path in CARDS]
    facts = {"format": 1, "name": "n", "videos": {"v": {"file": "v", "group": "v", "part": "train", "frames": 3}}}
    return {
        "record, changed": (in_file("record.json", _record), records.flatmap(mutated), ()),
        "record, bytes": (in_file("record.json", _record), mutated_bytes(RECORDS[-1].read_bytes()), ()),
        "record, deep": (in_file("record.json", _record), st.just("[" * 100_000) | JSON, ()),
        "protocol": (_protocol, mutated(Protocol(dataset="d").model_dump(mode="json")), (ValidationError,)),
        "suite": (in_file("suite.toml", lambda path: load_suite(str(path))), suite_text(), ()),
        "suite and --set": (lambda pairs: chosen_suite("reference", pairs=pairs), SETS, ()),
        "--set": (parse_overrides, SETS, ()),
        "name of a suite": (load_suite, TEXT | st.sampled_from([*suite_names(), "/.toml", "a\0.toml"]), ()),
        "--data": (lambda text: chosen_suite("reference", text), TEXT, ()),
        "plan": (_plan, PLAN_SETS, ()),
        "card": (
            in_file("cards/c.json", lambda path: (load_card(path), list(card_faults(path.parent)))),
            st.sampled_from(cards).flatmap(mutated),
            (),
        ),
        "method": (_methods, SPECS, ()),
        "log": (
            in_file("log.jsonl", read_journal),
            mutated_bytes(b'{"iteration": 1, "kind": "train", "loss": 0.5}\n' * 3),
            (),
        ),
        "manifest": (in_file("manifest.json", lambda path: read_manifest(path.parent)), mutated(facts), ()),
        "hashes": (_hashes, mutated({"/a": [1, 2, "0" * 64]}), ()),
        "flow": (
            in_file("f.flow", lambda path: read_flow(path, ["a"])),
            mutated_bytes(b'{"clip_ids": ["a"], "shape": [1, 2, 2, 2], "sha256": "0"}\n' + bytes(32)),
            (),
        ),
        "frame rate": (
            in_file("frames/frame_rate.txt", lambda path: video_frame_rate(path.parent)),
            TEXT | st.binary(max_size=20),
            (),
        ),
        "settings": (
            lambda values: open_folder(FOLDER / "none", Settings(**values)),
            st.fixed_dictionaries(
                {},
                optional={
                    "size": st.integers(),
                    "length": st.integers(),
                    "frame_rate": st.floats(),
                    "clips_per_source": st.integers(),
                    "split": TEXT,
                },
            ),
            (),
        ),
    }


NAMES = list(properties())


@pytest.fixture(scope="module")
def known() -> dict[str, Property]:
    return properties()


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("name", NAMES)
def test_a_value_or_one_error(name: str, known: dict[str, Property]) -> None:
    use, values, admitted = known[name]
    assert sum(fuzz(use, values, QUICK, *admitted)) > 0


@pytest.mark.slow
@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("name", NAMES)
def test_a_value_or_one_error_at_length(name: str, known: dict[str, Property]) -> None:
    use, values, admitted = known[name]
    assert sum(fuzz(use, values, LONG, *admitted)) > QUICK


def test_trainings_are_known() -> None:
    assert "poking" in TRAININGS
