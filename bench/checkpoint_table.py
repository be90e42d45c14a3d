"""The budgets of published checkpoints, one line a card."""

from __future__ import annotations

from pathlib import Path

from bench.checkpoint_card import CheckpointCard, cards
from bench.text import escaped
from metrics.errors import RecordError

HEADERS = (
    "file", "method", "recipe", "seed", "numbers", "MB", "steps", "steps before", "clips a step", "clips seen", "hours",
    "precision", "learned from", "hardware", "commit",
)  # fmt: skip
SHORT = 7
"""Digits of a commit."""


def budgets_markdown(folder: Path) -> str:
    """A markdown table of the cards in `folder`: what each training cost.

    "Steps before" are those behind the weights that a training began from; "clips seen" (steps x clips a step) and
    "hours" are of the steps after that.

    Raises:
        RecordError: there is no card.
    """
    from tabulate import tabulate

    found = cards(folder)
    if not found:
        raise RecordError(f"{folder} holds no card of a checkpoint; write one with `bench weights FROM TO --card`")
    lines = [_line(path, card) for path, card in found.items()]
    return tabulate(lines, headers=HEADERS, tablefmt="github", disable_numparse=True)


def _line(path: Path, card: CheckpointCard) -> list[str]:
    file = path.parent / card.file
    hardware = [card.hardware.get("processor", ""), card.hardware.get("device", "")]
    threads = card.hardware.get("threads")
    commit, plus, changed = card.commit.partition("+")
    values = (
        card.file,
        card.method,
        card.recipe,
        str(card.seed),
        f"{card.parameters:,}",
        f"{file.stat().st_size / 1e6:.1f}" if file.is_file() else "missing",
        f"{card.steps:,}",
        f"{card.steps_before:,}",
        str(card.batch_size),
        f"{card.steps * card.batch_size:,}",
        f"{card.seconds / 3600:.1f}",
        card.precision,
        card.dataset,
        ", ".join(filter(None, hardware)) + (f", threads {threads}" if threads else ""),
        f"{commit[:SHORT]}{plus}{changed}",
    )
    return [escaped(value, "github") for value in values]
