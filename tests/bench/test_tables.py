import io

import numpy as np
import pandas as pd
import pytest
from conftest import Convolved, DriftingDiscs

from bench.evaluate import evaluate
from bench.store import Store
from bench.tables import build_table
from bench.text import escaped
from methods.registry import build_method
from metrics.errors import ProtocolError


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Four methods, three samples, all metrics that are quick."""
    from bench.protocol import Protocol

    protocol = Protocol(dataset="discs", size=32, metrics=("psnr", "ssim"), samples=3)
    methods = [build_method(spec) for spec in ("copy-last-frame", "context-mean", "noisy-truth:sigma=0")] + [
        Convolved()
    ]
    return evaluate(methods, DriftingDiscs(), protocol, Store(tmp_path_factory.mktemp("store")))


def test_a_cell_is_the_mean_of_its_rows(records):
    table = build_table("T", records)
    rows = records[0].rows()
    column = next(n for n, c in enumerate(table.columns) if (c.metric, c.reduction) == ("ssim", "mean of 3"))
    assert table.rows[0].cells[column].interval.value == pytest.approx(rows.ssim.mean())
    assert f"{rows.ssim.mean():.3f} [" in table.markdown()


def test_best_of_k_is_the_best_clip_mean(records):
    table = build_table("T", records)
    per_clip = records[3].rows().groupby(["clip", "sample"]).psnr.mean().groupby("clip").max()
    column = next(n for n, c in enumerate(table.columns) if (c.metric, c.reduction) == ("psnr", "best of 3"))
    assert table.rows[3].cells[column].interval.value == pytest.approx(per_clip.mean())
    assert "PSNR, best of 3 ↑" in table.markdown()


def test_identical_frames_count_as_the_cap_and_the_table_says_so(records):
    table = build_table("T", records)
    assert table.rows[2].cells[0].interval.value == 100
    assert "200 frames above 100 dB (or identical) count as 100 dB" in table.markdown()


def test_rows_that_saw_the_truth_do_not_compete(records):
    table = build_table("T", records)
    line = next(line for line in table.markdown().splitlines() if table.rows[2].title in line)
    assert "**" not in line
    assert table.markdown().count("**") == 2 * len(table.columns)
    assert "do not compete" in table.markdown()


def test_count_protocol_interval_and_convention_are_named(records):
    text = build_table("T", records).markdown()
    for words in ("N = 20 clips from 7 sources", "95% intervals", records[0].facts.protocol_hash, "version 1"):
        assert words in text


def test_csv_holds_every_digit(records):
    table = build_table("T", records)
    read = pd.read_csv(io.StringIO(table.frame().to_csv(index=False)), keep_default_na=True)
    assert len(read) == len(table.rows) * len(table.columns)
    assert np.array_equal(read.value, [cell.interval.value for row in table.rows for cell in row.cells])


def test_latex_is_escaped_and_has_rules(records):
    text = build_table("A 5% test_case", records).latex()
    assert escaped("5% a_b & c", "latex_raw") == r"5\% a\_b \& c"
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\hline")] == [1, 1, 1, 0]
    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert "N" in body[2]
    assert len(body) == len(records) + 6


def test_records_of_different_protocols_are_not_mixed(records, tmp_path):
    protocol = records[0].facts.protocol.model_copy(update={"quantise": "round"})
    [other] = evaluate([build_method("copy-last-frame")], DriftingDiscs(), protocol, Store(tmp_path))
    with pytest.raises(ProtocolError, match=f"their protocols differ, .*{protocol.hash}"):
        build_table("T", [records[1], other])


def test_records_of_different_data_are_not_mixed(records, tmp_path):
    [other] = evaluate(
        [build_method("copy-last-frame")], DriftingDiscs(clips=9), records[0].facts.protocol, Store(tmp_path)
    )
    with pytest.raises(ProtocolError, match="their data differ"):
        build_table("T", [records[1], other])


def test_no_records_is_an_error():
    with pytest.raises(ProtocolError, match="bench evaluate"):
        build_table("T", [])


def test_a_refused_metric_shows_its_reason(tmp_path):
    from bench.protocol import Protocol

    protocol = Protocol(dataset="discs", size=32, metrics=("fvd", "psnr"), horizon=8)
    records = evaluate([build_method("copy-last-frame")], DriftingDiscs(length=10), protocol, Store(tmp_path))
    text = build_table("T", records).markdown()
    assert "—" in text
    assert "needs 9 frames, the protocol has 8" in text
