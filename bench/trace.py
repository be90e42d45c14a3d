"""From one cell of a table back to everything that it was made of."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.checkpoint_card import CheckpointCard, cards
from bench.origin import record_origin
from bench.record import LoadedRecord
from bench.statistics import LEVEL, over_samples
from bench.store import load_record
from bench.suite_file import Suite
from bench.tables import Cell, Column, Table, build_table, clip_values
from metrics.base import METRICS
from metrics.errors import RecordError
from metrics.psnr import PSNR_CAP

EXTREMES = 3
"""Clips of lowest and of highest value that the text names."""


@dataclass(frozen=True)
class Trace:
    """A cell and its origin.

    Attributes:
        suite: name of the suite.
        path: the record.json.
        record: what it holds, with its arrays.
        column: of the table.
        cell: value, limits and standard error, or why there is no value.
        how: how the cell is made of the rows.
        arrays: names of the arrays that it is made of.
        clips: value of each clip, by clip id, for metrics that have one.
        trained: cards of the checkpoints that the method's weights are, where they are known.
    """

    suite: str
    path: Path
    record: LoadedRecord
    column: Column
    cell: Cell
    how: str
    arrays: tuple[str, ...]
    clips: dict[str, float]
    trained: tuple[CheckpointCard, ...]

    def content(self) -> dict[str, Any]:
        """Everything as JSON-able values; a number that is not defined is None."""
        facts = self.record.facts
        return _plain(
            {
                "suite": self.suite,
                "row": facts.method.title,
                "column": self.column.label,
                "cell": {**asdict(self.cell.interval), "level": LEVEL, "standard_error": self.cell.standard_error}
                | {"refused": self.cell.refused},
                "how": self.how,
                "rows": {
                    "file": (self.path.parent / facts.arrays.file).as_posix(),
                    "sha256": facts.arrays.sha256,
                    "arrays": {name: list(self.record.arrays[name].shape) for name in self.arrays},
                    "clips": self.clips,
                },
                "metric": facts.metrics[self.column.metric].model_dump(mode="json"),
                "trained": [card.model_dump(mode="json") for card in self.trained],
                "record": {"path": self.path.as_posix(), **facts.model_dump(mode="json")},
            }
        )

    def json(self) -> str:
        """`content` as text."""
        return json.dumps(self.content(), indent=1, allow_nan=False)

    def text(self) -> str:
        """For people: sections of labelled lines."""
        facts, metric = self.record.facts, self.record.facts.metrics[self.column.metric]
        interval = self.cell.interval
        sections = [
            (
                f"{self.suite} / {facts.method.title} / {self.column.label}",
                [
                    *([("none", self.cell.refused)] if self.cell.refused else [("value", repr(interval.value))]),
                    *_limits(interval.low, interval.high),
                    *_error(self.cell.standard_error),
                    ("how", self.how),
                    ("rows", (self.path.parent / facts.arrays.file).as_posix()),
                    *(("array", f"{name} {list(self.record.arrays[name].shape)}") for name in self.arrays),
                    *_extremes(self.clips),
                ],
            ),
            (
                "Metric",
                [
                    ("version", str(metric.version)),
                    ("convention", metric.convention),
                    *(("weights", f"{name}, sha256 {digest}") for name, digest in metric.weights.items()),
                ],
            ),
            *((part["title"], [tuple(line) for line in part["lines"]]) for part in record_origin(self.record)),
            *(("Training", _card_lines(card)) for card in self.trained),
        ]
        return "\n\n".join(_section(title, lines) for title, lines in sections)


def trace(suite: Suite, row: str, column: str, store: Path) -> Trace:
    """Finds the origin of a cell; neither the data nor the method need be there.

    Args:
        suite: whose protocol the records have.
        row: title, name or record folder of a method.
        column: header ("FVD, bias-corrected") or name ("fvd, bias-corrected") of a column.
        store: folder of records. Checkpoints are looked for in the folder `checkpoints` beside it.

    Raises:
        RecordError: no records of this suite, no such row or column (the message lists near ones), or a row that
            several records have.
    """
    if not store.is_dir():
        raise RecordError(f"there is no folder of records {store}; give one with --store")
    loaded = [(path, load_record(path)) for path in sorted(store.glob("*/*/record.json"))]
    found = [(path, record) for path, record in loaded if record.facts.protocol == suite.protocol]
    if not found:
        raise RecordError(
            f"{store} holds no record of the suite {suite.name} (protocol {suite.protocol.hash}); "
            f"run `bench evaluate {suite.name}` with the same options, or give another --store"
        )
    path, record = _row(row, suite, found)
    facts = record.facts
    peers = [other for _, other in found if _group(other) == _group(record)]
    table, number = _column(column, suite, record, max(peers, key=lambda peer: peer.facts.samples))
    chosen = table.columns[number]
    clips, how, arrays = _made_of(record, chosen)
    return Trace(
        suite=suite.name,
        path=path,
        record=record,
        column=chosen,
        cell=table.rows[0].cells[number],
        how=how,
        arrays=arrays,
        clips=clips,
        trained=tuple(
            card
            for card in cards(store.parent / "checkpoints").values()
            if card.sha256 in facts.method.weights.values()
        ),
    )


def _group(record: LoadedRecord) -> tuple[str, str]:
    return record.facts.protocol_hash, record.facts.data.content_hash


def _row(name: str, suite: Suite, found: Sequence[tuple[Path, LoadedRecord]]) -> tuple[Path, LoadedRecord]:
    def names(path: Path, record: LoadedRecord) -> set[str]:
        method, folder = record.facts.method, path.parent
        return {method.title, method.name, folder.name, f"{folder.parent.name}/{folder.name}"}

    wanted = _folded(name)
    rows = [(path, record) for path, record in found if wanted in map(_folded, names(path, record))]
    if not rows:
        titles = dict.fromkeys(record.facts.method.title for _, record in found)
        known = [one for path, record in found for one in (record.facts.method.name, record.facts.method.title)]
        raise RecordError(f"the suite {suite.name} has no row {name!r}; {_near(name, known)}{_listed(titles)}")
    if len(rows) > 1:
        folders = ", ".join(
            f"{path.parent.parent.name}/{path.parent.name} ({record.facts.provenance.finished})"
            for path, record in rows
        )
        raise RecordError(f"{len(rows)} records have the row {name!r}; give the folder of one of them: {folders}")
    return rows[0]


def _column(name: str, suite: Suite, record: LoadedRecord, widest: LoadedRecord) -> tuple[Table, int]:
    """The table whose first row is `record`, and the number of its column `name`.

    A table has columns for the best and the mean of K where one of its methods has K samples, so the record is looked
    at beside the one of most samples first, and alone after that.
    """
    wanted, known = _folded(name), dict[str, None]()
    for records in ([record, widest], [record]) if widest is not record else ([record],):
        table = build_table(suite.title, records)
        for number, column in enumerate(table.columns):
            short = f"{column.metric}, {column.reduction}" if column.reduction else column.metric
            if wanted in (_folded(column.label), _folded(short)):
                return table, number
            known |= dict.fromkeys([column.label])
    raise RecordError(f"the suite {suite.name} has no column {name!r}; {_near(name, list(known))}{_listed(known)}")


def _made_of(record: LoadedRecord, column: Column) -> tuple[dict[str, float], str, tuple[str, ...]]:
    """The value of each clip, how the cell is made of the rows, and the arrays that hold these."""
    facts, name = record.facts, column.metric
    metric, clips, sources = facts.metrics[name], len(facts.clip_ids), len(set(facts.sources))
    if metric.kind == "set":
        start = f"features/{getattr(METRICS.get(name), 'extractor', '')}/"
        arrays = tuple(key for key in record.arrays if key.startswith(start))
        how = f"distance of two sets of {clips} features, of sample 0 and of the truth; group jackknife over sources"
        return {}, how, arrays
    best = column.reduction.startswith("best")
    values = over_samples(clip_values(record, name), column.higher_is_better, best)
    steps = []
    if metric.kind == "frame":
        cap = f" of at most {PSNR_CAP:g} dB each" if metric.unit == "dB" else ""
        steps.append(f"mean over {facts.protocol.horizon} frames{cap}")
    if facts.samples > 1:
        steps.append(f"{'best' if best else 'mean'} of {facts.samples} samples")
    defined = int((~np.isnan(values)).sum())
    steps.append(f"mean over {clips} clips" if defined == clips else f"mean over the {defined} clips that have one")
    how = f"{', '.join(steps)}; bootstrap-t over {sources} sources"
    return dict(zip(facts.clip_ids, values.tolist(), strict=True)), how, (f"{metric.kind}/{name}",)


def _folded(text: str) -> str:
    """As compared: without the marks that a printed table adds, in small letters, with single spaces."""
    return " ".join(text.translate(str.maketrans("", "", "*↑↓")).casefold().split())


def _near(name: str, known: Sequence[str]) -> str:
    by_folded = {_folded(one): one for one in known}
    near = difflib.get_close_matches(_folded(name), by_folded, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(repr(by_folded[one]) for one in near)}? " if near else ""


def _listed(names: dict[str, None]) -> str:
    return f"There are: {'; '.join(names)}"


def _limits(low: float, high: float) -> list[tuple[str, str]]:
    return [] if math.isnan(low) else [(f"{LEVEL:.0%} interval", f"{low!r} to {high!r}")]


def _error(value: float) -> list[tuple[str, str]]:
    return [] if math.isnan(value) else [("standard error", repr(value))]


def _extremes(clips: dict[str, float]) -> list[tuple[str, str]]:
    ordered = sorted((value, clip) for clip, value in clips.items() if not math.isnan(value))
    if not ordered:
        return []
    shown = {"lowest clips": ordered[:EXTREMES], "highest clips": ordered[: -EXTREMES - 1 : -1]}
    return [(name, ", ".join(f"{clip} {value:.6g}" for value, clip in part)) for name, part in shown.items()]


def _card_lines(card: CheckpointCard) -> list[tuple[str, str]]:
    values = card.model_dump(mode="json", exclude={"schema_version"})
    return [(name, json.dumps(v) if isinstance(v, dict) else str(v)) for name, v in values.items()]


def _section(title: str, lines: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in lines)
    return "\n".join([title, *(f"  {name:<{width}}  {value}" for name, value in lines)])


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
