import errno
import json

import numpy as np
import pytest

from bench.record import SCHEMA_VERSION
from bench.store import RunKey, Store, load_record
from metrics.errors import RecordError

KEY = RunKey({"name": "m:a=1", "revision": "1", "weights": {}}, "p" * 12, "folder:my clips", "c" * 64)
ARRAYS = {
    "frame/psnr": np.arange(6, dtype=np.float64).reshape(2, 1, 3),
    "features/i3d/pred": np.ones((2, 4), np.float32),
}


def part(store, number, clips=("a", "b")):
    ids = [f"{c}{number}" for c in clips]
    store.write_part(KEY, ids, ARRAYS, {"seconds": number})
    return ids


def test_parts_come_back_bit_by_bit(tmp_path):
    store = Store(tmp_path)
    ids = part(store, 0)
    [(found, arrays, facts)] = store.parts(KEY).values()
    assert found == ids
    assert facts == {"seconds": 0}
    assert all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)
    assert arrays["frame/psnr"].dtype == np.float64


@pytest.mark.parametrize("where", [3, 60, -1])
def test_a_damaged_part_is_removed_and_the_others_stay(tmp_path, where):
    store = Store(tmp_path)
    part(store, 0)
    part(store, 1)
    path = next(iter(store.parts(KEY)))
    content = bytearray(path.read_bytes())
    content[where] ^= 0xFF
    path.write_bytes(content)
    assert len(store.parts(KEY)) == 1
    assert not path.exists()


def test_a_truncated_part_and_one_left_half_written_are_not_used(tmp_path):
    store = Store(tmp_path)
    part(store, 0)
    path = next(iter(store.parts(KEY)))
    (path.parent / ".half.safetensors").write_bytes(b"x")
    path.write_bytes(path.read_bytes()[:-5])
    assert store.parts(KEY) == {}


def test_a_full_disk_keeps_what_was_there(tmp_path, monkeypatch):
    store = Store(tmp_path)
    part(store, 0)
    before = sorted(p.name for p in tmp_path.rglob("*"))

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(RecordError, match=r"No space left on device.*Free some space.*kept"):
        part(store, 1)
    monkeypatch.undo()
    assert sorted(p.name for p in tmp_path.rglob("*")) == before
    assert len(store.parts(KEY)) == 1


def test_a_folder_that_cannot_be_made_is_an_error_with_a_cure(tmp_path):
    (tmp_path / "store").write_text("a file in the way")
    with pytest.raises(RecordError, match="Make it writable"):
        part(Store(tmp_path / "store"), 0)


@pytest.fixture
def record(tmp_path, discs, protocol):
    """A real record, and its path."""
    from bench.evaluate import evaluate, run_key
    from methods.registry import build_method

    method = build_method("copy-last-frame")
    short = protocol.model_copy(update={"metrics": ("psnr",)})
    evaluate([method], discs, short, Store(tmp_path))
    return tmp_path / run_key(method.card, short, discs).folder / "record.json"


def test_a_record_round_trips(record):
    loaded = load_record(record)
    assert loaded.facts.schema_version == SCHEMA_VERSION
    rows = loaded.rows()
    assert list(rows.columns) == ["clip", "source", "sample", "frame", "psnr"]
    assert len(rows) == 20 * 10
    assert rows.iloc[13][["clip", "frame"]].tolist() == [loaded.facts.clip_ids[1], 4]
    assert rows.psnr[13] == loaded.frame_values("psnr")[1, 0, 3]
    assert loaded.facts.model_validate_json(record.read_text()) == loaded.facts


def test_a_record_names_no_path(record):
    assert str(record.parent.parent) not in record.read_text()


def test_a_changed_row_is_found(record):
    [rows] = record.parent.glob("rows-*.safetensors")
    content = bytearray(rows.read_bytes())
    content[-1] ^= 1
    rows.write_bytes(content)
    with pytest.raises(RecordError, match="expected sha256"):
        load_record(record)
    rows.unlink()
    with pytest.raises(RecordError, match="no file"):
        load_record(record)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, "schema version 99 is newer than 2"),
        ({"samples": "many"}, "samples"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_record_of_another_schema_is_refused(record, change, message):
    content = json.loads(record.read_text())
    del content["checksum"]
    record.write_text(json.dumps(content | change))
    with pytest.raises(RecordError, match=message):
        load_record(record)


def test_something_else_is_not_a_record(tmp_path):
    (tmp_path / "record.json").write_text("[1, 2")
    with pytest.raises(RecordError, match="not a record"):
        load_record(tmp_path / "record.json")
