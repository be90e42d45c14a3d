"""Verifies a folder of results: records, tables, checkpoints, and some cells computed again; lists every fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.checkpoint_card import card_faults
from bench.data.interface import Progress
from bench.verify.cells import CLIPS, TOLERANCE, recompute_cells
from bench.verify.records import Fault, read_records, record_faults, set_metrics_recomputed
from bench.verify.tables import table_faults
from metrics.errors import RecordError


@dataclass(frozen=True)
class Settings:
    """What is computed again.

    Attributes:
        cells: how many.
        seed: by which cells and clips are drawn.
        clips: most clips of each.
        tolerance: largest relative difference of a row; see `recompute_cells`.
        device: where; None: a GPU for records from one, where there is one, else the CPU.
    """

    cells: int = 1
    seed: int = 0
    clips: int = CLIPS
    tolerance: float = TOLERANCE
    device: torch.device | str | None = None


def verify_results(
    folder: Path, settings: Settings | None = None, progress: Progress | None = None
) -> Iterator[tuple[str, bool]]:
    """Verifies `folder`: its `records`, `tables` and `checkpoints`, those that there are.

    Yields:
        (line for the terminal, whether it is no fault), every fault a line.

    Raises:
        RecordError: there is no such folder, or none of the three in it.
    """
    settings = settings or Settings()
    store, tables, checkpoints = (folder / name for name in ("records", "tables", "checkpoints"))
    if not any(path.is_dir() for path in (store, tables, checkpoints)):
        raise RecordError(f"{folder}: expected a folder with records, tables or checkpoints in it, found none of them")
    records, faults = read_records(store)
    for path, record in records.items():
        faults += record_faults(record, path, store)
    values = sum(len(set_metrics_recomputed(record)) for record in records.values())
    stored = sum(len(record.facts.set_results) for record in records.values())
    yield from _part(
        "records",
        faults,
        f"{len(records)} records: checksums, schema, rows; {values} of {stored} set values from their features",
    )
    found, agreed = table_faults(tables, list(records.values()))
    names = {path.stem for path in tables.glob("*.csv")}
    yield from _part("tables", found, f"{len(names)} tables, {agreed} cells as their records give them")
    found = [Fault(name, what) for name, what in card_faults(checkpoints)]
    count = len(list(checkpoints.glob("*.json")))
    yield from _part("checkpoints", found, f"{count} checkpoints as their cards say")
    if settings.cells and records:
        results = recompute_cells(
            records,
            checkpoints,
            settings.cells,
            seed=settings.seed,
            clips=settings.clips,
            tolerance=settings.tolerance,
            device=settings.device,
            progress=progress,
        )
        for result in results:
            yield f"{result.line()}", result.passed
        done = sum(not result.why_not for result in results)
        if done < settings.cells:
            yield f"--   {done} of {settings.cells} cells could be recomputed on this machine", True


def _part(name: str, faults: list[Fault], sound: str) -> Iterator[tuple[str, bool]]:
    for fault in faults:
        yield f"FAIL {name}/{fault.where}: {fault.what}", False
    if not faults:
        yield f"ok   {name}: {sound}", True
