from pathlib import Path

import pytest

from bench.mixing import check_same, differences
from bench.record import LoadedRecord
from bench.store import load_record
from bench.tables import build_table
from metrics.errors import ProtocolError

PATH = Path(__file__).resolve().parents[1] / "golden" / "records" / "2" / "record.json"
RECORD = load_record(PATH)
FACTS = RECORD.facts


def changed(**fields):
    method = FACTS.method.model_copy(update={"name": "other", "title": "Other"})
    return LoadedRecord(FACTS.model_copy(update={"method": method, **fields}), RECORD.arrays)


def metric(name, **fields):
    return {"metrics": {**FACTS.metrics, name: FACTS.metrics[name].model_copy(update=fields)}}


def test_two_methods_under_one_protocol_may_be_mixed():
    assert list(differences(FACTS, changed().facts)) == []
    assert len(build_table("T", [RECORD, changed()]).rows) == 2


PROTOCOL = FACTS.protocol.model_copy(update={"quantise": "round", "size": 64})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"protocol": PROTOCOL, "protocol_hash": PROTOCOL.hash},
            rf"{FACTS.protocol_hash} and {PROTOCOL.hash} \(size: 32 and 64, quantise: none and round\)",
        ),
        (metric("ssim", version=7), "the version of ssim differs, 1 and 7"),
        (metric("psnr", convention="pooled"), "the convention of psnr differs, .*dB in means' and 'pooled'"),
        (metric("fvd", weights={"i3d": "0"}), "the weights of fvd differs"),
        (metric("psnr", higher_is_better=False), "the higher_is_better of psnr differs, True and False"),
        ({"metrics": {"psnr": FACTS.metrics["psnr"]}}, "metrics differ, fvd, psnr, ssim, endpoint_error and psnr"),
        (
            {"data": FACTS.data.model_copy(update={"content_hash": "b" * 64})},
            f"data differ, discs {FACTS.data.content_hash[:12]} and discs bbbbbbbbbbbb",
        ),
        ({"clip_ids": (*FACTS.clip_ids[:5], "new")}, r"clips differ, 6 and 6 \(new, source001@000005\)"),
        ({"clip_ids": FACTS.clip_ids[::-1]}, r"clips differ, 6 and 6 \(in order\)"),
        ({"sources": ("one",) * 6}, "the sources of their clips differ"),
        (
            {"set_results": {"fvd": FACTS.set_results["fvd"].model_copy(update={"mode": "fast"})}},
            "the mode of fvd differs, 'exact' and 'fast'",
        ),
    ],
)
def test_what_differs_is_named_with_both_values(fields, message):
    with pytest.raises(ProtocolError, match=f"convolved and other cannot stand in one table: .*{message}"):
        build_table("T", [RECORD, changed(**fields)])


def test_pokes_of_one_rule_must_agree():
    def moved(by):
        arrays = {**RECORD.arrays, "poke/displacement": RECORD.arrays["poke/displacement"].copy()}
        arrays["poke/displacement"][1, 0] += by
        return LoadedRecord(changed().facts, arrays)

    check_same([RECORD, moved(0.01)])
    message = rf"displacements of their pokes differ in 1 clips, by up to 0.5 px \({FACTS.clip_ids[1]}\)"
    with pytest.raises(ProtocolError, match=message):
        check_same([RECORD, moved(0.5)])


def test_every_difference_is_named_not_only_the_first():
    other = changed(**metric("ssim", version=2, convention="box"), sources=("one",) * 6)
    with pytest.raises(ProtocolError, match=r"sources.*; the version of ssim.*; the convention of ssim"):
        check_same([RECORD, changed(), other])


def test_many_differences_of_one_kind_are_counted():
    other = changed(clip_ids=tuple(f"x{number}" for number in range(6)))
    assert "and 9 more" in next(differences(FACTS, other.facts))


def test_a_refused_set_metric_has_no_mode_to_differ():
    refused = FACTS.set_results["fvd"].model_copy(update={"mode": "fast", "refused": "too few"})
    assert list(differences(FACTS, changed(set_results={"fvd": refused}).facts)) == []
