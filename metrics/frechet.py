"""Frechet distance between two Gaussians fitted to two sets of features.

D. C. Dowson, B. V. Landau: The Frechet distance between multivariate normal distributions. Journal of
Multivariate Analysis 12(3), 1982.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metrics.errors import VideoError

MIN_ROWS = 2
BLOCK = 1024
"""Rows whose decomposition is computed at a time, so that many clips take no more memory than these."""


def frechet_distance(features_a: Any, features_b: Any) -> float:
    """|m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^1/2), with means m and covariances S of the two sets.

    Covariances are unbiased (divided by N - 1). With the centred features X, Y divided by sqrt(N - 1), Tr
    S1 = |X|_F^2, Tr S2 = |Y|_F^2 and Tr (S1 S2)^1/2 is the nuclear norm of X Y^T. No matrix root is taken and
    nothing is added to the covariances, so the value is exact in float64 for any N, below D as well, and
    symmetric in its arguments.

    Args:
        features_a, features_b: `[N, D]` and `[M, D]`, torch or numpy, N and M at least 2.

    Returns:
        The squared distance, never below 0.

    Raises:
        VideoError: not two matrices of equal D, fewer than two rows, NaN or infinite values.
    """
    a, b = feature_matrices(features_a, features_b, ("features_a", "features_b"))
    return distance_of_moments(moments(a), moments(b))


def feature_matrices(first: Any, second: Any, names: tuple[str, str] = ("pred", "target")) -> tuple[Tensor, Tensor]:
    """Two sets of features as `feature_matrix`.

    Raises:
        VideoError: as `feature_matrix`, or the two have different D.
    """
    a, b = feature_matrix(first, names[0]), feature_matrix(second, names[1])
    if a.shape[1] != b.shape[1]:
        raise VideoError(
            f"{names[0]} and {names[1]} must hold the same D features, found D = {a.shape[1]} and {b.shape[1]}"
        )
    return a, b


def feature_matrix(features: Any, name: str = "features") -> Tensor:
    """`features` as a matrix `[N, D]` on the CPU, in float32 or, if they are of any other type, in float64.

    Float32 features of many clips are not copied: what is computed from them turns some rows at a time into float64.

    Raises:
        VideoError: not a matrix, fewer than two rows, NaN or infinite values.
    """
    matrix = torch.as_tensor(features).detach().cpu()
    if matrix.dtype != torch.float32:
        matrix = matrix.double()
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise VideoError(f"{name}: expected [N, D], found {list(matrix.shape)}")
    if len(matrix) < MIN_ROWS:
        raise VideoError(
            f"{name}: expected at least {MIN_ROWS} rows, found {len(matrix)}. One clip has no covariance: "
            "a distance between sets needs sets."
        )
    broken = (~torch.isfinite(matrix)).any(1).nonzero().flatten().tolist()
    if broken:
        raise VideoError(f"{name}: rows {broken[:5]} hold NaN or infinite values")
    return matrix


def moments(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The mean `[D]` and a factor R `[min(N, D), D]` with R^T R the unbiased covariance, in float64."""
    blocks, scale = matrix.split(BLOCK), (len(matrix) - 1) ** 0.5
    total = matrix.new_zeros(matrix.shape[1], dtype=torch.float64)
    for rows in blocks:
        total += rows.double().sum(0)
    mean = total / len(matrix)
    if matrix.shape[0] <= matrix.shape[1]:
        return mean, (matrix.double() - mean) / scale
    factor = total.new_empty(0, matrix.shape[1])
    for rows in blocks:
        # R of the rows so far, stacked on further rows, has the same R^T R: same singular values, fewer rows.
        factor = torch.linalg.qr(torch.cat([factor, (rows.double() - mean) / scale]), mode="r").R
    return mean, factor


def distance_of_moments(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> float:
    """Frechet distance of two results of `moments`."""
    (mean_a, factor_a), (mean_b, factor_b) = a, b
    cross = torch.linalg.svdvals(factor_a @ factor_b.T).sum()
    value = (mean_a - mean_b).square().sum() + factor_a.square().sum() + factor_b.square().sum() - 2 * cross
    return max(float(value), 0.0)  # equal sets can round to -1e-13
