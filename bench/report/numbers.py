"""How a report writes numbers."""

from __future__ import annotations

import math

from bench.tables import DECIMALS, DEFAULT_DECIMALS
from bench.text import fixed


def number(metric: str, value: float) -> str:
    """`value` with as many decimals as tables give to `metric`; "not defined" for NaN."""
    if math.isnan(value):
        return "not defined"
    return fixed(value, DECIMALS.get(metric, DEFAULT_DECIMALS))


def every_digit(value: float) -> str:
    """`value` with all its digits; "none" for NaN."""
    return "none" if math.isnan(value) else repr(value)


def chance(p: float) -> str:
    """A p-value."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def megabytes(count: int) -> str:
    """A number of bytes."""
    return f"{count / 1e6:.2f} MB"
