"""Tables from stored records: markdown and LaTeX for people, CSV with every digit for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from bench.mixing import check_same
from bench.protocol import Protocol
from bench.record import LoadedRecord
from bench.statistics import LEVEL, Interval, jackknife_interval, mean_interval, over_samples
from bench.text import bold, escaped, marked
from metrics.errors import ProtocolError
from metrics.psnr import PSNR_CAP

if TYPE_CHECKING:
    import pandas as pd

FEW_CLIPS = 400
"""Below this many clips, a Frechet distance between 400-d features is dominated by its bias."""

CORRECTED = "bias-corrected"
DECIMALS = {"fvd": 1, "psnr": 2}
DEFAULT_DECIMALS = 3
NAN = float("nan")


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
    """One number: value, limits, standard error (set metrics only), or the reason why there is none."""

    interval: Interval = field(default_factory=lambda: Interval(NAN, NAN, NAN))
    standard_error: float = NAN
    refused: str = ""


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
    """Rows of cells under columns, and the notes that make the numbers citable."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def markdown(self) -> str:
        """GitHub markdown, with title and notes."""
        notes = "".join(f"- {note}\n" for note in self.notes)
        return f"## {self.title}\n\n{self._grid('github')}\n\n{notes}"

    def latex(self) -> str:
        """A LaTeX tabular (booktabs); title and notes stand above it as comments."""
        notes = "".join(f"% {note}\n" for note in (self.title, *self.notes))
        return f"{notes}{self._grid('latex_raw')}\n"

    def frame(self) -> pd.DataFrame:
        """One line a number, every digit."""
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
                "refused": cell.refused,
            }
            for row in self.rows
            for column, cell in zip(self.columns, row.cells, strict=True)
        )

    def _grid(self, style: str) -> str:
        from tabulate import tabulate

        headers = ["method", "given", "N", *(column.header(style) for column in self.columns)]
        best = [best_row(number, column, self.rows) for number, column in enumerate(self.columns)]
        lines = []
        for index, row in enumerate(self.rows):
            texts = [_text(cell, column, style) for cell, column in zip(row.cells, self.columns, strict=True)]
            texts = [bold(text, style) if best[n] == index else text for n, text in enumerate(texts)]
            lines.append([escaped(row.title, style), escaped(row.given, style), str(row.clips), *texts])
        grid = tabulate(lines, headers=headers, tablefmt=style, disable_numparse=True)
        if style == "latex_raw":
            rules = iter(("\\toprule", "\\midrule", "\\bottomrule"))
            grid = "\n".join(next(rules) if line == "\\hline" else line for line in grid.splitlines())
        return grid


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
    return Table(f"{title} ({first.data.name})", columns, rows, tuple(_notes(records)))


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
            reductions = ["", CORRECTED] if name == "fvd" else [""]
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
        best = column.reduction.startswith("best")
        values = over_samples(clip_values(record, column.metric), column.higher_is_better, best)
        defined = np.flatnonzero(~np.isnan(values))
        if not len(defined):
            return Cell(refused="it is not defined for any of the clips")
        return Cell(mean_interval(values[defined], [facts.sources[row] for row in defined]))
    result = facts.set_results[column.metric]
    value = result.bias_corrected if column.reduction == CORRECTED else result.value
    if result.refused or value is None:
        return Cell(refused=result.refused or "too few clips for a jackknife")
    error = NAN if result.standard_error is None else result.standard_error
    return Cell(jackknife_interval(value, error, result.groups), error)


def _text(cell: Cell, column: Column, style: str) -> str:
    if cell.refused:
        return marked("none", style)
    digits = DECIMALS.get(column.metric, DEFAULT_DECIMALS)
    value, low, high = (f"{number:.{digits}f}" for number in vars(cell.interval).values())
    return value if np.isnan(cell.interval.low) else f"{value} [{low}, {high}]"


