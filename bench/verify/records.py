"""Whether stored records are whole: checksums, schema, shapes, and set values that the stored features give."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bench.origin import record_folder
from bench.record import LoadedRecord, MetricFacts
from bench.store import load_record
from metrics.base import METRICS
from metrics.errors import PokeBenchError
from metrics.fvd import BiasWarning

SET_TOLERANCE = 1e-6
"""Relative; float64 algebra of another machine differs by 1e-10, float32 features are as stored."""

SET_FIELDS = ("value", "standard_error", "bias_corrected", "n_pred", "n_target", "groups")


@dataclass(frozen=True)
class Fault:
    """Something that is not as it should be.

    Attributes:
        where: file or folder, relative to what is verified, and what in it.
        what: expected, found, what to do.
    """

    where: str
    what: str


def read_records(store: Path) -> tuple[dict[Path, LoadedRecord], list[Fault]]:
    """All records of a store that can be read, by the path of their record.json, and the faults of the others."""
    found, faults = {}, []
    for folder in sorted(path for path in store.glob("*/*") if path.is_dir() and not path.parent.name.startswith(".")):
        path = folder / "record.json"
        where = folder.relative_to(store).as_posix()
        if not path.is_file():
            faults.append(Fault(where, "there is no record.json; remove the folder, or restore what was in it"))
            continue
        try:
            found[path] = load_record(path)
        except PokeBenchError as error:
            faults.append(Fault(where, str(error)))
            continue
        rows = found[path].facts.arrays.file
        faults += [
            Fault(where, f"{other.name} belongs to no record (the record names {rows}); remove it")
            for other in sorted(folder.iterdir())
            if other.name not in ("record.json", rows)
        ]
    return found, faults


def record_faults(record: LoadedRecord, path: Path, store: Path) -> list[Fault]:
    """Everything in a readable record that does not agree with the rest of it."""
    where = path.parent.relative_to(store).as_posix()
    return [Fault(where, what) for what in (*_facts(record, where), *_arrays(record), *_set_values(record))]


def set_metrics_recomputed(record: LoadedRecord) -> list[str]:
    """The set metrics of a record that this program computes in the version of the record."""
    facts = record.facts
    return [
        name
        for name, result in facts.set_results.items()
        if not result.refused and name in facts.metrics and current_version(name) == facts.metrics[name].version
    ]


def current_version(metric: str) -> int | None:
    """The version of a metric in this program; None where it has none."""
    return METRICS.get(metric).card.version if metric in METRICS else None


def _facts(record: LoadedRecord, where: str) -> Iterator[str]:
    facts = record.facts
    folder = record_folder(record).as_posix()
    if folder != where:
        yield f"it lies in {where}, and belongs in {folder}, where `bench tables` looks for it; move it there"
    expected = facts.protocol.hash_under({name: metric.version for name, metric in facts.metrics.items()})
    if facts.protocol_hash != expected:
        yield f"protocol hash: expected {expected} from its protocol and metric versions, found {facts.protocol_hash}"
    if list(facts.metrics) != list(facts.protocol.metrics):
        yield f"metrics: expected {', '.join(facts.protocol.metrics)}, found {', '.join(facts.metrics)}"
    if list(facts.clip_ids) != sorted(set(facts.clip_ids)):
        yield "clip ids: expected each once, in order"
    if len(facts.sources) != len(facts.clip_ids):
        yield f"sources: expected {len(facts.clip_ids)}, one a clip, found {len(facts.sources)}"
    samples = facts.protocol.samples if facts.method.stochastic else 1
    if facts.samples != samples:
        yield f"samples: expected {samples}, found {facts.samples}"
    if facts.provenance.seed != facts.protocol.seed:
        yield f"seed: the protocol has {facts.protocol.seed}, the provenance {facts.provenance.seed}"


def _arrays(record: LoadedRecord) -> Iterator[str]:
    facts = record.facts
    clips = len(facts.clip_ids)
    for name, array in record.arrays.items():
        if len(array) != clips:
            yield f"{name}: expected {clips} rows, one a clip, found {list(array.shape)}"
    shapes = {"frame": (clips, facts.samples, facts.protocol.horizon), "clip": (clips, facts.samples)}
    for name, metric in facts.metrics.items():
        if metric.kind == "set":
            if name not in facts.set_results:
                yield f"{name}: there is neither a value nor a reason why there is none"
            continue
        rows = record.arrays.get(f"{metric.kind}/{name}")
        if rows is None:
            yield f"{name}: the rows {metric.kind}/{name} are missing"
        elif rows.shape != shapes[metric.kind] or rows.dtype != np.float64:
            expected = list(shapes[metric.kind])
            yield f"{name}: expected float64 rows {expected}, found {rows.dtype} {list(rows.shape)}"
        else:
            yield from _values(name, metric, rows)


def _values(name: str, metric: MetricFacts, array: np.ndarray) -> Iterator[str]:
    # PSNR of identical frames is infinite; a metric of a clip may be undefined.
    sound = np.isfinite(array)
    if metric.unit == "dB":
        sound |= array == np.inf
    if metric.kind == "clip":
        sound |= np.isnan(array)
    if not sound.all():
        yield f"{name}: {int((~sound).sum())} rows are not numbers"


def _set_values(record: LoadedRecord) -> Iterator[str]:
    facts = record.facts
    for name in set_metrics_recomputed(record):
        metric = METRICS.get(name)(device="cpu", mode="exact")
        keys = [f"features/{metric.extractor}/{side}" for side in ("pred", "target")]
        missing = [key for key in keys if key not in record.arrays]
        if missing:
            yield f"{name}: the features {' and '.join(missing)} are missing"
            continue
        pred, target = (torch.from_numpy(record.arrays[key]) for key in keys)
        if len(pred) != len(facts.sources) or len(target) != len(facts.sources):
            continue  # said of the arrays already
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BiasWarning)
            score = metric.value(pred, target, clusters=list(facts.sources))
        for field in SET_FIELDS:
            stated, given = getattr(facts.set_results[name], field), getattr(score, field)
            if not _agree(given, stated):
                yield f"{name}: the record states {field} {stated!r}, its features give {given!r}"


def _agree(found: float, stated: float | None) -> bool:
    if stated is None or math.isnan(stated):
        return math.isnan(found)
    return math.isclose(found, stated, rel_tol=SET_TOLERANCE, abs_tol=SET_TOLERANCE)
