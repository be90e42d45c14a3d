"""The significance letters of a table, from the rows and features that its records hold."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from bench.record import LoadedRecord
from bench.significance import (
    ALPHA,
    Comparison,
    compare_means,
    compare_replicates,
    letters,
    smallest_p,
)
from bench.statistics import over_samples
from bench.tables import CORRECTED, Column, Table, clip_values
from metrics.base import METRICS, SetMetric
from metrics.fvd import BiasWarning
from metrics.jackknife import GROUPS, MIN_GROUPS, assign_groups


@dataclass(frozen=True)
class Verdict:
    """What can be said of the differences in one column.

    Attributes:
        letters: row -> its letters; empty when there are none.
        comparisons: of all pairs of rows that have a value.
        reason: why there are no letters; "" when there are.
    """

    letters: dict[int, str] = field(default_factory=dict)
    comparisons: tuple[Comparison, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Replicates:
    """A set metric without each group of sources in turn.

    Attributes:
        values: row -> value of all clips.
        deleted: row -> values without group g.
        sizes: clips in each group.
    """

    values: dict[int, float]
    deleted: dict[int, list[float]]
    sizes: list[int]


def verdicts(records: Sequence[LoadedRecord], table: Table) -> list[Verdict]:
    """One verdict a column of `table`, whose rows are `records`."""
    kept: dict[str, Replicates | str] = {}
    found = []
    for number, column in enumerate(table.columns):
        order = _best_first(table, number)
        if len(order) < 2:
            found.append(Verdict(reason="fewer than two methods have a value"))
        elif records[0].facts.metrics[column.metric].kind == "set":
            if column.metric not in kept:
                kept[column.metric] = set_replicates(column.metric, {row: records[row] for row in order})
            found.append(_of_sets(kept[column.metric], column, order))
        else:
            found.append(_of_means(records, column, order))
    return found


def set_replicates(name: str, records: Mapping[int, LoadedRecord]) -> Replicates | str:
    """The jackknife replicates of a set metric, from the features in the records; or why there are none.

    The groups are those of the records' own standard errors, and the same for all rows, so that differences are paired.
    """
    facts = next(iter(records.values())).facts
    metric: SetMetric = METRICS.get(name)(device="cpu", mode=facts.protocol.mode)
    keys = [f"features/{metric.extractor}/{side}" for side in ("pred", "target")]
    if any(key not in record.arrays for record in records.values() for key in keys):
        return "the records hold no features"
    groups = assign_groups(len(facts.clip_ids), GROUPS, facts.sources)
    if len(groups) < MIN_GROUPS:
        return f"the clips are from {len(groups)} sources, a jackknife needs {MIN_GROUPS}"
    values, deleted = {}, {}
    for row, record in records.items():
        pred, target = (torch.from_numpy(record.arrays[key]) for key in keys)
        values[row] = _value(metric, pred, target)
        deleted[row] = [_value(metric, *_without(group, pred, target)) for group in groups]
    return Replicates(values, deleted, [len(group) for group in groups])


def _value(metric: SetMetric, pred: torch.Tensor, target: torch.Tensor) -> float:
    """The value alone: with all clips in one cluster there is no jackknife inside the jackknife."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BiasWarning)  # the notes of the table say it
        return metric.value(pred, target, clusters=["all"] * len(pred)).value


def _without(group: np.ndarray, *features: torch.Tensor) -> list[torch.Tensor]:
    keep = torch.ones(len(features[0]), dtype=torch.bool)
    keep[torch.from_numpy(group)] = False
    return [one[keep] for one in features]


def _of_sets(replicates: Replicates | str, column: Column, order: Sequence[int]) -> Verdict:
    if isinstance(replicates, str):
        return Verdict(reason=replicates)
    corrected = column.reduction == CORRECTED
    comparisons = compare_replicates(replicates.values, replicates.deleted, replicates.sizes, corrected=corrected)
    return Verdict(letters(order, comparisons), tuple(comparisons))


def _of_means(records: Sequence[LoadedRecord], column: Column, order: Sequence[int]) -> Verdict:
    best = column.reduction.startswith("best")
    rows = {row: over_samples(clip_values(records[row], column.metric), column.higher_is_better, best) for row in order}
    sources = records[0].facts.sources
    if smallest_p(rows, sources) > ALPHA:
        return Verdict(reason=f"{len(set(sources))} sources are too few to tell {len(rows)} methods apart")
    comparisons = compare_means(rows, sources)
    return Verdict(letters(order, comparisons), tuple(comparisons))


def _best_first(table: Table, number: int) -> list[int]:
    """The rows that have a value in a column, best first."""
    values = {row: line.cells[number].interval.value for row, line in enumerate(table.rows)}
    column = table.columns[number]
    return sorted(
        (row for row, value in values.items() if not np.isnan(value)),
        key=lambda row: -values[row] if column.higher_is_better else values[row],
    )