def best_row(number: int, column: Column, rows: Sequence[Row]) -> int | None:
    """The row with the best value; rows that saw the truth do not compete."""
    values = {
        index: row.cells[number].interval.value
        for index, row in enumerate(rows)
        if not row.sees_truth and not np.isnan(row.cells[number].interval.value)
    }
    if not values:
        return None
    return (max if column.higher_is_better else min)(values, key=lambda index: values[index])


def _notes(records: Sequence[LoadedRecord]) -> list[str]:
    facts = records[0].facts
    protocol, clips, sources = facts.protocol, len(facts.clip_ids), len(set(facts.sources))
    shown = f"{protocol.context} context frame{'s' if protocol.context > 1 else ''}"
    notes = [
        f"N = {clips} clips from {sources} sources. {shown}, {protocol.horizon} frames predicted and scored, "
        f"{protocol.size} x {protocol.size} px, K = {protocol.samples}, predictions to 8 bits: {protocol.quantise}, "
        f"mode {protocol.mode}. Protocol {facts.protocol_hash}.",
        *([_poke_note(records[0])] if protocol.poke is not None else []),
        *([_track_note(protocol)] if protocol.tracks is not None else []),
        f"Data: {facts.data.description}. Content {facts.data.content_hash[:12]}.",
        f"In brackets: {LEVEL:.0%} intervals. Frame metrics: mean over frames, then over clips, BCa bootstrap over "
        "sources. Set metrics: group jackknife over sources.",
        *(
            [
                f"Motion is measured by {protocol.tracker!r} flow from x0"
                + (
                    ", or from the true last frame and the exact flow to it, whichever explains the prediction better."
                    if protocol.anchored
                    else "; the row of the truth shows its error."
                )
            ]
            if protocol.tracker
            else []
        ),
        *(f"{m.title} (version {m.version}): {m.convention}." for m in facts.metrics.values()),
    ]
    if any(m.kind == "set" for m in facts.metrics.values()) and clips < FEW_CLIPS:
        notes.append(
            f"With N = {clips} < {FEW_CLIPS}, FVD is biased upwards by much: compare only values of equal N, and none "
            "of them with published ones."
        )
    if any("truth" in record.facts.method.inputs for record in records):
        notes.append("Rows given the truth saw the frames to be predicted; they do not compete for the best value.")
    for record in records:
        notes += _row_notes(record)
    notes += [f"Left out as unreadable: {name}." for name in facts.data.skipped]
    return notes


def _poke_note(record: LoadedRecord) -> str:
    protocol, lengths = record.facts.protocol, np.linalg.norm(record.arrays["poke/displacement"], axis=-1)
    rule = protocol.poke
    if rule is None or rule.source == "true":
        how = "true pokes of the data"
    else:
        how = f"simulated from {protocol.flow} flow, foreground {rule.foreground}, background share {rule.background:g}"
    return f"Pokes: {how}; mean length {lengths.mean():.1f} px, longest {lengths.max():.1f} px, seed {protocol.seed}."


def _track_note(protocol: Protocol) -> str:
    rule = protocol.tracks
    assert rule is not None
    if rule.source == "exact":
        return f"Tracks: {rule.count} of the points whose exact motion the data know, those that move most at first."
    return f"Tracks: {rule.count} points followed through {rule.estimator} flow, foreground {rule.foreground}."


def _row_notes(record: LoadedRecord) -> list[str]:
    facts, notes = record.facts, []
    title = facts.method.title
    if facts.method.notes:
        notes.append(f"{title}: {facts.method.notes}")
    for name, metric in facts.metrics.items():
        if metric.kind == "clip":
            undefined = int(np.isnan(record.clip_values(name)).any(1).sum())
            if undefined:
                notes.append(f"{title}: {metric.title} is not defined for {undefined} clips, which are left out of it.")
        if metric.unit == "dB":
            capped = int((record.frame_values(name) > PSNR_CAP).sum())
            if capped:
                notes.append(f"{title}: {capped} frames above {PSNR_CAP:g} dB (or identical) count as {PSNR_CAP:g} dB.")
    notes += [
        f"{title}: no {facts.metrics[name].title}: {result.refused}."
        for name, result in facts.set_results.items()
        if result.refused
    ]
    return notes
