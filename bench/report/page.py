"""The HTML file: what was collected, laid out by the template, with nothing outside the file."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from bench import provenance
from bench.origin import record_origin
from bench.output import output_path
from bench.published import CAUTION, SOURCE, TITLES, published_grid
from bench.report.arrows import arrows
from bench.report.collect import SuiteReport
from bench.report.heatmaps import Picture
from bench.report.numbers import megabytes, number
from bench.report.origin import cell_origin
from bench.seed_spread import NOTE, Spread
from bench.tables import Row, Table, best_row
from bench.text import marked
from metrics.errors import ReportError

LIMIT_MB = 25.0
"""Default limit of a report's size."""
SLOW_RATES = (5, 2, 1)
"""Frames per second that are offered beside the rates of the data."""
PLOT = (4.0, 96.0)
"""Ends of the small plot in a cell, in its own units: 0 to 100."""


@dataclass(frozen=True)
class CellView:
    """One number of a table; `plot` is low, value and high on the column's scale, 0 to 100, None where off it."""

    key: str
    value: str
    interval: str
    letters: str
    best: bool
    refused: str
    plot: tuple[float | None, float, float | None] | None


@dataclass(frozen=True)
class RowView:
    """One method of a table."""

    title: str
    given: str
    clips: int
    sees_truth: bool
    cells: tuple[CellView, ...]


