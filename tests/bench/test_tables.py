import io
import statistics
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Convolved, DriftingDiscs

from bench.evaluate import evaluate
from bench.record import LoadedRecord
from bench.significance import compare_means
from bench.statistics import over_samples
from bench.store import Store, load_record
from bench.tables import best_row, build_table, clip_values
from bench.text import escaped, fixed
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


def cells(text, title):
    """The cells of a row of a markdown table."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {title} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_letters_are_those_of_the_tests_and_those_who_saw_the_truth_have_none(records):
    table = build_table("T", records)
    names = [name for name, row in zip("0123", table.rows, strict=True) if not row.sees_truth]
    for number, (column, verdict) in enumerate(zip(table.columns, table.verdicts, strict=True)):
        best = column.reduction.startswith("best")
        values = {
            int(n): over_samples(clip_values(records[int(n)], column.metric), column.higher_is_better, best)
            for n in names
        }
        pairs = compare_means(values, records[0].facts.sources)
        assert [pair.adjusted for pair in verdict.comparisons] == [
            next(one.adjusted for one in pairs if {one.first, one.second} == {pair.first, pair.second})
            for pair in verdict.comparisons
        ]
        for row, line in enumerate(table.rows):
            text = cells(table.markdown(), line.title)[3 + number]
            assert text.endswith(f" {verdict.letters[row]}") if row in verdict.letters else text.endswith(("]", "]†"))
    assert set(table.verdicts[0].letters) == {0, 1, 3}


def test_the_best_value_has_the_first_letter_and_the_notes_say_what_letters_mean(records):
    table = build_table("T", records)
    for number, verdict in enumerate(table.verdicts):
        best = best_row(number, table.columns[number], table.rows)
        assert verdict.letters[best].startswith("a")
        assert cells(table.markdown(), table.rows[best].title)[3 + number].startswith("**")
    [note] = [note for note in table.notes if note.startswith("Letters:")]
    for words in ("at the 5% level", "Holm's correction", "up to 3", "all 2^7 sign patterns over 7 sources (20 clips)"):
        assert words in note
    assert any(note.startswith("Bold: the best value of a column. Where there are letters") for note in table.notes)


def test_letters_in_latex_are_raised_and_in_csv_have_a_column(records):
    table = build_table("T", records)
    count = sum(len(verdict.letters) for verdict in table.verdicts)
    assert count == 3 * len(table.columns)
    assert table.latex().count("\\textsuperscript{") == count
    assert "]$^\\dagger$}\\textsuperscript{" in table.latex()  # bold ends before the letters
    frame = table.frame()
    letters = frame.set_index(["method", "metric", "reduction"]).letters
    first = table.columns[0]
    assert letters[table.rows[3].title, first.metric, first.reduction] == table.verdicts[0].letters[3]
    assert letters[table.rows[2].title, first.metric, first.reduction] == ""


def test_counts_of_clips_sources_and_samples_are_shown(records):
    table = build_table("T", records)
    text = table.markdown()
    assert "| N (sources) " in text
    assert cells(text, "Copy last frame")[2] == "20 (7)"
    assert "PSNR, best of 3" in text
    [note] = [note for note in table.notes if note.startswith("Best of 3:")]
    assert "Methods that have one prediction, which is their best and their mean: Copy last frame, Context mean" in note
    assert (table.frame().clips_defined == 20).all()
    assert (table.frame().sources_defined == 7).all()


def test_intervals_from_few_sources_are_marked_and_from_fewer_left_out(records, tmp_path):
    table = build_table("T", records)
    assert cells(table.markdown(), "Context mean")[3].count("†") == 1  # 7 sources
    assert any(note.startswith("†: from fewer than 10 sources") for note in table.notes)
    assert "$^\\dagger$" in table.latex()
    protocol = records[0].facts.protocol
    few = evaluate(
        [build_method(spec) for spec in ("copy-last-frame", "context-mean")],
        DriftingDiscs(clips=8), protocol, Store(tmp_path),
    )  # fmt: skip
    table = build_table("T", few)
    assert "[" not in cells(table.markdown(), "Context mean")[3]
    assert any(note.startswith("A value without brackets is from fewer than 5 sources") for note in table.notes)
    assert any(note.endswith("3 sources are too few to tell 2 methods apart.") for note in table.notes)
    assert any(note.startswith("Bold: the best value of a column, with no test") for note in table.notes)


def test_set_metrics_have_letters_from_the_paired_jackknife():
    """Three records of one golden record: its features, better ones, and none."""
    path = Path(__file__).resolve().parents[1] / "golden" / "records" / "2" / "record.json"
    record = load_record(path)
    rng = np.random.default_rng(0)
    target = rng.normal(size=record.arrays["features/i3d/target"].shape).astype(np.float32)

    def with_features(name, **arrays):
        method = record.facts.method.model_copy(update={"name": name, "title": name})
        sources = tuple(f"s{number}" for number in range(len(record.facts.clip_ids)))
        facts = record.facts.model_copy(update={"method": method, "sources": sources})
        return LoadedRecord(facts, {**record.arrays, "features/i3d/target": target, **arrays})

    near, far = (target + np.float32(shift) for shift in (0.1, 5.0))
    pair = [with_features("near", **{"features/i3d/pred": near}), with_features("far", **{"features/i3d/pred": far})]
    table = build_table("T", pair)
    number = next(n for n, column in enumerate(table.columns) if column.metric == "fvd")
    assert set(table.verdicts[number].letters.values()) == {"a", "b"}
    assert table.verdicts[number].comparisons[0].p < 0.01
    assert any("Student's t on the paired jackknife" in note for note in table.notes)
    bare = with_features("bare")
    del bare.arrays["features/i3d/pred"]
    table = build_table("T", [pair[0], bare])
    assert table.verdicts[number].letters == {}
    assert any("the records hold no features" in note for note in table.notes)


def test_a_negative_zero_is_zero():
    assert fixed(-0.0004, 3) == "0.000"
    assert fixed(-0.0006, 3) == "-0.001"


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


def test_trainings_of_several_seeds_are_followed_by_their_spread(records):
    titles = ["Method", "Method, seed 1", "Other, seed 1", "Method, seed 2"]
    named = [
        LoadedRecord(
            r.facts.model_copy(update={"method": r.facts.method.model_copy(update={"title": title})}), r.arrays
        )
        for r, title in zip(records, titles, strict=True)
    ]
    table = build_table("T", named)
    [spread] = table.spreads
    assert (spread.title, spread.trainings) == ("Method", 3)
    number = next(n for n, c in enumerate(table.columns) if (c.metric, c.reduction) == ("ssim", "mean of 3"))
    values = [statistics.fmean(r.rows().ssim) for r in (*records[:2], records[3])]
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    assert spread.cells[number] == pytest.approx((mean, deviation))
    text = table.markdown()
    assert cells(text[text.index("Spread over training seeds") :], "Method")[1] == "3"
    assert f"{mean:.3f} ± {deviation:.3f}" in text
    assert rf"{mean:.3f} $\pm$ {deviation:.3f}" in table.latex()
    assert build_table("T", named[:1]).spreads == ()


def test_rows_of_one_title_are_told_apart_and_are_no_seeds(records):
    def titled(record, title, weights):
        method = record.facts.method.model_copy(update={"title": title, "weights": weights})
        return LoadedRecord(record.facts.model_copy(update={"method": method}), record.arrays)

    files = [{"long.safetensors": "a" * 64}, {"short.safetensors": "b" * 64}, {"one.safetensors": "c" * 64}, {}]
    titles = ["Method", "Method", "Method, seed 1", "Alone"]
    table = build_table("T", [titled(*each) for each in zip(records, titles, files, strict=True)])
    assert [row.title for row in table.rows] == [
        "Method (long.safetensors, aaaaaa)",
        "Method (short.safetensors, bbbbbb)",
        "Method, seed 1",
        "Alone",
    ]
    assert table.spreads == (), "which of the two the third belongs to is not known"


def test_no_spread_without_seeds(records):
    assert "Spread" not in build_table("T", records[:2]).markdown()


def test_what_holds_of_several_methods_is_said_once(records):
    def noted(record, title, notes):
        method = record.facts.method.model_copy(update={"title": title, "notes": notes})
        return LoadedRecord(record.facts.model_copy(update={"method": method}), record.arrays)

    rows = [noted(records[0], "A", "Sees x0."), noted(records[1], "B", "Sees all."), noted(records[3], "C", "Sees x0.")]
    notes = build_table("T", rows).notes
    assert [note for note in notes if note.endswith(("Sees x0.", "Sees all."))] == ["A; C: Sees x0.", "B: Sees all."]
