"""Curves of trainings, from their logs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.figures.style import finish, panels, style
from bench.training.journal import read_journal
from metrics.base import METRICS
from metrics.errors import TrainingError
from metrics.parsing import read_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEFT_OUT = ("iteration", "kind", "seconds", "steps_per_second")
SMOOTHED_OVER = 25
"""Parts of a training over each of which its losses are averaged for the thick line."""
WIDE = 50
"""Values that differ by more than this factor are drawn on a logarithmic scale."""


def training_curves(folders: Sequence[Path], path: Path) -> list[Path]:
    """Every loss and validation metric of trainings against the step.

    Thin lines are the entries of the log; thick ones running means of losses. Validation has markers.

    Args:
        folders: of trainings, with their log.jsonl.

    Raises:
        TrainingError: a folder holds no log with entries.
    """
    logs = [(name, entries(folder)) for name, folder in zip(_names(folders), folders, strict=True)]
    kinds: dict[tuple[str, str], None] = {}
    for _, found in logs:
        for entry in found:
            kinds |= {(entry["kind"], name): None for name in entry if name not in LEFT_OUT}
    wanted = sorted(kinds, key=lambda pair: pair[0] != "train")
    figure, axes = panels(len(wanted))
    for axis, (kind, name) in zip(axes, wanted, strict=True):
        everything: list[float] = []
        for number, (label, found) in enumerate(logs):
            points = [(e["iteration"], e[name]) for e in found if e["kind"] == kind and name in e]
            if points:
                steps, values = np.array(points, dtype=np.float64).T
                _draw(axis, steps, values, number, label, kind)
                everything += [float(v) for v in values[np.isfinite(values)]]
        if everything and min(everything) > 0 and max(everything) > WIDE * min(everything):
            axis.set_yscale("log")
        axis.set_title("training" if kind == "train" else kind)
        axis.set_xlabel("step")
        axis.set_ylabel(_label(name, kind))
    for number, (label, _) in enumerate(logs):  # the legend needs all of them, whatever the first panel shows
        chosen = style(number)
        axes[0].plot([], [], color=chosen.color, linestyle=chosen.linestyle, marker=chosen.marker, label=label)
    note = "thin: entries of the log; thick: running mean; markers: validation"
    return finish(figure, path, "Trainings", note, axes[0])


def entries(folder: Path) -> list[dict[str, Any]]:
    """The entries of a training's log.

    Raises:
        TrainingError: there are none.
    """
    found = read_journal(folder / "log.jsonl")
    if not found:
        raise TrainingError(f"{folder} holds no log.jsonl with entries; give the folder of a training (`bench train`)")
    return found


def running_mean(values: np.ndarray) -> np.ndarray:
    """Means over the last 1 / SMOOTHED_OVER of all values up to each, float64 of the same length; NaN is left out."""
    width = max(1, len(values) // SMOOTHED_OVER)
    return np.array([np.nanmean(values[max(0, k + 1 - width) : k + 1]) for k in range(len(values))])


def _draw(axis: Axes, steps: np.ndarray, values: np.ndarray, number: int, label: str, kind: str) -> None:
    chosen = style(number)
    if kind != "train":
        axis.plot(steps, values, color=chosen.color, linestyle=chosen.linestyle, marker=chosen.marker, markersize=5)
        return
    axis.plot(steps, values, color=chosen.color, linewidth=0.6, alpha=0.35)
    axis.plot(steps, running_mean(values), color=chosen.color, linestyle=chosen.linestyle, linewidth=1.6)


def _label(name: str, kind: str) -> str:
    """A metric with its title and direction, a loss as the training calls it."""
    if kind == "train" or name not in METRICS:
        return f"{name} (loss)" if kind == "train" else name
    card = METRICS.get(name).card
    return f"{card.title} {'↑' if card.higher_is_better else '↓'}"


def _plan(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        plan = read_json(path)
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} cannot be read ({error}); restore it, or remove it") from error
    return plan if isinstance(plan, dict) else {}


def _names(folders: Sequence[Path]) -> list[str]:
    """Of each training: method and recipe where its plan says them, and the folder where they are not enough."""
    plans = []
    for folder in folders:
        plan = _plan(folder / "plan.json")
        plans.append(" ".join(str(plan[key]) for key in ("method", "recipe") if key in plan) or folder.name)
    return [
        f"{name} ({folder.name})" if plans.count(name) > 1 else name
        for name, folder in zip(plans, folders, strict=True)
    ]
