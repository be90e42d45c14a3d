"""Kernel video distance: the unbiased polynomial MMD^2 between the I3D logits of two sets of clips.

The kernel is (x.y / d + 1)^3, as in KID (M. Binkowski et al.: Demystifying MMD GANs, ICLR 2018), on the features of
FVD, as T. Unterthiner et al. (arXiv:1812.01717) proposed. KID averages the estimate over random subsets of
the data; the full U-statistic used here has the same expectation, no randomness and a smaller variance.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metrics.base import SetScore
from metrics.card import MetricCard
from metrics.features.i3d import MIN_FRAMES, i3d_logits
from metrics.frechet import feature_matrices
from metrics.fvd import MIN_CLIPS, I3DMetric, check_sets
from metrics.jackknife import (
    GROUPS,
    MIN_GROUPS,
    NO_JACKKNIFE,
    Indices,
    combined,
    delete_group,
    two_set_groups,
)
from metrics.weights import weight_hash

_ROWS = 512
"""Clips of each set whose kernel values are computed at a time, 2 MB in float64, however many clips there are."""


def kvd(
    pred: Tensor,
    target: Tensor,
    *,
    mode: str = "exact",
    batch_size: int = 8,
    groups: int = GROUPS,
    clusters: Sequence[str] | None = None,
) -> SetScore:
    """KVD of two sets of clips, with standard error and bias-corrected value.

    The estimate is unbiased for independent sets, so it can be negative.

    Args:
        pred, target: float `[N, T, 3, H, W]` and `[M, T, 3, H, W]`, RGB, in [0, 1], as for `fvd`.
        mode, batch_size, groups, clusters: as `fvd`.

    Raises:
        VideoError: as `fvd`.
    """
    check_sets(pred, target)
    two_set_groups(len(pred), len(target), groups, clusters)  # refuses what does not fit before the network runs
    features = [i3d_logits(video, mode=mode, batch_size=batch_size) for video in (pred, target)]
    return kvd_from_features(*features, groups=groups, clusters=clusters, frames=pred.shape[1], mode=mode)


def kvd_from_features(
    pred: Tensor,
    target: Tensor,
    *,
    groups: int = GROUPS,
    clusters: Sequence[str] | None = None,
    frames: int = 0,
    mode: str = "exact",
) -> SetScore:
    """KVD of features `[N, D]` and `[M, D]`; other arguments and errors as `kvd`."""
    x, y = feature_matrices(pred, target)
    n, m = len(x), len(y)
    first, second = two_set_groups(n, m, groups, clusters)
    sums = _GroupSums(x, y, first, second)
    value = sums.distance(n, m)
    found = NO_JACKKNIFE
    if min(len(first), len(second)) >= MIN_GROUPS:
        sizes, other = [len(part) for part in first], [len(part) for part in second]
        if first is second:
            deleted = [sums.distance(n - s, m - s, g, g) for g, s in enumerate(sizes)]
            found = delete_group(value, deleted, sizes)
        else:
            found = combined(
                value,
                delete_group(value, [sums.distance(n - s, m, g, None) for g, s in enumerate(sizes)], sizes),
                delete_group(value, [sums.distance(n, m - s, None, g) for g, s in enumerate(other)], other),
            )
    return SetScore(value, found.standard_error, found.bias_corrected, n, m, found.groups, frames, mode)


class _GroupSums:
    """Sums of the three kernel matrices over pairs of groups, without the diagonals of the square two.

    Leaving a group out is then a subtraction; no kernel value is computed twice.
    """

    def __init__(self, x: Tensor, y: Tensor, first: list[Indices], second: list[Indices]) -> None:
        px, py = _membership(first, len(x)), _membership(second, len(y))
        self.xx = _block_sums(x, x, px, px) - torch.diag(_kernel_diagonal(x) @ px)
        self.yy = _block_sums(y, y, py, py) - torch.diag(_kernel_diagonal(y) @ py)
        self.xy = _block_sums(x, y, px, py)

    def distance(self, n: int, m: int, out_x: int | None = None, out_y: int | None = None) -> float:
        """MMD^2 of the n and m clips that remain without group `out_x` of x and `out_y` of y."""
        xx, yy, xy = (
            _sum_without(*a) for a in ((self.xx, out_x, out_x), (self.yy, out_y, out_y), (self.xy, out_x, out_y))
        )
        return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)


def _membership(groups: list[Indices], count: int) -> Tensor:
    """`[count, groups]`, 1 where the clip is in the group."""
    matrix = torch.zeros(count, len(groups), dtype=torch.float64)
    for column, indices in enumerate(groups):
        matrix[torch.from_numpy(indices), column] = 1
    return matrix


def _block_sums(x: Tensor, y: Tensor, px: Tensor, py: Tensor) -> Tensor:
    """Sums of (x.y / d + 1)^3 over pairs of groups, in float64, by blocks of rows to bound memory."""
    total = torch.zeros(px.shape[1], py.shape[1], dtype=torch.float64)
    for rows, members in zip(x.split(_ROWS), px.split(_ROWS), strict=True):
        scaled = rows.double() / x.shape[1]
        for others, other_members in zip(y.split(_ROWS), py.split(_ROWS), strict=True):
            total += members.T @ ((scaled @ others.double().T + 1) ** 3 @ other_members)
    return total


def _kernel_diagonal(x: Tensor) -> Tensor:
    squares = torch.cat([rows.double().square().sum(1) for rows in x.split(_ROWS)])
    return (squares / x.shape[1] + 1) ** 3


def _sum_without(sums: Tensor, row: int | None, column: int | None) -> float:
    keep_rows = torch.arange(sums.shape[0]) != (-1 if row is None else row)
    keep_columns = torch.arange(sums.shape[1]) != (-1 if column is None else column)
    return float(sums[keep_rows][:, keep_columns].sum())


class KVD(I3DMetric):
    """KVD as a set metric of the harness; see `kvd`."""

    card = MetricCard(
        name="kvd",
        title="KVD",
        kind="set",
        version=1,
        convention="unbiased MMD^2, kernel (x.y/400 + 1)^3, on the I3D logits of FVD, whole sets, float64",
        higher_is_better=False,
        bounds=(None, None),
        reference="torchmetrics poly_mmd on the whole sets",
        tolerance="1e-9 relative",
        weights={"i3d-kinetics-400": weight_hash("i3d-kinetics-400")},
        min_frames=MIN_FRAMES,
        min_clips=MIN_CLIPS,
    )

    def value(self, pred: Tensor, target: Tensor, clusters: list[str] | None = None) -> SetScore:
        """KVD of logits `[N, 400]` and `[M, 400]`."""
        return kvd_from_features(pred, target, clusters=clusters, mode=self.mode)
