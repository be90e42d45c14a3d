"""The notes below a table: what makes its numbers citable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.protocol import Protocol
from bench.record import LoadedRecord, Record
from bench.significance import ALPHA, EXACT_SOURCES, PATTERNS
from bench.statistics import FEW_SOURCES, LEVEL, MIN_SOURCES
from bench.text import marked
from bench.verdicts import Verdict
from metrics.jackknife import GROUPS
from metrics.psnr import PSNR_CAP

if TYPE_CHECKING:
    from bench.tables import Column, Row

FEW_CLIPS = 400
"""Below this many clips, a Frechet distance between 400-d features is dominated by its bias."""


def table_notes(
    records: Sequence[LoadedRecord], columns: Sequence[Column], rows: Sequence[Row], verdicts: Sequence[Verdict]
) -> tuple[str, ...]:
    """What is to be known of the numbers of a table, whose rows are `records`; one verdict a column."""
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
        _interval_note(facts),
        *_interval_marks(rows),
        *_letter_notes(facts, columns, verdicts),
        *_sample_note(records),
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
        notes.append(
            "Rows given the truth saw the frames to be predicted; they do not compete for the best value, and have no "
            "letters."
        )
    notes += _method_notes(records)
    for record in records:
        notes += _row_notes(record)
    notes += [f"Left out as unreadable: {name}." for name in facts.data.skipped]
    return tuple(notes)


def _interval_note(facts: Record) -> str:
    kinds = {metric.kind for metric in facts.metrics.values()}
    parts = [f"In brackets: {LEVEL:.0%} intervals."]
    if kinds - {"set"}:
        parts.append("Metrics of frames and clips: mean over frames, then over clips, bootstrap-t over sources.")
    if "set" in kinds:
        parts.append(
            "Metrics of sets: group jackknife over sources, Student's t; about a plain value, the interval is one for "
            "the mean value at this N, about a bias-corrected one for that of ever more clips, as far as the bias "
            "falls like 1/N."
        )
    return " ".join(parts)


def _interval_marks(rows: Sequence[Row]) -> Iterator[str]:
    cells = [cell for row in rows for cell in row.cells if not cell.refused]
    if any(cell.few for cell in cells):
        yield (
            f"{marked('few', 'github')}: from fewer than {FEW_SOURCES} sources; such an interval may hold the true "
            "value less often than it says."
        )
    if any(np.isnan(cell.interval.low) for cell in cells):
        yield (
            f"A value without brackets is from fewer than {MIN_SOURCES} sources, or hardly any of its sources differ: "
            "too few for an interval."
        )


def _letter_notes(facts: Record, columns: Sequence[Column], verdicts: Sequence[Verdict]) -> Iterator[str]:
    told = [(column, verdict) for column, verdict in zip(columns, verdicts, strict=True) if not verdict.reason]
    if told:
        kinds = {facts.metrics[column.metric].kind for column, _ in told}
        sources = len(set(facts.sources))
        patterns = f"all 2^{sources}" if sources <= EXACT_SOURCES else f"{PATTERNS} drawn"
        tests = []
        if kinds - {"set"}:
            tests.append(
                f"Metrics of frames and clips: paired sign-flip permutation test, {patterns} sign patterns over "
                f"{sources} sources ({len(facts.clip_ids)} clips)."
            )
        if "set" in kinds:
            tests.append(
                "Metrics of sets: Student's t on the paired jackknife of the difference, the same "
                f"{min(GROUPS, sources)} groups of sources left out of both methods."
            )
        pairs = max(len(verdict.comparisons) for _, verdict in told)
        yield (
            f"Letters: methods of a column that share one do not differ significantly, at the {ALPHA:.0%} level, "
            f"two-sided, with Holm's correction over all pairs of the column (up to {pairs}). {' '.join(tests)} No "
            "difference found is no proof that there is none."
        )
        yield (
            "Bold: the best value of a column. Where there are letters it has the letter a, and those that share a "
            "letter with it are not significantly worse."
        )
    else:
        yield "Bold: the best value of a column, with no test whether it is so by more than chance."
    reasons: dict[str, list[str]] = {}
    for column, verdict in zip(columns, verdicts, strict=True):
        if verdict.reason:
            reasons.setdefault(verdict.reason, []).append(column.label)
    for reason, labels in reasons.items():
        yield f"No letters for {'; '.join(labels)}: {reason}."


def _sample_note(records: Sequence[LoadedRecord]) -> Iterator[str]:
    single = [record.facts.method.title for record in records if record.facts.samples == 1]
    samples = max(record.facts.samples for record in records)
    if samples > 1:
        yield (
            f"Best of {samples}: for each clip, the best of {samples} predictions by the metric itself, chosen with "
            "the truth in hand; metrics of sets take the first prediction."
            + (
                f" Methods that have one prediction, which is their best and their mean: {', '.join(single)}."
                * bool(single)
            )
        )


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


def _method_notes(records: Sequence[LoadedRecord]) -> Iterator[str]:
    titles: dict[str, list[str]] = {}
    for record in records:
        titles.setdefault(record.facts.method.notes, []).append(record.facts.method.title)
    titles.pop("", None)
    for note, named in titles.items():
        yield f"{'; '.join(named)}: {note}"


def _row_notes(record: LoadedRecord) -> list[str]:
    facts, notes = record.facts, []
    title = facts.method.title
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