def render(suites: Sequence[SuiteReport], heatmaps: Sequence[Picture] = ()) -> str:
    """The page.

    Raises:
        ReportError: there is no suite, or one is given twice.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    names = [suite.name for suite in suites]
    if not names or len(set(names)) != len(names):
        raise ReportError(f"expected at least one suite, none twice, found {', '.join(names) or 'none'}")
    assets = files("bench.report") / "assets"
    css, script = ((assets / name).read_text() for name in ("report.css", "report.js"))
    environment = Environment(
        loader=PackageLoader("bench.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "ensure_ascii": False}
    return environment.get_template("report.html.j2").render(
        arrows=arrows,
        suites=[_suite_view(number, suite) for number, suite in enumerate(suites)],
        heatmaps=heatmaps,
        published=[(title, *published_grid(number)) for number, title in TITLES.items()],
        source=SOURCE,
        caution=CAUTION,
        origins=_origins(suites),
        rates=_rates(suites),
        usual_rate=next((rate for suite in suites for rate in suite.frame_rates), 0.0),
        first=min((1 - suite.records[0].facts.protocol.context for suite in suites), default=1),
        last=max((suite.records[0].facts.protocol.horizon for suite in suites), default=1),
        pokes=any(clip.pokes for suite in suites for clip in suite.clips),
        videos=any(suite.clips for suite in suites),
        made=provenance.now(),
        commit=_short(provenance.commit()),
        css=Markup(css),
        script=Markup(script),
        css_hash=_csp_hash(css),
        script_hash=_csp_hash(script),
    )


def write_report(path: Path, page: str, limit_mb: float = LIMIT_MB) -> int:
    """Writes the page, and returns its size in bytes.

    Raises:
        ReportError: it is larger than `limit_mb`, in units of 10^6 bytes; nothing is written.
        OutputError: the file cannot be written.
    """
    content = page.encode()
    if len(content) > limit_mb * 1e6:
        raise ReportError(
            f"the report would have {megabytes(len(content))}, more than the limit of {limit_mb:g} MB. Choose clips by "
            "fewer metrics (--clips-by), give fewer suites or methods, or raise --limit-mb."
        )
    with output_path(path) as temporary:
        temporary.write_bytes(content)
    return len(content)


def _suite_view(index: int, suite: SuiteReport) -> dict[str, Any]:
    table, protocol = suite.table, suite.records[0].facts.protocol
    rows = tuple(
        RowView(
            line.title, line.given, line.clips, line.sees_truth,
            tuple(_cell_view(suite, index, row, column) for column in range(len(table.columns))),
        )
        for row, line in enumerate(table.rows)
    )  # fmt: skip
    facts = suite.records[0].facts
    return {
        "key": f"suite{index}",
        "name": suite.name,
        "title": table.title,
        "columns": table.columns,
        "rows": rows,
        "notes": table.notes,
        "spreads": [(spread.title, spread.trainings, _spread_texts(table, spread)) for spread in table.spreads],
        "spread_note": NOTE,
        "sentences": suite.sentences,
        "clips": suite.clips,
        "titles": {name: facts.metrics[name].title for name in suite.metrics},
        "ranked_by": suite.ranked_by,
        "stills": sorted({1, (protocol.horizon + 1) // 2, protocol.horizon}),
        "samples": protocol.samples,
        "protocol": protocol,
        "hash": facts.protocol_hash,
        "content": facts.data.content_hash[:12],
        "description": facts.data.description,
    }


def _spread_texts(table: Table, spread: Spread) -> list[str]:
    return [
        "none" if math.isnan(mean) else f"{number(column.metric, mean)} ± {number(column.metric, deviation)}"
        for column, (mean, deviation) in zip(table.columns, spread.cells, strict=True)
    ]


def _cell_view(suite: SuiteReport, index: int, row: int, place: int) -> CellView:
    table = suite.table
    column, cell = table.columns[place], table.rows[row].cells[place]
    interval = cell.interval
    limits = [number(column.metric, limit) for limit in (interval.low, interval.high)]
    return CellView(
        key=_key(index, row, place),
        value="none" if cell.refused else number(column.metric, interval.value),
        interval=""
        if math.isnan(interval.low)
        else f"[{', '.join(limits)}]{marked('few', 'github') if cell.few else ''}",
        letters=suite.verdicts[place].letters.get(row, ""),
        best=best_row(place, column, table.rows) == row,
        refused=cell.refused,
        plot=None if cell.refused else _plot(place, row, table.rows),
    )


def _plot(place: int, row: int, rows: Sequence[Row]) -> tuple[float | None, float, float | None] | None:
    """Where value and interval lie between the extremes of the rows that compete; None where the value is outside."""
    fair = [line for line in rows if not line.sees_truth] or list(rows)
    ends = [v for line in fair for v in vars(line.cells[place].interval).values() if not math.isnan(v)]
    interval = rows[row].cells[place].interval
    if not ends or not min(ends) <= interval.value <= max(ends):
        return None
    low, span = min(ends), max(ends) - min(ends)

    def at(value: float) -> float | None:
        if math.isnan(value):
            return None
        share = (min(max(value, low), low + span) - low) / span if span else 0.5
        return round(PLOT[0] + (PLOT[1] - PLOT[0]) * share, 2)

    middle = at(interval.value)
    return None if middle is None else (at(interval.low), middle, at(interval.high))


def _origins(suites: Sequence[SuiteReport]) -> dict[str, Any]:
    """What the page shows when a number is clicked: sections by record, and by cell."""
    records: dict[str, Any] = {}
    cells: dict[str, Any] = {}
    for index, suite in enumerate(suites):
        for row, record in enumerate(suite.records):
            key = f"{index}.{row}"
            records[key] = record_origin(record)
            for place, column in enumerate(suite.table.columns):
                metric = record.facts.metrics[column.metric]
                cells[_key(index, row, place)] = {
                    "title": f"{column.label}: {suite.table.rows[row].title}",
                    "suite": suite.table.title,
                    "record": key,
                    "sections": cell_origin(suite.table, row, place, metric, suite.verdicts[place]),
                }
    return {"records": records, "cells": cells}


def _key(index: int, row: int, column: int) -> str:
    return f"{index}.{row}.{column}"


def _rates(suites: Sequence[SuiteReport]) -> list[tuple[float, str]]:
    """Frames per second that are offered, fastest first, with what they are: no rate is real time for all videos of a
    suite whose data have several."""
    rates = {rate for suite in suites for rate in suite.frame_rates}
    real: dict[float, list[str]] = {}
    for suite in suites:
        if len(suite.frame_rates) == 1:
            real.setdefault(suite.frame_rates[0], []).append(suite.records[0].facts.data.name)
    slow = [float(rate) for rate in SLOW_RATES if rates and rate < min(rates)]
    found = []
    for rate in (*sorted(rates, reverse=True), *slow):
        whose = f" ({', '.join(real[rate])})" if rate in real and len(rates) > 1 else ""
        found.append((rate, f"{rate:g} frames/s{', real time' if rate in real else ''}{whose}"))
    return found


def _short(commit: str) -> str:
    """The first digits of a commit, and whether there were changes beyond it."""
    digits, plus, changes = commit.partition("+")
    return digits[:12] + plus + changes


def _csp_hash(text: str) -> str:
    """`text` as a content security policy names what may run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
