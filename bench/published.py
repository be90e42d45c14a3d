"""The numbers that the paper prints, kept apart from what is measured."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.suite_file import ROOT
from metrics.errors import RecordError

FILE = ROOT / "results" / "published" / "paper.csv"
SOURCE = "Blattmann et al., CVPR 2021"
BETTER = {"FVD": "↓", "LPIPS": "↓", "PSNR": "↑", "SSIM": "↑"}
TITLES = {
    1: "Table 1: video prediction, 64 px",
    2: "Table 2: controlled synthesis, 128 px",
    3: "Table 3: ablations, 64 px",
}
CAUTION = (
    "As printed in the paper: other data, other networks, other programs of measurement. Not comparable with what is "
    "measured here."
)


@dataclass(frozen=True)
class Published:
    """One number of the paper, with the digits that it prints."""

    table: int
    dataset: str
    method: str
    metric: str
    value: str


@cache
def published(path: Path = FILE) -> tuple[Published, ...]:
    """All numbers, in the order of the paper.

    Raises:
        RecordError: the file is missing or damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            found = tuple(
                Published(int(row["table"]), row["dataset"], row["method"], row["metric"], f"{row['value']}")
                for row in csv.DictReader(stream)
            )
        if not found or any(not float(one.value) > 0 or one.metric not in BETTER for one in found):
            raise ValueError("a value that is not positive, an unknown metric, or none at all")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path}: the published numbers cannot be read ({error!r}); restore the file") from error
    return found


def published_grid(table: int) -> tuple[list[str], list[list[str]]]:
    """Header and rows of one table of the paper: a row a method, a column a data set and metric.

    Raises:
        RecordError: the paper has no such table, or the file is damaged.
    """
    numbers = [one for one in published() if one.table == table]
    if not numbers:
        raise RecordError(f"the paper has tables {', '.join(map(str, TITLES))}, found {table}")
    columns = list(dict.fromkeys((one.dataset, one.metric) for one in numbers))
    methods = list(dict.fromkeys(one.method for one in numbers))
    values = {(one.method, one.dataset, one.metric): one.value for one in numbers}
    header = ["method", *(f"{dataset}, {metric} {BETTER[metric]}" for dataset, metric in columns)]
    return header, [[method, *(values[method, *column] for column in columns)] for method in methods]


def published_markdown(table: int) -> str:
    """One table of the paper as markdown; errors as `published_grid`."""
    from tabulate import tabulate

    header, rows = published_grid(table)
    body = tabulate(rows, headers=header, tablefmt="github", disable_numparse=True)
    return f"## {TITLES[table]} ({SOURCE})\n\n{body}\n\n{CAUTION}\n"
