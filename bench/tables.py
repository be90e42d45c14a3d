"""Tables from stored records: markdown and LaTeX for people, CSV with every digit for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from bench.mixing import check_same
from bench.record import LoadedRecord
from bench.seed_spread import NOTE, Spread, seed_spreads
from bench.statistics import FEW_SOURCES, NAN, Interval, jackknife_interval, mean_interval, over_samples
from bench.table_notes import table_notes
from bench.text import bold, escaped, fixed, marked, raised, weights_mark
from bench.verdicts import Replicates, Verdict, set_replicates, verdict_of_means, verdict_of_sets
from metrics.errors import ProtocolError
from metrics.psnr import PSNR_CAP

if TYPE_CHECKING:
    import pandas as pd

CORRECTED = "bias-corrected"
DECIMALS = {"fvd": 1, "psnr": 2}
DEFAULT_DECIMALS = 3


@dataclass(frozen=True)
class Column:
    """A metric, reduced in one way.

    Attributes:
        metric: name of the metric.
        reduction: "", "best of K", "mean of K" or "bias-corrected".
        title: the metric's title.
        higher_is_better: its direction.
    """

    metric: str
    reduction: str
    title: str
    higher_is_better: bool

    @property
    def label(self) -> str:
        """Title and reduction."""
        return f"{self.title}, {self.reduction}" if self.reduction else self.title

    def header(self, style: str) -> str:
        """The label with the direction as an arrow."""
        return f"{escaped(self.label, style)} {marked('up' if self.higher_is_better else 'down', style)}"


@dataclass(frozen=True)
class Cell:
    """One number, or the reason why there is none.

    Attributes:
        interval: value and limits; the limits are NaN when the sources are too few for any.
        standard_error: of set metrics; NaN otherwise.
        refused: why there is no value; "" when there is one.
        clips, sources: that the value is made of: those for which the metric is defined.
    """

    interval: Interval = field(default_factory=lambda: Interval(NAN, NAN, NAN))
    standard_error: float = NAN
    refused: str = ""
    clips: int = 0
    sources: int = 0

    @property
    def few(self) -> bool:
        """Whether the interval is from so few sources that it is marked."""
        return self.sources < FEW_SOURCES and not np.isnan(self.interval.low)


@dataclass(frozen=True)
class Row:
    """One method: header, what it was given, whether it saw the truth, clips, sources, and a cell a column."""

    title: str
    given: str
    sees_truth: bool
    clips: int
    sources: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns, a verdict on the differences in each column, notes, and the spread over seeds."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]
    spreads: tuple[Spread, ...] = ()

    def markdown(self) -> str:
        """GitHub markdown, with title and notes."""
        notes = "".join(f"- {note}\n" for note in self.notes)
        seeds = f"{NOTE}\n\n{self.seed_grid('github')}\n\n" if self.spreads else ""
        return f"## {self.title}\n\n{self._grid('github')}\n\n{seeds}{notes}"

    def latex(self) -> str:
        """A LaTeX tabular (booktabs); title and notes stand above it as comments."""
        notes = "".join(f"% {note}\n" for note in (self.title, *self.notes))
        seeds = f"% {NOTE}\n{self.seed_grid('latex_raw')}\n" if self.spreads else ""
        return f"{notes}{self._grid('latex_raw')}\n{seeds}"

    def frame(self) -> pd.DataFrame:
        """One line a number, every digit; "clips" and "sources" are those of the record, "clips_defined" and
        "sources_defined" those for which the metric is defined."""
        import pandas as pd

        return pd.DataFrame(
            {
                "method": row.title,
                "given": row.given,
                "clips": row.clips,
                "sources": row.sources,
                "metric": column.metric,
                "reduction": column.reduction,
                "value": cell.interval.value,
                "low": cell.interval.low,
                "high": cell.interval.high,
                "standard_error": cell.standard_error,
                "letters": verdict.letters.get(index, ""),
                "clips_defined": cell.clips,
                "sources_defined": cell.sources,
                "refused": cell.refused,
            }
            for index, row in enumerate(self.rows)
            for column, cell, verdict in zip(self.columns, row.cells, self.verdicts, strict=True)
        )

    def seed_grid(self, style: str) -> str:
        """The methods that were trained several times: mean and standard deviation of every column."""
        headers = ["method", "trainings", *(column.header(style) for column in self.columns)]
        lines = [
            [
                escaped(spread.title, style),
                str(spread.trainings),
                *(_spread_text(*cell, column, style) for cell, column in zip(spread.cells, self.columns, strict=True)),
            ]
            for spread in self.spreads
        ]
        return _tabulated(lines, headers, style)

    def _grid(self, style: str) -> str:
        headers = ["method", "given", "N (sources)", *(column.header(style) for column in self.columns)]
        best = [best_row(number, column, self.rows) for number, column in enumerate(self.columns)]
        lines = []
        for index, row in enumerate(self.rows):
            texts = [_text(cell, column, style) for cell, column in zip(row.cells, self.columns, strict=True)]
            texts = [bold(text, style) if best[n] == index else text for n, text in enumerate(texts)]
            texts = [
                text + raised(v.letters.get(index, ""), style) for text, v in zip(texts, self.verdicts, strict=True)
            ]
            count = f"{row.clips} ({row.sources})"
            lines.append([escaped(row.title, style), escaped(row.given, style), count, *texts])
        return _tabulated(lines, headers, style)


def build_table(title: str, records: Sequence[LoadedRecord]) -> Table:
    """A table with one row a record, in the given order.

    Raises:
        ProtocolError: no records, or records that may not be mixed; see `bench.mixing.check_same`.
    """
    if not records:
        raise ProtocolError(f"there are no records for the table {title!r}; run `bench evaluate` first")
    check_same(records)
    first = records[0].facts
    columns = _columns(records)
    rows = tuple(_row(record, columns) for record in records)
    verdicts = tuple(_verdicts(records, columns, rows))
    notes = table_notes(records, columns, rows, verdicts)
    spreads = seed_spreads(rows)
    return Table(f"{title} ({first.data.name})", columns, _told_apart(rows, records), verdicts, notes, spreads)


def told_title(record: LoadedRecord) -> str:
    """What a row is called where another has the same title: with the method's weights behind it, or its name."""
    method = record.facts.method
    return f"{method.title}{weights_mark(method.weights) or f' ({method.name})'}"


