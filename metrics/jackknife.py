"""Group jackknife: standard error and bias of a statistic of two sets of clips.

Why not the bootstrap: a bootstrap sample of N clips holds only about 0.63 N different ones. Its covariance has
that much lower a rank, and a Frechet distance depends strongly on how many different clips there are (the
bias of FVD falls like 1/N). The bootstrap values therefore gather around the distance of a much smaller
sample, well above the estimate, and an interval made of them need not even contain it. An unbiased MMD is
harmed too: a clip and its copy are a pair with the kernel value of the diagonal, which the estimate leaves
out. Leaving clips out makes no copies, and the change with N that it causes is what the bias correction uses.

F. M. T. A. Busing, E. Meijer, R. van der Leeden: Delete-m jackknife for unequal m. Statistics and Computing
9(1), 1999, for groups of unequal size. With groups of one clip it is the ordinary jackknife.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metrics.errors import VideoError

GROUPS = 20
MIN_GROUPS = 3
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Jackknife:
    """What the jackknife says of a statistic.

    Attributes:
        standard_error: of the statistic; NaN with fewer than three groups.
        bias_corrected: the statistic less its first-order bias; NaN likewise.
        groups: groups left out in turn (of the smaller number, if the sets differ); 0 with fewer than three.
    """

    standard_error: float
    bias_corrected: float
    groups: int


NO_JACKKNIFE = Jackknife(math.nan, math.nan, 0)


def assign_groups(count: int, groups: int = GROUPS, clusters: Sequence[str] | None = None) -> list[Indices]:
    """Splits clips 0..count-1 into at most `groups` groups, the same way each time.

    Without clusters: runs of neighbouring clips, of sizes that differ by one at most. With clusters: whole
    sources, the largest first, each into the smallest group so far.

    Args:
        count: number of clips.
        groups: most groups; fewer when there are fewer clips or sources.
        clusters: the source of each clip.

    Returns:
        Sorted indices of each group.

    Raises:
        VideoError: `clusters` has another length than `count`, or `groups` is below 1.
    """
    if groups < 1:
        raise VideoError(f"expected at least one jackknife group, found {groups}")
    if clusters is None:
        return [np.asarray(part, np.int64) for part in np.array_split(np.arange(count), min(groups, count))]
    if len(clusters) != count:
        raise VideoError(f"clusters must name the source of each clip: expected {count} names, found {len(clusters)}")
    members: dict[str, list[int]] = {}
    for index, source in enumerate(clusters):
        members.setdefault(source, []).append(index)
    parts: list[list[int]] = [[] for _ in range(min(groups, len(members)))]
    for source in sorted(members, key=lambda name: -len(members[name])):  # stable: ties by first appearance
        min(parts, key=len).extend(members[source])
    return [np.asarray(sorted(part), np.int64) for part in parts]


def delete_group(value: float, deleted: Sequence[float], sizes: Sequence[int]) -> Jackknife:
    """Delete-m_j jackknife of one statistic.

    Args:
        value: the statistic of all n clips.
        deleted: its value without group j.
        sizes: clips m_j in group j; they sum to n.
    """
    if len(deleted) < MIN_GROUPS:
        return NO_JACKKNIFE
    left_out, m = np.asarray(deleted, np.float64), np.asarray(sizes, np.float64)
    h = m.sum() / m
    corrected = len(m) * value - ((1 - 1 / h) * left_out).sum()
    pseudo = h * value - (h - 1) * left_out
    variance = ((pseudo - corrected) ** 2 / (h - 1)).mean()
    return Jackknife(float(np.sqrt(variance)), float(corrected), len(m))


def combined(value: float, first: Jackknife, second: Jackknife) -> Jackknife:
    """Two independent samples: variances and biases of the two deletions add."""
    if not (first.groups and second.groups):
        return NO_JACKKNIFE
    return Jackknife(
        math.hypot(first.standard_error, second.standard_error),
        first.bias_corrected + second.bias_corrected - value,
        min(first.groups, second.groups),
    )


def two_set_groups(
    n: int, m: int, groups: int = GROUPS, clusters: Sequence[str] | None = None
) -> tuple[list[Indices], list[Indices]]:
    """Groups of both sets; with n = m the two lists are one and the same, and clip i leaves both sets at once.

    Raises:
        VideoError: clusters given for sets of unequal size, or as `assign_groups`.
    """
    if n == m:
        paired = assign_groups(n, groups, clusters)
        return paired, paired
    if clusters is not None:
        raise VideoError(f"clusters need two sets of equal size in one order, found {n} and {m} clips")
    return assign_groups(n, groups), assign_groups(m, groups)


def jackknife(
    statistic: Callable[[Indices, Indices], float],
    value: float,
    n: int,
    m: int,
    groups: int = GROUPS,
    clusters: Sequence[str] | None = None,
) -> Jackknife:
    """Jackknife of `statistic` of two sets, of which it is told the clips left out.

    Args:
        statistic: (indices left out of set one, of set two) -> value without them.
        value: the statistic of the whole sets.
        n, m: sizes of the sets. Equal: row i of both belongs to one clip, and leaves both at once. Unequal:
            the sets are taken as independent, and clips leave one set at a time.
        groups, clusters: as `assign_groups`.

    Raises:
        VideoError: as `two_set_groups`.
    """
    first, second = two_set_groups(n, m, groups, clusters)
    if min(len(first), len(second)) < MIN_GROUPS:
        return NO_JACKKNIFE
    nothing = np.empty(0, np.int64)
    if first is second:
        return delete_group(value, [statistic(part, part) for part in first], [len(part) for part in first])
    return combined(
        value,
        delete_group(value, [statistic(part, nothing) for part in first], [len(part) for part in first]),
        delete_group(value, [statistic(nothing, part) for part in second], [len(part) for part in second]),
    )
