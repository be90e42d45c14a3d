"""From a suite to its figures on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from bench.data.interface import DataSet
from bench.figures.asked import asked, prepared
from bench.figures.curves import best_of_samples, fvd_against_clips, over_time
from bench.figures.dose import dose_response
from bench.figures.strips import strips
from bench.figures.training import training_curves
from bench.output import check_writable
from bench.suite import suite_records
from bench.suite_file import Suite
from methods.registry import build_method
from metrics.errors import OutputError, PokeBenchError, ProtocolError

KINDS = ("time", "fvd", "best-of-k", "dose", "strips", "training")
"""From records: the first three. Methods are asked again for the next two. The last is from logs."""
STRIP_CLIPS = 2
"""Clips that strips show."""


def make_figures(
    suite: Suite,
    dataset: DataSet,
    store: Path,
    out: Path,
    *,
    kinds: Sequence[str] = (),
    trainings: Sequence[Path] = (),
    clips: int = 16,
    device: torch.device | str = "cpu",
) -> list[str]:
    """Makes the figures of a suite, as OUT/KIND.png and .pdf; of strips one for each method.

    Args:
        store: of the records.
        kinds: of KINDS; none: all that this suite allows, and for the others the reason why not.
        trainings: folders of trainings, for the kind "training".
        clips: clips of dose responses; strips show STRIP_CLIPS.

    Returns:
        What was written, and what was left out.

    Raises:
        ProtocolError: no such kind, or one that was asked for does not suit the suite.
        RecordError, MethodError, TrainingError: what a kind that was asked for needs is missing.
        OutputError: a figure cannot be written.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ProtocolError(f"there is no figure {unknown[0]!r}; there are: {', '.join(KINDS)}")
    check_writable(out / f"{(kinds or KINDS)[0]}.png")
    makers: dict[str, Callable[[], list[Path]]] = {
        "time": lambda: over_time(suite_records(suite, dataset, store), out / "time"),
        "fvd": lambda: fvd_against_clips(suite_records(suite, dataset, store), out / "fvd"),
        "best-of-k": lambda: best_of_samples(suite_records(suite, dataset, store), out / "best-of-k"),
        "dose": lambda: _dose(suite, dataset, out / "dose", clips, torch.device(device)),
        "strips": lambda: _strips(suite, dataset, out, torch.device(device)),
        "training": lambda: _training(trainings, out / "training"),
    }
    said = []
    for kind in kinds or KINDS:
        try:
            said += [f"{path}" for path in makers[kind]()]
        except PokeBenchError as error:
            if kinds or isinstance(error, OutputError):
                raise
            said.append(f"no {kind}: {error}")
    return said


def _dose(suite: Suite, dataset: DataSet, path: Path, clips: int, device: torch.device) -> list[Path]:
    built = [build_method(spec) for spec in suite.methods]
    takers = [method for method in built if "poke" in method.card.inputs]
    given = asked(dataset, suite.protocol, clips, device)
    return dose_response(prepared(takers, suite.protocol, device), given, path)


def _strips(suite: Suite, dataset: DataSet, out: Path, device: torch.device) -> list[Path]:
    built = prepared([build_method(spec) for spec in suite.methods], suite.protocol, device)
    return strips(built, asked(dataset, suite.protocol, STRIP_CLIPS, device), out)


def _training(folders: Sequence[Path], path: Path) -> list[Path]:
    if not folders:
        raise ProtocolError("training curves are of folders of trainings; give them with --train")
    return training_curves(folders, path)
