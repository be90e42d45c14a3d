"""Which convention gives a published number: every metric, in every named way, on the videos of two folders."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from bench.audit_videos import Videos, read_videos, sizes
from bench.text import escaped, marked
from metrics.conventions import CONVENTIONS, Convention, convention, try_all
from metrics.errors import DataError, RegistryError, VideoError

DECIMALS = {"fvd": 3, "psnr": 4}
DEFAULT_DECIMALS = 5

Progress = Callable[[int, int, str], None]
"""Called with (conventions done, in all, what comes next)."""


@dataclass(frozen=True)
class Entry:
    """One metric in one convention: its value, or why there is none."""

    metric: str
    convention: Convention
    value: float | None
    refused: str = ""


@dataclass(frozen=True)
class Published:
    """A number as a paper prints it.

    Attributes:
        metric: a key of CONVENTIONS.
        value: the number with its digits.
    """

    metric: str
    value: Decimal

    @property
    def rounding(self) -> Decimal:
        """Half a unit of the last digit given."""
        exponent = self.value.as_tuple().exponent
        assert isinstance(exponent, int)  # checked when it was read
        return Decimal(1).scaleb(exponent) / 2


@dataclass(frozen=True)
class Verdict:
    """How a published number compares with the conventions.

    Attributes:
        published: the number.
        within: largest difference that counts as the same.
        matches: the conventions that reproduce it.
        nearest: the nearest convention that has a value; None when none has.
    """

    published: Published
    within: Decimal
    matches: tuple[Entry, ...]
    nearest: Entry | None

    def sentence(self) -> str:
        """The verdict for people."""
        said = f"{self.published.metric} = {self.published.value} (within {self.within.normalize():f})"
        if self.matches:
            names = " and ".join(f"{entry.convention.name} ({_number(entry)})" for entry in self.matches)
            more = "; these digits cannot tell them apart" if len(self.matches) > 1 else ""
            return f"{said}: reproduced by {names}{more}."
        if self.nearest is None or self.nearest.value is None:
            return f"{said}: no convention has a value here."
        off = self.nearest.value - float(self.published.value)
        share = f" ({abs(off) / abs(float(self.published.value)):.2%})" if self.published.value else ""
        return (
            f"{said}: NOT reproduced; the nearest is {self.nearest.convention.name} with {_number(self.nearest)}, "
            f"{'higher' if off > 0 else 'lower'} by {abs(off):.4g}{share}."
        )


def audit(videos: Videos, progress: Progress | None = None) -> list[Entry]:
    """Every metric under every convention, in the order of CONVENTIONS."""
    total, done = sum(map(len, CONVENTIONS.values())), 0
    rows = []
    for metric in CONVENTIONS:
        for entry, value in try_all(metric, videos.pred, videos.target):
            refused = str(value) if isinstance(value, VideoError) else ""
            rows.append(Entry(metric, entry, None if isinstance(value, VideoError) else value, refused))
            done += 1
            if progress is not None:
                progress(done, total, metric)
    return rows


def parse_published(pairs: Sequence[str]) -> list[Published]:
    """Reads "METRIC=VALUE"; the digits given say how the number was rounded.

    Raises:
        DataError: not of that form, or not a finite number.
        RegistryError: no such metric.
    """
    found = []
    for pair in pairs:
        metric, sign, text = pair.partition("=")
        try:
            value = Decimal(text.strip())
        except InvalidOperation:
            value = Decimal("nan")
        if not sign or not value.is_finite():
            raise DataError(f"--published {pair!r}: expected METRIC=VALUE with a number as printed, as in fvd=241.5")
        try:
            convention(metric.strip())
        except RegistryError as error:
            raise RegistryError(f"--published {pair!r}: {error}") from error
        found.append(Published(metric.strip(), value))
    return found


def judge(published: Published, rows: Sequence[Entry], tolerance: float = 0.0) -> Verdict:
    """Which conventions reproduce a published number.

    Args:
        tolerance: allowed besides the rounding, as a share of the published value; the larger of both counts.

    Raises:
        DataError: the tolerance is negative or not finite.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise DataError(f"--tolerance: expected a share such as 0.01 for 1 %, found {tolerance}")
    within = max(published.rounding, Decimal(repr(tolerance)) * abs(published.value))
    off = [
        (abs(Decimal(row.value) - published.value), row)
        for row in rows
        if row.metric == published.metric and row.value is not None and math.isfinite(row.value)
    ]
    matches = tuple(row for difference, row in off if difference <= within)
    return Verdict(published, within, matches, min(off, key=lambda pair: pair[0])[1] if off else None)


def run_audit(
    pred: Path, target: Path, published: Sequence[str], tolerance: float = 0.0, progress: Progress | None = None
) -> str:
    """Reads, computes, judges; returns what is to be said.

    Args and errors as `read_videos`, `parse_published` and `judge`.
    """
    numbers = parse_published(published)  # refused before the long work
    videos = read_videos(pred, target)
    rows = audit(videos, progress)
    return audit_text(videos, rows, [judge(number, rows, tolerance) for number in numbers])


def audit_text(videos: Videos, rows: Sequence[Entry], verdicts: Sequence[Verdict]) -> str:
    """The table in markdown, what each convention is, and the verdicts."""
    from tabulate import tabulate

    frames, height, width = sizes(videos.pred)
    usual = {metric: next(row.value for row in rows if row.metric == metric) for metric in CONVENTIONS}
    lines = [
        [row.metric, row.convention.name, _number(row), _change(row.value, usual[row.metric]), row.convention.used_by]
        for row in rows
    ]
    lines = [[escaped(text, "github") for text in line] for line in lines]
    headers = ["metric", "convention", "value", "against the first", "used by"]
    table = tabulate(lines, headers, "github", disable_numparse=True, colalign=("left", "left", "right", "right"))
    refused = {
        row.refused: [r.convention.name for r in rows if r.refused == row.refused] for row in rows if row.refused
    }
    notes = [
        f"N = {len(videos.clip_ids)} clips of {frames} frames, {width} x {height} px, in the order of their names. FVD "
        "depends on N and on the number of frames: only a published value of the same clips can be reproduced.",
        *videos.notes,
        *(f"{', '.join(names)}: no value, {why}." for why, names in refused.items()),
        *(f"{row.metric} {row.convention.name}: {row.convention.description}." for row in rows),
    ]
    parts = [table, "\n".join(f"- {note}" for note in notes), "\n".join(v.sentence() for v in verdicts)]
    return "\n\n".join(part for part in parts if part)


def _number(entry: Entry) -> str:
    if entry.value is None:
        return marked("none", "github")
    return f"{entry.value:.{DECIMALS.get(entry.metric, DEFAULT_DECIMALS)}f}"


def _change(value: float | None, usual: float | None) -> str:
    return "" if value is None or not usual or value == usual else f"{value / usual - 1:+.2%}"
