"""What two records must share before their numbers may stand in one table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bench.record import LoadedRecord, Record
from bench.text import some
from metrics.errors import ProtocolError

POKE_TOLERANCE = 0.05
"""How far, in px, the pokes of two records may lie apart: what rounding does to the same flow on another machine."""

SHOWN = 3
"""Differences of one kind that a message names; the rest are counted."""


def check_same(records: Sequence[LoadedRecord]) -> None:
    """Checks that records may stand in one table.

    Raises:
        ProtocolError: two of them differ in protocol, data, clips, pokes, or a metric's version, convention, weights or
            mode; the message names both methods and each difference with both values.
    """
    first = records[0].facts
    for record in records[1:]:
        found = [*differences(first, record.facts), *_poke_differences(records[0], record)]
        if found:
            raise ProtocolError(
                f"{first.method.name} and {record.facts.method.name} cannot stand in one table: {'; '.join(found)}. "
                "Evaluate them under one protocol, on one data set, with one version of the program."
            )


def differences(first: Record, other: Record) -> Iterator[str]:
    """One phrase for each kind of difference that keeps two records out of one table."""
    if first.protocol_hash != other.protocol_hash:
        fields = _named(first.protocol.model_dump(mode="json"), other.protocol.model_dump(mode="json"))
        detail = f" ({fields})" if fields else ""
        yield f"their protocols differ, {first.protocol_hash} and {other.protocol_hash}{detail}"
    if first.data.content_hash != other.data.content_hash:
        names = f"{first.data.name} {first.data.content_hash[:12]} and {other.data.name} {other.data.content_hash[:12]}"
        yield f"their data differ, {names}"
    elif first.clip_ids != other.clip_ids:
        alone = sorted(set(first.clip_ids) ^ set(other.clip_ids))
        which = some(alone, SHOWN) or "in order"
        yield f"their clips differ, {len(first.clip_ids)} and {len(other.clip_ids)} ({which})"
    elif first.sources != other.sources:
        yield "the sources of their clips differ"
    if first.metrics.keys() != other.metrics.keys():
        yield f"their metrics differ, {', '.join(first.metrics)} and {', '.join(other.metrics)}"
    for name in (name for name in first.metrics if name in other.metrics):
        mine, theirs = first.metrics[name], other.metrics[name]
        for field in ("version", "convention", "unit", "higher_is_better", "weights"):
            if getattr(mine, field) != getattr(theirs, field):
                yield f"the {field} of {name} differs, {getattr(mine, field)!r} and {getattr(theirs, field)!r}"
    for name in (name for name in first.set_results if name in other.set_results):
        one, two = first.set_results[name], other.set_results[name]
        if one.mode != two.mode and not (one.refused or two.refused):
            yield f"the mode of {name} differs, {one.mode!r} and {two.mode!r}"


def _poke_differences(first: LoadedRecord, other: LoadedRecord) -> Iterator[str]:
    """Pokes of one rule differ where an estimator of flow is another version, or rounds otherwise."""
    if first.facts.clip_ids != other.facts.clip_ids:
        return
    for name, what in (("poke/location", "locations"), ("poke/displacement", "displacements")):
        mine, theirs = first.arrays.get(name), other.arrays.get(name)
        if mine is None or theirs is None or mine.shape != theirs.shape:
            continue
        gaps = np.linalg.norm(mine - theirs, axis=-1)
        rows = np.flatnonzero(gaps > POKE_TOLERANCE)
        if len(rows):
            names = some([first.facts.clip_ids[row] for row in rows], SHOWN)
            yield f"the {what} of their pokes differ in {len(rows)} clips, by up to {gaps.max():.2g} px ({names})"


def _named(first: dict[str, object], other: dict[str, object]) -> str:
    return some([f"{key}: {first.get(key)} and {other[key]}" for key in other if first.get(key) != other[key]], SHOWN)
