"""Where each number of a report came from, as the page shows it when the number is clicked."""

from __future__ import annotations

from typing import Any

from bench.origin import Lines, section
from bench.record import MetricFacts
from bench.report.numbers import chance, every_digit
from bench.statistics import LEVEL
from bench.tables import Cell, Column, Table
from bench.verdicts import Verdict


def cell_origin(table: Table, row: int, number: int, metric: MetricFacts, verdict: Verdict) -> list[dict[str, Any]]:
    """What belongs to one number alone: its digits, its metric, and how it compares with the other rows."""
    line, column = table.rows[row], table.columns[number]
    cell = line.cells[number]
    return [
        section("Value", _value_lines(cell, column)),
        section("Compared with", _comparison_lines(table, row, verdict)),
        section(
            "Metric",
            [
                ("version", str(metric.version)),
                ("convention", metric.convention),
                *(("weights", f"{name}, sha256 {digest}") for name, digest in metric.weights.items()),
            ],
        ),
    ]


def _value_lines(cell: Cell, column: Column) -> Lines:
    if cell.refused:
        return [("none", cell.refused)]
    interval = cell.interval
    return [
        ("value", every_digit(interval.value)),
        (f"{LEVEL:.0%} interval", f"{every_digit(interval.low)} to {every_digit(interval.high)}"),
        *([("standard error", every_digit(cell.standard_error))] if cell.standard_error >= 0 else []),
        ("better is", "higher" if column.higher_is_better else "lower"),
        ("N", f"{cell.clips} clips from {cell.sources} sources"),
    ]


def _comparison_lines(table: Table, row: int, verdict: Verdict) -> Lines:
    if table.rows[row].sees_truth:
        return [("no test", "rows that saw the truth do not compete")]
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
