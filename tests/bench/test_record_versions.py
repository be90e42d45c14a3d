"""Records of every layout that there has been are read, and mean what they meant."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from bench.protocol import LATER_FIELDS, Protocol
from bench.record import SCHEMA_VERSION, Record
from bench.record_versions import UPGRADES, upgraded
from bench.store import load_record
from bench.tables import build_table
from metrics.errors import RecordError

RECORDS = Path(__file__).resolve().parents[1] / "golden" / "records"
LAYOUTS = sorted(path.name for path in RECORDS.iterdir() if path.is_dir())


def content(layout):
    return json.loads((RECORDS / layout / "record.json").read_text())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_historic_record_is_read(layout):
    record = load_record(RECORDS / layout / "record.json")
    facts = record.facts
    assert facts.schema_version == SCHEMA_VERSION
    assert (len(facts.clip_ids), facts.samples, facts.protocol.horizon) == (6, 2, 9)
    assert facts.protocol_hash == facts.protocol.hash
    assert record.frame_values("psnr").shape == (6, 2, 9)
    assert record.frame_values("psnr").mean() == pytest.approx(14.506338391620261, rel=1e-12)
    assert (facts.protocol.poke is None) == (layout == "1-first")
    table = build_table("T", [record])
    assert table.rows[0].cells[0].interval.value == facts.set_results["fvd"].value


def test_every_version_and_every_upgrade_has_a_historic_record():
    versions = {content(layout)["schema_version"] for layout in LAYOUTS}
    assert versions == {*UPGRADES, SCHEMA_VERSION}
    assert sorted(UPGRADES) == list(range(1, SCHEMA_VERSION))


def test_the_earliest_protocols_get_what_their_silence_meant():
    before = content("1-first")
    after = upgraded(copy.deepcopy(before))
    assert "poke" not in before["protocol"]
    assert (after["protocol"]["poke"], after["protocol"]["flow"]) == (None, "dis")
    assert before["protocol_hash"] == "7858807b6e38"
    assert after["protocol_hash"] == Protocol(**before["protocol"]).hash != before["protocol_hash"]
    assert {key: after[key] for key in after if key not in ("schema_version", "protocol", "protocol_hash")} == {
        key: before[key] for key in before if key not in ("schema_version", "protocol", "protocol_hash")
    }


def test_reading_changes_nothing_of_what_was_read():
    before = content("1-first")
    kept = copy.deepcopy(before)
    upgraded(before)
    assert before == kept


def test_a_later_layout_of_version_1_keeps_its_hash():
    for layout in ("1-pokes", "1-control"):
        before = content(layout)
        assert upgraded(before) == {**before, "schema_version": 2}


def test_a_hash_that_was_wrong_stays_wrong():
    before = {**content("1-first"), "protocol_hash": "0" * 12}
    assert upgraded(before)["protocol_hash"] == "0" * 12


def test_the_present_layout_has_a_historic_record_of_its_own():
    """Fails when a field is added or removed: then raise SCHEMA_VERSION, and write an upgrade and a new record."""
    newest = content(str(SCHEMA_VERSION))
    assert newest.keys() == Record.model_fields.keys()
    assert newest["protocol"].keys() >= Protocol.model_fields.keys() - set(LATER_FIELDS)
    assert newest["protocol"].keys() <= Protocol.model_fields.keys()
    parts = {"method": "method", "data": "data", "provenance": "provenance", "arrays": "arrays"}
    for part in parts:
        assert newest[part].keys() == Record.model_fields[part].annotation.model_fields.keys(), part
    for part in ("metrics", "set_results"):
        kind = Record.model_fields[part].annotation.__args__[1]
        assert all(one.keys() == kind.model_fields.keys() for one in newest[part].values()), part


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 99])
def test_a_newer_record_is_refused_with_a_cure(version):
    with pytest.raises(RecordError, match=rf"version {version} is newer than {SCHEMA_VERSION}.*update the program"):
        upgraded({**content("2"), "schema_version": version})


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([1], "found 'list'"),
        ({}, "found None"),
        ({"schema_version": "2"}, "found '2'"),
        ({"schema_version": True}, "found True"),
        ({"schema_version": 0}, "never been a schema version 0"),
    ],
)
def test_what_has_no_version_is_refused(found, message):
    with pytest.raises(RecordError, match=message):
        upgraded(found)


@pytest.mark.parametrize("broken", [{"protocol": None}, {"protocol": {}, "metrics": [1]}, {"metrics": {"psnr": 3}}])
def test_a_damaged_old_record_is_one_clear_error(tmp_path, broken):
    path = tmp_path / "record.json"
    path.write_text(json.dumps({**content("1-first"), **broken}))
    with pytest.raises(RecordError, match="not a valid record"):
        load_record(path)


def test_old_rows_are_as_they_were():
    first, later = (load_record(RECORDS / layout / "record.json").arrays for layout in ("1-first", "1-pokes"))
    assert np.array_equal(first["frame/psnr"], later["frame/psnr"])
