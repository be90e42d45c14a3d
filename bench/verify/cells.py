"""Recomputes cells of stored records on this machine, from the data and the method, and compares their rows."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from bench.checkpoint_card import cards
from bench.data.interface import Progress
from bench.data.registry import DATASETS
from bench.data.subset import Subset
from bench.evaluate import evaluate
from bench.evaluation.prediction import AnyMethod
from bench.record import Arrays, LoadedRecord
from bench.store import Store
from bench.suite import open_protocol_data
from bench.verify.records import current_version
from methods.registry import METHODS, build_method
from metrics.base import METRICS
from metrics.errors import PokeBenchError
from metrics.fvd import BiasWarning

TOLERANCE = 1e-5
"""Largest relative difference of a row between two processors, of what is computed from pixels and features."""

MOTION_TOLERANCE = 2e-2
"""The same where motion is measured in a prediction: its estimators see 8-bit frames, where rounding makes steps.
Noise of 1e-6 on predictions moved a flow error by up to 0.4 %."""

CLIPS = 16
"""Clips of which a cell is recomputed, unless told otherwise."""

MEASURED = ("clip", "response")
"""What arrays of measured motion begin with."""

WHOLE_SET = ("clip/retrieval",)
"""Arrays that depend on all clips together; of some clips alone they come out differently."""


@dataclass(frozen=True)
class Recomputed:
    """A cell that was, or could not be, computed again.

    Attributes:
        cell: method, metric and record folder.
        compared: what was compared, in words; "" when nothing was.
        difference: largest relative difference of a row; NaN when a value is defined on one side alone, None when there
            were no rows to compare.
        passed: whether that is within the tolerance.
        why_not: why it could not be computed here; "" when it was.
    """

    cell: str
    compared: str = ""
    difference: float | None = None
    passed: bool = True
    why_not: str = ""

    def line(self) -> str:
        """One line for the terminal."""
        if self.why_not:
            return f"--   {self.cell}: not recomputed, {self.why_not}"
        verdict = "ok  " if self.passed else "FAIL"
        said = "" if self.difference is None else f", largest difference {self.difference:.1e}"
        return f"{verdict} {self.cell}: {self.compared}{said}"


def recompute_cells(
    records: Mapping[Path, LoadedRecord],
    checkpoints: Path,
    count: int,
    *,
    seed: int = 0,
    clips: int = CLIPS,
    tolerance: float = TOLERANCE,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> list[Recomputed]:
    """Recomputes random cells (a method on a metric) until `count` were compared, or none are left.

    Args:
        records: by the path of their record.json.
        checkpoints: folder of published weights with their cards, for methods that need them.
        seed: of the order in which cells, and clips, are drawn.
        clips: at most so many clips of each cell, drawn at random.
        tolerance: largest relative difference of a row; see `largest_difference`. Where motion is measured, at least
            MOTION_TOLERANCE.
        device: where; None: a GPU where the record is from one and there is one here, else the CPU.

    Returns:
        One result a cell that was tried. A cell is passed over, with the reason, when its data are not on this
        machine, its method cannot be built as it was, or its metric has another version now.
    """
    draw = np.random.default_rng(seed)
    cells = [(path, name) for path, record in sorted(records.items()) for name in record.facts.metrics]
    done: list[Recomputed] = []
    for index in draw.permutation(len(cells)):
        if sum(not result.why_not for result in done) == count:
            break
        path, metric = cells[index]
        record, where = records[path], f"{path.parent.parent.name}/{path.parent.name}"
        cell = f"{record.facts.method.title} / {record.facts.metrics[metric].title} ({where})"
        chosen = draw.permutation(len(record.facts.clip_ids))[:clips]
        ids = sorted(record.facts.clip_ids[row] for row in chosen)
        try:
            reason = _obstacle(record, metric)
            if reason:
                done.append(Recomputed(cell, why_not=reason))
                continue
            method, reason = _method(record, checkpoints)
            if method is None:
                done.append(Recomputed(cell, why_not=reason))
                continue
            where_to = _device_of(record) if device is None else device
            done.append(_recompute(cell, record, metric, method, ids, tolerance, where_to, progress))
        except PokeBenchError as error:
            done.append(Recomputed(cell, why_not=str(error)))
    return done


def largest_difference(found: np.ndarray, stored: np.ndarray, *, by_row: bool) -> float:
    """Largest relative difference of two arrays of one shape.

    Args:
        by_row: of feature vectors: norm of the difference over the norm of the stored vector. Else of single values:
            over the stored value or the mean size of all stored ones, whichever is larger, so that a value near zero
            does not count for more than the others. Equal infinities and two NaN do not differ.

    Returns:
        NaN where a value is NaN, or infinite, on one side alone.
    """
    found, stored = (array.astype(np.float64) for array in (found, stored))
    if by_row:
        norms = np.linalg.norm(stored, axis=-1)
        differences = np.linalg.norm(found - stored, axis=-1)
        return float((differences / np.where(norms > 0, norms, 1)).max())
    special = ~np.isfinite(stored)
    if (special != ~np.isfinite(found)).any() or not np.array_equal(found[special], stored[special], equal_nan=True):
        return float("nan")
    found, stored = found[~special], stored[~special]
    if not stored.size or not np.abs(found - stored).max():
        return 0.0
    scale = np.maximum(np.abs(stored), np.abs(stored).mean())
    return float((np.abs(found - stored) / np.where(scale > 0, scale, 1)).max())


def _device_of(record: LoadedRecord) -> torch.device:
    """The kind of device that a record is from, as far as there is one here."""
    kinds = {machine["device"].partition(":")[0] for machine in record.facts.provenance.hardware}
    return torch.device("cuda" if kinds == {"cuda"} and torch.cuda.is_available() else "cpu")


def _obstacle(record: LoadedRecord, metric: str) -> str:
    """Why a cell cannot be recomputed, as far as the record tells."""
    facts = record.facts
    if metric in facts.set_results and facts.set_results[metric].refused:
        return f"it has no value ({facts.set_results[metric].refused})"
    if current_version(metric) != facts.metrics[metric].version:
        return f"it has version {facts.metrics[metric].version}, and this program has version {current_version(metric)}"
    dataset = facts.protocol.dataset
    if dataset not in DATASETS:
        return f"the data {dataset} are not a registered set"
    status = DATASETS.get(dataset).status()
    return "" if status.present else f"the data {dataset} are not here ({status.detail})"


def _method(record: LoadedRecord, checkpoints: Path) -> tuple[AnyMethod | None, str]:
    """The method of a record, built as it was; or None, and why not."""
    facts = record.facts.method
    held = set(facts.weights.values())
    files = [
        f"{card.method}:checkpoint={path.parent / card.file}"
        for path, card in cards(checkpoints).items()
        if card.sha256 in held
    ]
    if not files and facts.name.partition(":")[0] not in METHODS:
        what = "no checkpoint here has its weights" if held else "it is not a registered method"
        return None, f"{facts.name} cannot be built: {what}"
    method = build_method(files[0] if files else facts.name)
    card = method.card
    for what, mine, theirs in (
        ("name", card.name, facts.name),
        ("revision", card.revision, facts.revision),
        ("weights", dict(card.weights), facts.weights),
    ):
        if mine != theirs:
            return None, f"the {what} of the method is {mine} here, and {theirs} in the record"
    return method, ""


def _recompute(
    cell: str,
    record: LoadedRecord,
    metric: str,
    method: AnyMethod,
    clip_ids: list[str],
    tolerance: float,
    device: torch.device | str,
    progress: Progress | None,
) -> Recomputed:
    facts, protocol = record.facts, record.facts.protocol
    dataset = open_protocol_data(protocol, progress=progress)
    if dataset.content_hash != facts.data.content_hash:
        return Recomputed(
            cell,
            f"the data {dataset.name} have the content {dataset.content_hash[:12]} here, and "
            f"{facts.data.content_hash[:12]} in the record",
            passed=False,
        )
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", BiasWarning)
        try:
            [again] = evaluate(
                [method],
                Subset(dataset, [ref for ref in dataset.clips() if ref.clip_id in clip_ids], "some"),
                protocol.model_copy(update={"metrics": (metric,)}),
                Store(Path(folder)),
                device=device,
                batch_size=max(facts.provenance.batch_sizes),
            )
        except PokeBenchError as error:  # it could be computed once
            return Recomputed(cell, f"it failed ({error})", passed=False)
    rows = [facts.clip_ids.index(clip_id) for clip_id in clip_ids]
    stored = {name: array[rows] for name, array in record.arrays.items()}
    measured = max(tolerance, MOTION_TOLERANCE) if _by_motion(metric) else tolerance
    return _compared(cell, again.arrays, stored, tolerance, measured)


def _by_motion(metric: str) -> bool:
    made: Any = METRICS.get(metric)
    return made.card.kind == "clip" and made.measures_motion()


def _compared(cell: str, found: Arrays, stored: Arrays, tolerance: float, measured: float) -> Recomputed:
    """The comparison of every array that was computed again; `measured`: the tolerance of measured motion."""
    names = [name for name in found if name not in WHOLE_SET]
    for name in names:
        if name not in stored or stored[name].shape != found[name].shape:
            there = list(stored[name].shape) if name in stored else "nothing"
            what = f"{name}: computed {list(found[name].shape)}, stored {there}"
            return Recomputed(cell, what, passed=False)
    differences = {
        name: largest_difference(found[name], stored[name], by_row=name.startswith("features/")) for name in names
    }
    limits = {name: measured if name.partition("/")[0] in MEASURED else tolerance for name in names}
    worst = max(
        differences, key=lambda name: np.inf if np.isnan(differences[name]) else differences[name] / limits[name]
    )
    shapes = ", ".join(f"{name} {list(found[name].shape)}" for name in names)
    shown = " and ".join(f"{limit:g}" for limit in sorted(set(limits.values())))
    passed = all(difference <= limits[name] for name, difference in differences.items())
    return Recomputed(cell, f"compared {shapes}, tolerance {shown} relative", differences[worst], passed=passed)
