"""Which clips a report shows: the best, the median and the worst by each metric that has a value a clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.record import LoadedRecord
from bench.tables import clip_values
from metrics.errors import ReportError

ROLES = ("best", "median", "worst")

Roles = dict[str, str]
"""Metric -> what the clip is by that metric, one of ROLES."""


def clip_metrics(record: LoadedRecord) -> list[str]:
    """The metrics of a record that have a value a clip, in the order of the table."""
    return [name for name in record.facts.protocol.metrics if record.facts.metrics[name].kind != "set"]


def chosen_metrics(record: LoadedRecord, wanted: Sequence[str]) -> list[str]:
    """The metrics by which clips are chosen: those of `wanted`, or all that have a value a clip.

    Raises:
        ReportError: a wanted metric is not among them.
    """
    there = clip_metrics(record)
    for name in wanted:
        if name not in there:
            raise ReportError(
                f"clips cannot be chosen by {name!r}: expected a metric of this suite with a value a clip, "
                f"which are: {', '.join(there) or 'none'}"
            )
    return [name for name in there if not wanted or name in wanted]


def choose_clips(records: Sequence[LoadedRecord], metrics: Sequence[str]) -> dict[int, Roles]:
    """The clips to show, as row of the records -> roles, in the order in which metrics and roles name them.

    Clips are ranked by their mean over `records`, samples and frames; ties go by clip id; clips on which a metric is
    not defined for one of the methods are not ranked by it. A clip may have several roles, and with a single ranked
    clip it is "best" alone.
    """
    found: dict[int, Roles] = {}
    for metric in metrics:
        values = np.mean([clip_values(record, metric).mean(axis=1) for record in records], axis=0)
        better = 1 if records[0].facts.metrics[metric].higher_is_better else -1
        ranked = [int(row) for row in np.argsort(-better * values, kind="stable") if not np.isnan(values[row])]
        if not ranked:
            continue
        for role, row in zip(ROLES, (ranked[0], ranked[len(ranked) // 2], ranked[-1]), strict=True):
            found.setdefault(row, {}).setdefault(metric, role)
    return found
