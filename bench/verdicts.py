"""The significance letters of a table's columns, from the rows and features that its records hold."""

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
    Values,
    compare_means,
    compare_replicates,
    letters,
    smallest_p,
)
from metrics.base import METRICS, SetMetric
from metrics.errors import RegistryError
from metrics.fvd import BiasWarning
from metrics.jackknife import GROUPS, MIN_GROUPS, assign_groups


@dataclass(frozen=True)
class Verdict:
    """What can be said of the differences in one column.

    Attributes:
        letters: row -> its letters; empty when there are none.
        comparisons: of all pairs of rows that compete and have a value.
        reason: why there are no letters; "" when there are.
    """

    letters: dict[int, str] = field(default_factory=dict)
    comparisons: tuple[Comparison, ...] = ()
    reason: str = ""


TOO_FEW = Verdict(reason="fewer than two methods that compete have a value")


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


def verdict_of_means(rows: Mapping[int, Values], sources: Sequence[str], order: Sequence[int]) -> Verdict:
    """Letters of a column of means over clips.

    Args:
        rows: row of the table -> float64 [N], one value a clip, NaN where it is not defined.
        sources: the source of each clip, N names.
        order: the rows that compete and have a value, best first.
    """
    if len(order) < 2:
        return TOO_FEW
    compared = {row: rows[row] for row in order}
    if smallest_p(compared, sources) > ALPHA:
        return Verdict(reason=f"{len(set(sources))} sources are too few to tell {len(order)} methods apart")
    comparisons = compare_means(compared, sources)
    return Verdict(letters(order, comparisons), tuple(comparisons))


def verdict_of_sets(replicates: Replicates | str, order: Sequence[int], *, corrected: bool) -> Verdict:
    """Letters of a column of distances of sets.

    Args:
        replicates: of the rows in `order` at least, or why there are none.
        order: as for `verdict_of_means`.
        corrected: whether the column holds bias-corrected values.
    """
    if len(order) < 2:
        return TOO_FEW
    if isinstance(replicates, str):
        return Verdict(reason=replicates)
    values = {row: replicates.values[row] for row in order}
    comparisons = compare_replicates(values, replicates.deleted, replicates.sizes, corrected=corrected)
    return Verdict(letters(order, comparisons), tuple(comparisons))


def set_replicates(name: str, records: Mapping[int, LoadedRecord]) -> Replicates | str:
    """The jackknife replicates of a set metric, from the features in the records; or why there are none.

    The groups are those of the records' own standard errors, and the same for all rows, so that differences are paired.
    """
    facts = next(iter(records.values())).facts
    try:
        metric: SetMetric = METRICS.get(name)(device="cpu", mode=facts.protocol.mode)
    except RegistryError:
        return f"the metric {name!r} is not installed here"
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
