"""Means over clips with honest intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 9999
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A value between two confidence limits; the limits are NaN when there are too few sources for any."""

    value: float
    low: float
    high: float


def mean_interval(values: np.ndarray, clusters: Sequence[str], *, level: float = LEVEL, seed: int = 0) -> Interval:
    """Mean over clips with a BCa bootstrap interval that resamples whole sources.

    Clips cut from one source resemble each other; resampling them one by one would make intervals too short.

    Args:
        values: float [N], one value a clip, finite.
        clusters: the source of each clip, N names.
        level: confidence level.
        seed: of the resampling.

    Returns:
        The mean over clips, and limits at `level` (Efron 1987). With one source the limits are NaN; when all
        sources have one mean they equal the mean.
    """
    from scipy.stats import bootstrap

    values = np.asarray(values, dtype=np.float64)
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(index, weights=values)
    counts = np.bincount(index).astype(np.float64)
    mean = float(sums.sum() / counts.sum())
    if len(names) < 2:
        return Interval(mean, float("nan"), float("nan"))
    if np.ptp(sums / counts) <= 1e-14 * max(1.0, abs(mean)):
        return Interval(mean, mean, mean)

    def ratio(s: np.ndarray, c: np.ndarray, axis: int = -1) -> np.ndarray:
        return s.sum(axis=axis) / c.sum(axis=axis)

    found = bootstrap(
        (sums, counts), ratio, paired=True, vectorized=True, n_resamples=RESAMPLES, confidence_level=level,
        method="BCa", rng=np.random.default_rng(seed),
    )  # fmt: skip
    return Interval(mean, float(found.confidence_interval.low), float(found.confidence_interval.high))


def jackknife_interval(value: float, standard_error: float, groups: int, *, level: float = LEVEL) -> Interval:
    """`value` with limits from a group jackknife: Student's t with groups - 1 degrees of freedom."""
    from scipy.stats import t

    half = float(t.ppf((1 + level) / 2, groups - 1)) * standard_error if groups > 1 else float("nan")
    return Interval(value, value - half, value + half)


def over_samples(values: np.ndarray, higher_is_better: bool, best: bool) -> np.ndarray:
    """Reduces clip values [N, S] over the samples of each clip, to [N].

    Args:
        higher_is_better: the metric's direction, which decides what "best" is.
        best: best of S, or the mean of S.
    """
    if not best:
        return values.mean(axis=1)
    return values.max(axis=1) if higher_is_better else values.min(axis=1)