def _told_apart(rows: Sequence[Row], records: Sequence[LoadedRecord]) -> tuple[Row, ...]:
    count = Counter(row.title for row in rows)
    return tuple(
        replace(row, title=told_title(record)) if count[row.title] > 1 else row
        for row, record in zip(rows, records, strict=True)
    )


def clip_values(record: LoadedRecord, metric: str) -> np.ndarray:
    """Values of a clip metric, or means over frames of a frame metric, float64 [N, S]; PSNR counts up to PSNR_CAP."""
    if record.facts.metrics[metric].kind == "clip":
        return record.clip_values(metric)
    values = record.frame_values(metric)
    if record.facts.metrics[metric].unit == "dB":
        values = np.minimum(values, PSNR_CAP)
    return values.mean(axis=2)


def _columns(records: Sequence[LoadedRecord]) -> tuple[Column, ...]:
    facts = records[0].facts
    samples = max(record.facts.samples for record in records)
    columns = []
    for name in facts.protocol.metrics:
        metric = facts.metrics[name]
        if metric.kind == "set":
            reductions = ["", CORRECTED]
        else:
            reductions = [f"best of {samples}", f"mean of {samples}"] if samples > 1 else [""]
        columns += [Column(name, reduction, metric.title, metric.higher_is_better) for reduction in reductions]
    return tuple(columns)


def _row(record: LoadedRecord, columns: Sequence[Column]) -> Row:
    facts = record.facts
    return Row(
        title=facts.method.title,
        given=_given(record),
        sees_truth="truth" in facts.method.inputs,
        clips=len(facts.clip_ids),
        sources=len(set(facts.sources)),
        cells=tuple(_cell(record, column) for column in columns),
    )


