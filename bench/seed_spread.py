"""How far trainings that differ in their seed alone lie apart: rows of one title but for its ", seed N"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from methods.weights_file import SEED_MARK

if TYPE_CHECKING:
    from bench.tables import Row

NOTE = "Spread over training seeds: mean and sample standard deviation of the rows of one method."


@dataclass(frozen=True)
class Spread:
    """One method, trained several times.

    Attributes:
        title: of its rows, without the seed.
        trainings: how many rows there are.
        cells: for each column of the table, mean and sample standard deviation over the rows (divisor n - 1); NaN
            where a row has no value.
    """

    title: str
    trainings: int
    cells: tuple[tuple[float, float], ...]


def seed_spreads(rows: Sequence[Row]) -> tuple[Spread, ...]:
    """The spread of every method that has at least two rows, in the order of the rows.

    Where a title stands twice, rows differ in more than their seed, and which of them belong together is not known:
    that method has none.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.title.partition(SEED_MARK)[0], row.given), []).append(row)
    return tuple(
        _spread(title, group)
        for (title, _), group in groups.items()
        if len({row.title for row in group}) == len(group) > 1
    )


def _spread(title: str, rows: Sequence[Row]) -> Spread:
    values = np.array([[cell.interval.value for cell in row.cells] for row in rows])
    cells = zip(values.mean(0).tolist(), values.std(0, ddof=1).tolist(), strict=True)
    return Spread(title, len(rows), tuple(cells))
