"""From a suite and a store to everything that a report says of the suite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.data.interface import DataSet, Progress
from bench.evaluate import run_key
from bench.evaluation.prediction import AnyMethod
from bench.record import LoadedRecord
from bench.report.choose import choose_clips, chosen_metrics
from bench.report.films import ShownClip, film
from bench.store import load_record
from bench.suite import suite_record
from bench.suite_file import Suite
from bench.tables import Table, build_table
from bench.verdicts import Verdict
from methods.interface import MethodCard
from methods.registry import build_method
from metrics.errors import MethodError, RegistryError, ReportError, WeightsError


@dataclass(frozen=True)
class SuiteReport:
    """One suite.

    Attributes:
        name: of the suite.
        records: one a row of the table.
        table: of the records.
        metrics: those by which clips were chosen.
        ranked_by: title of the method by which clips were ranked; "": all methods that compete.
        clips: the chosen clips with their videos.
        frame_rates: of the videos, frames per second, each once, fastest first.
        sentences: what is left out, and why.
    """

    name: str
    records: tuple[LoadedRecord, ...]
    table: Table
    metrics: tuple[str, ...]
    ranked_by: str
    clips: tuple[ShownClip, ...]
    frame_rates: tuple[float, ...]
    sentences: tuple[str, ...]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """One a column of the table."""
        return self.table.verdicts


def collect(
    suite: Suite,
    dataset: DataSet,
    store: Path,
    *,
    clips_by: Sequence[str] = (),
    clips_of: str | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> SuiteReport:
    """Reads the records of a suite, compares them, and predicts the clips that are shown.

    Args:
        dataset: opened under the suite's protocol.
        store: folder of records.
        clips_by: metrics by which clips are chosen; none: all that have a value a clip.
        clips_of: the method whose values rank the clips, by its name; None: the mean over the methods that did not see
            the truth.

    Raises:
        RecordError: a method that can be built has no record.
        ProtocolError: there are no records at all.
        ReportError: `clips_by` or `clips_of` names what is not there.
    """
    methods, records, sentences = _found(suite, dataset, store)
    table = build_table(suite.title, records)
    metrics = chosen_metrics(records[0], clips_by)
    ranking, ranked_by = _ranking(records, clips_of)
    chosen = choose_clips(ranking, metrics)
    if not chosen:
        sentences.append("No metric of this suite has a value for each clip, so there are no clips to choose by it.")
    filmed = film(methods, records, dataset, chosen, torch.device(device), progress)
    return SuiteReport(
        name=suite.name,
        records=tuple(records),
        table=table,
        metrics=tuple(name for name in metrics if any(name in roles for roles in chosen.values())),
        ranked_by=ranked_by,
        clips=tuple(filmed.clips),
        frame_rates=filmed.frame_rates,
        sentences=(*sentences, *filmed.sentences),
    )


def _found(suite: Suite, dataset: DataSet, store: Path) -> tuple[list[AnyMethod | None], list[LoadedRecord], list[str]]:
    """Methods with their records; None for a method that cannot be built but has left a record."""
    methods: list[AnyMethod | None] = []
    records, sentences = [], []
    for spec in suite.methods:
        try:
            method = build_method(spec)
        except (MethodError, RegistryError, WeightsError) as error:
            record = _left_by(spec, suite, dataset, store)
            if record is None:
                sentences.append(f"{spec} is left out: it cannot be built, and no record bears its name. {error}")
                continue
            methods.append(None)
            sentences.append(f"There are no videos of {record.facts.method.title}: it cannot be built. {error}")
        else:
            record = suite_record(method.card, suite, dataset, store)
            methods.append(method)
        records.append(record)
    return methods, records, sentences


def _left_by(name: str, suite: Suite, dataset: DataSet, store: Path) -> LoadedRecord | None:
    """The newest record of the method `name` under the suite's protocol, without building the method."""
    group = run_key(MethodCard(name=name, title=name, revision=""), suite.protocol, dataset).folder.parent
    found = [load_record(path) for path in sorted((store / group).glob("*/record.json"))]
    named = [record for record in found if record.facts.method.name == name]
    return max(named, key=lambda record: record.facts.provenance.finished, default=None)


def _ranking(records: Sequence[LoadedRecord], name: str | None) -> tuple[list[LoadedRecord], str]:
    """The records whose values rank the clips, and the title of the one method where it is one by request."""
    if name is None:
        competing = [record for record in records if "truth" not in record.facts.method.inputs]
        return competing or list(records), ""
    for record in records:
        if record.facts.method.name == name:
            return [record], record.facts.method.title
    there = ", ".join(record.facts.method.name for record in records)
    raise ReportError(f"clips cannot be ranked by the method {name!r}: expected one of {there}")
