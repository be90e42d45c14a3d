"""Outlines of leaves: how wide a leaf is from its base to its tip, and where it is open."""

from __future__ import annotations

from functools import cache

import numpy as np

from bench.data.sim.body import OUTLINES
from bench.data.sim.exact import triangle

OUTLINE_STEPS = 512


def in_hole(along: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Where a monstera leaf is open; `along` in [0, 1] from base to tip, `across` in [0, 1] from midrib to rim."""
    return (triangle(5 * along + 0.6 * across) > 0.72) & (across > 0.38) & (along > 0.15) & (along < 0.88)


def outline_width(outline: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Half width of a leaf at `along` in [0, 1], as a fraction of its largest; `outline` indexes OUTLINES."""
    place = np.clip(along, 0, 1) * OUTLINE_STEPS
    low = np.minimum(place.astype(np.int64), OUTLINE_STEPS - 1)
    table = outline_table()
    left, right = table[outline, low], table[outline, low + 1]
    return left + (right - left) * (place - low)


@cache
def outline_table() -> np.ndarray:
    """The outlines, `[len(OUTLINES), OUTLINE_STEPS + 1]`."""
    s = np.arange(OUTLINE_STEPS + 1) / OUTLINE_STEPS
    oval = np.sqrt(np.maximum(1 - (2 * s - 1) * (2 * s - 1), 0))
    ovate = 2.598 * np.sqrt(s) * (1 - s)
    sixth = s * s * s * s * s * s
    drawn = {
        "oval": oval,
        "ovate": ovate,
        "lance": 4 * s * (1 - s),
        "strap": np.minimum(1, 6 * s + 0.35) * np.sqrt(1 - sixth),
        "heart": np.minimum(1, 3.2 * np.sqrt(s)) * np.sqrt(1 - s) * (0.92 + 0.3 * s),
        "serrate": ovate * (0.78 + 0.22 * triangle(9 * s)),
        "blade": (1 - s) * (1 + 0.6 * s),
        "lobed": oval * (0.35 + 0.65 * triangle(3 * s + 0.17)),
        "plain": np.ones_like(s),
    }
    return np.stack([drawn[name] for name in OUTLINES])
