"""The Frechet distance against closed forms, scipy's matrix root and TF-GAN's formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from metrics import frechet_distance
from metrics.errors import VideoError

Array = NDArray[np.float64]


def correlated(seed: int, count: int, dimensions: int, shift: float = 0.0) -> Array:
    """Rows with a decaying spectrum, like network features."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((dimensions, dimensions)) / np.arange(1, dimensions + 1)
    return rng.standard_normal((count, dimensions)) @ mix.T + shift


def tf_gan_formula(a: Array, b: Array) -> float:
    """TF-GAN's distance, transcribed: both roots by SVD, singular values below 1e-10 left as they are."""

    def root(matrix: Array) -> Array:
        u, s, vh = np.linalg.svd(matrix)
        return u @ np.diag(np.where(s < 1e-10, s, np.sqrt(s))) @ vh

    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root_a = root(cov_a)
    trace = np.trace(root(root_a @ cov_b @ root_a))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * trace)


def with_covariance(variances: Array, mean: Array) -> Array:
    """2 D rows with exactly this mean and diag(variances) as unbiased covariance."""
    count = 2 * len(variances)
    spread = np.diag(np.sqrt(variances * (count - 1) / 2))
    return np.concatenate([spread, -spread]) + mean


def test_by_hand_in_one_dimension() -> None:
    """Means 1 and 3, variances 2 and 8: 4 + (sqrt 2 - sqrt 8)^2 = 6."""
    assert frechet_distance(np.array([[0.0], [2.0]]), np.array([[1.0], [5.0]])) == pytest.approx(6, abs=1e-12)


def test_closed_form_of_diagonal_gaussians() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.uniform(0.1, 3, (2, 12))
    means = rng.standard_normal((2, 12))
    expected = ((means[0] - means[1]) ** 2).sum() + ((np.sqrt(first) - np.sqrt(second)) ** 2).sum()
    found = frechet_distance(with_covariance(first, means[0]), with_covariance(second, means[1]))
    assert found == pytest.approx(expected, rel=1e-12)


def test_rank_one_sets_by_hand() -> None:
    """Two points each, along x and along y: the covariances commute with product zero."""
    along_x, along_y = np.array([[1.0, 0], [-1, 0]]), np.array([[0, 3.0], [0, -3]])
    assert frechet_distance(along_x, along_y) == pytest.approx(2 + 18, abs=1e-12)


@pytest.mark.parametrize(("n", "m", "d"), [(300, 300, 20), (500, 200, 40)])
def test_equals_scipys_matrix_root_when_covariances_have_full_rank(n: int, m: int, d: int) -> None:
    from scipy.linalg import sqrtm

    a, b = correlated(1, n, d), correlated(2, m, d, 0.3)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * np.real(sqrtm(cov_a @ cov_b)))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "m", "d"), [(20, 20, 60), (12, 33, 50), (90, 20, 60), (64, 64, 400)])
def test_equals_the_formula_of_tf_gan_below_full_rank(n: int, m: int, d: int) -> None:
    a, b = correlated(3, n, d), correlated(4, m, d, 0.2)
    assert frechet_distance(a, b) == pytest.approx(tf_gan_formula(a, b), rel=1e-9)


@pytest.mark.parametrize("n", [5, 30, 200])
def test_equal_sets_are_at_distance_zero(n: int) -> None:
    a = correlated(5, n, 30)
    assert 0 <= frechet_distance(a, a) < 1e-12 * np.trace(np.cov(a, rowvar=False))
    assert frechet_distance(a, a[::-1].copy()) < 1e-12 * np.trace(np.cov(a, rowvar=False))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 25), st.integers(0, 10**6))
def test_properties_of_a_squared_distance(n: int, m: int, d: int, seed: int) -> None:
    a, b = correlated(seed, n, d), correlated(seed + 1, m, d)
    value = frechet_distance(a, b)
    scale = value + float(np.var(a, 0).sum() + np.var(b, 0).sum())
    assert value >= 0
    assert frechet_distance(b, a) == pytest.approx(value, abs=1e-11 * scale)
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
    shift = rng.standard_normal(d)
    assert frechet_distance(a @ rotation + shift, b @ rotation + shift) == pytest.approx(value, abs=1e-9 * scale)
    assert frechet_distance(2 * a, 2 * b) == pytest.approx(4 * value, abs=1e-11 * scale)
    moved = a + np.eye(d)[0] * 3
    assert frechet_distance(a, moved) == pytest.approx(9, abs=1e-9 * (scale + 9))


def test_blocks_of_rows_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = correlated(11, 50, 6), correlated(12, 31, 6, 0.5)
    whole = frechet_distance(a, b)
    monkeypatch.setattr("metrics.frechet.BLOCK", 7)
    assert frechet_distance(a, b) == pytest.approx(whole, rel=1e-12)
    monkeypatch.setattr("metrics.frechet.BLOCK", 4)  # fewer rows than dimensions
    assert frechet_distance(a, b) == pytest.approx(whole, rel=1e-12)


def test_torch_and_numpy_in_any_precision_are_taken() -> None:
    a, b = correlated(6, 40, 10).astype(np.float32), correlated(7, 30, 10, 1).astype(np.float32)
    expected = frechet_distance(a.astype(np.float64), b.astype(np.float64))
    assert frechet_distance(a, b) == expected
    assert frechet_distance(torch.from_numpy(a), torch.from_numpy(b).requires_grad_()) == expected


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((1, 4)), np.zeros((3, 4)), "features_a: expected at least 2 rows, found 1"),
        (np.zeros((3, 4)), np.zeros((0, 4)), "features_b: expected at least 2 rows, found 0"),
        (np.zeros((3, 4)), np.zeros((3, 5)), "same D features, found D = 4 and 5"),
        (np.zeros(4), np.zeros((3, 4)), r"expected \[N, D\], found \[4\]"),
        (np.zeros((3, 0)), np.zeros((3, 0)), r"expected \[N, D\], found \[3, 0\]"),
        (np.array([[1.0], [np.nan]]), np.zeros((3, 1)), r"rows \[1\] hold NaN"),
        (np.array([[np.inf], [0.0]]), np.zeros((3, 1)), r"rows \[0\] hold NaN or infinite"),
    ],
)
def test_bad_features_are_refused(a: Array, b: Array, message: str) -> None:
    with pytest.raises(VideoError, match=message):
        frechet_distance(a, b)
