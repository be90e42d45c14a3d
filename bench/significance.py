"""Which differences between methods are more than chance: paired tests, Holm's correction, and letters for tables.

Methods are compared on the same clips, so what is tested is their difference, clip by clip. Clips of one source
resemble each other, so the source is the unit, as it is for the intervals of `bench/statistics.py`.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrics.jackknife import Jackknife, delete_group

ALPHA = 0.05
EXACT_SOURCES = 13
"""Up to so many sources, all 2^n sign patterns are gone through; beyond, PATTERNS of them are drawn."""
PATTERNS = 9999
_BLOCK = 1000
_ROUNDING = 1e-12

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Two methods under one metric.

    Attributes:
        first, second: their rows.
        difference: value of the first less that of the second.
        p: of the test alone, two-sided.
        adjusted: p after Holm's correction over all pairs of the metric.
    """

    first: int
    second: int
    difference: float
    p: float
    adjusted: float

    @property
    def significant(self) -> bool:
        """Whether the difference is more than chance at ALPHA, all pairs considered."""
        return self.adjusted <= ALPHA


def compare_means(rows: Mapping[int, Values], clusters: Sequence[str], *, seed: int = 0) -> list[Comparison]:
    """Compares the means of methods over clips, two by two: a sign-flip permutation test over sources.

    If two methods are equally good, the summed difference of a source is as likely to have one sign as the other. p is
    the share of sign patterns, the observed one counted, under which the mean difference is at least as large as it is
    (R. A. Fisher, The Design of Experiments, 1935, section 21; with drawn patterns B. Phipson, G. K. Smyth,
    "Permutation p-values should never be zero", 2010).

    So methods that may change places are told apart one time in twenty, whatever their values are like. It is more
    often where differences have the mean 0 but are skewed: with exponential ones 10% of times from 10 sources, 7% from
    30, 5% from 130 (`tests/bench/test_coverage.py`).

    Args:
        rows: row of the table -> float64 [N], one value a clip, NaN where it is not defined; a pair is compared on
            the clips where both are.
        clusters: the source of each clip, N names.
        seed: of the drawn patterns.
    """
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    pairs = list(itertools.combinations(rows, 2))
    if not pairs:
        return []
    differences = np.stack([rows[a] - rows[b] for a, b in pairs])
    defined = ~np.isnan(differences)
    sums: Values = np.zeros((len(pairs), int(index.max()) + 1))
    np.add.at(sums.T, index, np.where(defined, differences, 0.0).T)
    means = sums.sum(1) / np.maximum(defined.sum(1), 1)
    return _corrected(pairs, means, sign_flips(sums, seed))


def smallest_p(rows: Mapping[int, Values], clusters: Sequence[str]) -> float:
    """The smallest p that `compare_means` can give after correction; above ALPHA, there is nothing that it can tell."""
    sources, pairs = len(set(clusters)), len(rows) * (len(rows) - 1) // 2
    return pairs * (2.0 ** (1 - sources) if sources <= EXACT_SOURCES else 1 / (PATTERNS + 1))


def compare_replicates(
    values: Mapping[int, float], deleted: Mapping[int, Sequence[float]], sizes: Sequence[int], *, corrected: bool
) -> list[Comparison]:
    """Compares statistics of whole sets, two by two: Student's t on the paired group jackknife of their difference.

    What is tested is the difference at this number of clips for plain values, and that of ever more clips for corrected
    ones; see `bench.statistics.jackknife_interval`.

    Args:
        values: row of the table -> value of all clips.
        deleted: row -> its values without group g, the same groups for all rows.
        sizes: clips in each group; three groups at least.
        corrected: test the bias-corrected difference, not the plain one.
    """
    from scipy.stats import t

    pairs = list(itertools.combinations(values, 2))
    differences, chances = [], []
    for a, b in pairs:
        plain = values[a] - values[b]
        found: Jackknife = delete_group(plain, [x - y for x, y in zip(deleted[a], deleted[b], strict=True)], sizes)
        difference = found.bias_corrected if corrected else plain
        differences.append(difference)
        slack = _ROUNDING * max(abs(values[a]), abs(values[b]))
        if found.standard_error <= slack:
            chances.append(1.0 if abs(difference) <= slack else 0.0)
        else:
            chances.append(2 * float(t.sf(abs(difference) / found.standard_error, len(sizes) - 1)))
    return _corrected(pairs, differences, chances)


def holm(chances: Sequence[float]) -> list[float]:
    """p-values corrected for their number (S. Holm, "A simple sequentially rejective multiple test procedure", 1979).

    In the order of `chances`.
    """
    order = sorted(range(len(chances)), key=lambda n: chances[n])
    adjusted, largest = [0.0] * len(chances), 0.0
    for place, number in enumerate(order):
        largest = max(largest, min(1.0, (len(chances) - place) * chances[number]))
        adjusted[number] = largest
    return adjusted


def letters(order: Sequence[int], comparisons: Sequence[Comparison]) -> dict[int, str]:
    """Compact letter display: two rows share a letter exactly when they do not differ significantly.

    Insert-and-absorb (H.-P. Piepho, "An algorithm for a letter-based representation of all-pairwise comparisons",
    2004).

    Args:
        order: the rows, best first; the best row has the letter "a".
        comparisons: of all pairs of these rows.
    """
    groups = [frozenset(order)]
    for pair in comparisons:
        if not pair.significant:
            continue
        split: list[frozenset[int]] = []
        for group in groups:
            both = pair.first in group and pair.second in group
            split += [group - {pair.first}, group - {pair.second}] if both else [group]
        distinct = list(dict.fromkeys(split))
        groups = [group for group in distinct if not any(group < other for other in distinct)]
    rank = {row: place for place, row in enumerate(order)}
    groups.sort(key=lambda group: sorted(rank[row] for row in group))
    names = [_letter(number) for number in range(len(groups))]
    return {row: "".join(n for n, group in zip(names, groups, strict=True) if row in group) for row in order}


def _letter(number: int) -> str:
    """a .. z, then a2 .. z2 and so on."""
    turn, place = divmod(number, 26)
    return string.ascii_lowercase[place] + (str(turn + 1) if turn else "")


def sign_flips(sums: Values, seed: int) -> list[float]:
    """p of the test of `compare_means` for each row of `sums` [pairs, sources], the summed differences of sources."""
    observed = np.abs(sums.sum(1))
    bar = observed - _ROUNDING * np.abs(sums).sum(1)
    sources = sums.shape[1]
    if sources <= EXACT_SOURCES:
        bits = (np.arange(2**sources)[:, None] >> np.arange(sources)) & 1
        flipped = np.abs((1.0 - 2.0 * bits) @ sums.T)
        return [float(share) for share in (flipped >= bar).mean(0)]
    generator = np.random.default_rng(seed)
    count = np.ones(len(sums))
    for start in range(0, PATTERNS, _BLOCK):
        signs = generator.integers(0, 2, (min(_BLOCK, PATTERNS - start), sources)) * 2.0 - 1.0
        count += (np.abs(signs @ sums.T) >= bar).sum(0)
    return [float(share) for share in count / (PATTERNS + 1)]


def _corrected(
    pairs: Sequence[tuple[int, int]], differences: Sequence[float] | Values, chances: Sequence[float]
) -> list[Comparison]:
    return [
        Comparison(a, b, float(difference), float(p), adjusted)
        for (a, b), difference, p, adjusted in zip(pairs, differences, chances, holm(chances), strict=True)
    ]