def _given(record: LoadedRecord) -> str:
    """What the method was shown, with the amount: one poke is much less of a control signal than tracks are."""
    inputs, protocol = record.facts.method.inputs, record.facts.protocol
    context = protocol.context
    pokes = protocol.poke.count if protocol.poke is not None else 0
    words = {
        "context": f"{context} frame{'s' if context > 1 else ''}",
        "poke": f"{pokes} poke{'s' if pokes > 1 else ''}",
        "tracks": f"{protocol.tracks.count if protocol.tracks else 0} tracks x {protocol.horizon} frames",
    }
    return " + ".join(words.get(name, name) for name in inputs) or "nothing"


def _cell(record: LoadedRecord, column: Column) -> Cell:
    facts = record.facts
    if facts.metrics[column.metric].kind != "set":
        values = _reduced(record, column)
        defined = np.flatnonzero(~np.isnan(values))
        if not len(defined):
            return Cell(refused="it is not defined for any of the clips")
        sources = [facts.sources[row] for row in defined]
        return Cell(mean_interval(values[defined], sources), clips=len(defined), sources=len(set(sources)))
    result = facts.set_results[column.metric]
    value = result.bias_corrected if column.reduction == CORRECTED else result.value
    if result.refused or value is None:
        return Cell(refused=result.refused or "too few clips for a jackknife")
    error = NAN if result.standard_error is None else result.standard_error
    interval = jackknife_interval(value, error, result.groups)
    return Cell(interval, error, clips=len(facts.clip_ids), sources=len(set(facts.sources)))


def _reduced(record: LoadedRecord, column: Column) -> np.ndarray:
    """One value a clip, float64 [N], NaN where it is not defined."""
    best = column.reduction.startswith("best")
    return over_samples(clip_values(record, column.metric), column.higher_is_better, best)


def _text(cell: Cell, column: Column, style: str) -> str:
    if cell.refused:
        return marked("none", style)
    digits = DECIMALS.get(column.metric, DEFAULT_DECIMALS)
    value, low, high = (fixed(number, digits) for number in vars(cell.interval).values())
    if np.isnan(cell.interval.low):
        return value
    return f"{value} [{low}, {high}]{marked('few', style) if cell.few else ''}"


def _spread_text(mean: float, deviation: float, column: Column, style: str) -> str:
    if np.isnan(mean):
        return marked("none", style)
    digits = DECIMALS.get(column.metric, DEFAULT_DECIMALS)
    return f"{fixed(mean, digits)} {marked('spread', style)} {fixed(deviation, digits)}"


def _tabulated(lines: Sequence[Sequence[str]], headers: Sequence[str], style: str) -> str:
    from tabulate import tabulate

    grid = tabulate(lines, headers=headers, tablefmt=style, disable_numparse=True)
    if style == "latex_raw":
        rules = iter(("\\toprule", "\\midrule", "\\bottomrule"))
        grid = "\n".join(next(rules) if line == "\\hline" else line for line in grid.splitlines())
    return grid


def best_row(number: int, column: Column, rows: Sequence[Row]) -> int | None:
    """The row with the best value; rows that saw the truth do not compete."""
    return next(iter(best_first(number, column, rows)), None)


def best_first(number: int, column: Column, rows: Sequence[Row]) -> list[int]:
    """The rows that have a value in a column and did not see the truth, best first."""
    values = {
        index: row.cells[number].interval.value
        for index, row in enumerate(rows)
        if not row.sees_truth and not np.isnan(row.cells[number].interval.value)
    }
    return sorted(values, key=lambda index: -values[index] if column.higher_is_better else values[index])


def _verdicts(records: Sequence[LoadedRecord], columns: Sequence[Column], rows: Sequence[Row]) -> Iterator[Verdict]:
    """One verdict a column."""
    facts = records[0].facts
    kept: dict[str, Replicates | str] = {}
    for number, column in enumerate(columns):
        order, metric = best_first(number, column, rows), column.metric
        if facts.metrics[metric].kind == "set":
            if metric not in kept and len(order) > 1:
                kept[metric] = set_replicates(metric, {row: records[row] for row in order})
            yield verdict_of_sets(kept.get(metric, ""), order, corrected=column.reduction == CORRECTED)
        else:
            yield verdict_of_means({row: _reduced(records[row], column) for row in order}, facts.sources, order)
