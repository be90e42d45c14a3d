"""Where each number of a report came from, as the page shows it when the number is clicked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.record import LoadedRecord, MetricFacts
from bench.report.compare import Verdict
from bench.report.numbers import chance, every_digit
from bench.statistics import LEVEL
from bench.store import RunKey
from bench.tables import Cell, Column, Table

Lines = list[tuple[str, str]]
"""(label, value)."""


def record_folder(record: LoadedRecord) -> Path:
    """Folder of a record, relative to its store: the record's id."""
    facts = record.facts
    method = {"name": facts.method.name, "revision": facts.method.revision, "weights": facts.method.weights}
    return RunKey(method, facts.protocol_hash, facts.data.name, facts.data.content_hash).folder


def record_origin(record: LoadedRecord) -> list[dict[str, Any]]:
    """Everything that all numbers of a record share: sections of (label, value)."""
    facts = record.facts
    method, data, made = facts.method, facts.data, facts.provenance
    return [
        _section(
            "Record",
            [
                ("record", record_folder(record).as_posix()),
                ("rows", f"{facts.arrays.file}, sha256 {facts.arrays.sha256}"),
                ("finished", made.finished),
                ("command", made.command),
                ("commit", ", ".join(made.commits) or "not known"),
                ("seed", str(made.seed)),
                ("wall time", f"{made.predict_seconds:.1f} s to predict, {made.score_seconds:.1f} s to score"),
                ("processes", _listed(made.processes)),
                ("batch size", _listed(made.batch_sizes)),
            ],
        ),
        _section(
            "Method",
            [
                ("name", method.name),
                ("revision", method.revision),
                ("inputs", ", ".join(method.inputs)),
                ("samples", f"{facts.samples}{'' if method.stochastic else ' (deterministic)'}"),
                ("parameters", f"{method.parameters:,}"),
                *(("weights", f"{name}, sha256 {digest}") for name, digest in method.weights.items()),
                ("paper", method.paper),
                ("licence", method.licence),
                ("notes", method.notes),
            ],
        ),
        _section(
            "Data",
            [
                ("name", data.name),
                ("content", data.content_hash),
                ("description", data.description),
                ("clips", str(len(facts.clip_ids))),
                ("sources", str(len(set(facts.sources)))),
                *(("left out", name) for name in data.skipped),
            ],
        ),
        _section("Protocol", [("hash", facts.protocol_hash), *_fields(facts.protocol.model_dump(mode="json"))]),
        _section("Packages", list(made.packages.items())),
        *(_section("Hardware", list(machine.items())) for machine in made.hardware),
    ]


def cell_origin(table: Table, row: int, number: int, metric: MetricFacts, verdict: Verdict) -> list[dict[str, Any]]:
    """What belongs to one number alone: its digits, its metric, and how it compares with the other rows."""
    line, column = table.rows[row], table.columns[number]
    cell = line.cells[number]
    return [
        _section("Value", _value_lines(cell, column, line.clips, line.sources)),
        _section("Compared with", _comparison_lines(table, row, verdict)),
        _section(
            "Metric",
            [
                ("version", str(metric.version)),
                ("convention", metric.convention),
                *(("weights", f"{name}, sha256 {digest}") for name, digest in metric.weights.items()),
            ],
        ),
    ]


def _value_lines(cell: Cell, column: Column, clips: int, sources: int) -> Lines:
    if cell.refused:
        return [("none", cell.refused)]
    interval = cell.interval
    return [
        ("value", every_digit(interval.value)),
        (f"{LEVEL:.0%} interval", f"{every_digit(interval.low)} to {every_digit(interval.high)}"),
        *([("standard error", every_digit(cell.standard_error))] if cell.standard_error >= 0 else []),
        ("better is", "higher" if column.higher_is_better else "lower"),
        ("N", f"{clips} clips from {sources} sources"),
    ]


def _comparison_lines(table: Table, row: int, verdict: Verdict) -> Lines:
    if verdict.reason:
        return [("no test", verdict.reason)]
    lines = []
    for pair in verdict.comparisons:
        if row in (pair.first, pair.second):
            other = pair.second if row == pair.first else pair.first
            sign = 1 if row == pair.first else -1
            lines.append(
                (
                    table.rows[other].title,
                    f"difference {sign * pair.difference:+.4g}, p {chance(pair.adjusted)} after Holm's correction "
                    f"({chance(pair.p)} before)",
                )
            )
    return lines


def _section(title: str, lines: Lines) -> dict[str, Any]:
    return {"title": title, "lines": [list(line) for line in lines if line[1]]}


def _fields(fields: dict[str, Any]) -> Lines:
    return [(name, _plain(value)) for name, value in fields.items()]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return _listed(value)
    return "none" if value is None else str(value)


def _listed(values: Any) -> str:
    return ", ".join(map(str, values))
