"""The group jackknife against textbook formulas, and against the sampling distribution it estimates."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from metrics.errors import VideoError
from metrics.fvd import BiasWarning, fvd_from_features
from metrics.jackknife import Indices, assign_groups, combined, delete_group, jackknife

Array = NDArray[np.float64]


def of_pair(x: Array, y: Array, function: Callable[[Array, Array], float]) -> Callable[[Indices, Indices], float]:
    return lambda out_x, out_y: function(np.delete(x, out_x, 0), np.delete(y, out_y, 0))


def test_mean_has_its_classical_standard_error() -> None:
    x = np.random.default_rng(0).standard_normal(31)
    found = jackknife(of_pair(x, x, lambda a, b: float(a.mean())), float(x.mean()), 31, 31, groups=31)
    assert found.groups == 31
    assert found.standard_error == pytest.approx(x.std(ddof=1) / math.sqrt(31), rel=1e-12)
    assert found.bias_corrected == pytest.approx(x.mean(), rel=1e-12)


def test_groups_of_five_give_the_error_of_the_group_means() -> None:
    x = np.random.default_rng(1).standard_normal(100)
    found = jackknife(of_pair(x, x, lambda a, b: float(a.mean())), float(x.mean()), 100, 100, groups=20)
    means = x.reshape(20, 5).mean(1)
    assert found.standard_error == pytest.approx(means.std(ddof=1) / math.sqrt(20), rel=1e-12)


def test_bias_of_the_plug_in_variance_is_removed_exactly() -> None:
    x = np.random.default_rng(2).standard_normal(17)
    found = jackknife(of_pair(x, x, lambda a, b: float(a.var())), float(x.var()), 17, 17, groups=17)
    assert found.bias_corrected == pytest.approx(x.var(ddof=1), rel=1e-12)


def test_delete_one_equals_the_textbook() -> None:
    """Tukey: bias (n - 1)(mean of the left-out values - value), variance (n - 1)/n times their squared deviations."""
    x = np.random.default_rng(3).exponential(size=24)

    def statistic(a: Array) -> float:
        return float(np.log(a.mean()) ** 2)

    left_out = np.array([statistic(np.delete(x, i)) for i in range(24)])
    found = delete_group(statistic(x), list(left_out), [1] * 24)
    assert found.bias_corrected == pytest.approx(statistic(x) - 23 * (left_out.mean() - statistic(x)), rel=1e-12)
    assert found.standard_error == pytest.approx(
        math.sqrt(23 / 24 * ((left_out - left_out.mean()) ** 2).sum()), rel=1e-12
    )


def test_unequal_groups_equal_the_formulas_of_busing_et_al() -> None:
    x = np.random.default_rng(4).standard_normal(23)
    parts = [np.arange(0, 3), np.arange(3, 12), np.arange(12, 13), np.arange(13, 23)]
    value = float(x.var())
    left_out = [float(np.delete(x, part).var()) for part in parts]
    found = delete_group(value, left_out, [len(part) for part in parts])
    n, g = 23, 4
    corrected = g * value - sum((1 - len(p) / n) * v for p, v in zip(parts, left_out, strict=True))
    variance = 0.0
    for part, left in zip(parts, left_out, strict=True):
        h = n / len(part)
        variance += (h * value - (h - 1) * left - corrected) ** 2 / (h - 1)
    assert found.bias_corrected == pytest.approx(corrected, rel=1e-12)
    assert found.standard_error == pytest.approx(math.sqrt(variance / g), rel=1e-12)


def test_unequal_sets_are_two_independent_samples() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal(15), rng.standard_normal(40)
    value = float(x.mean() - y.mean())
    found = jackknife(of_pair(x, y, lambda a, b: float(a.mean() - b.mean())), value, 15, 40, groups=40)
    assert found.standard_error == pytest.approx(math.sqrt(x.var(ddof=1) / 15 + y.var(ddof=1) / 40), rel=1e-12)
    assert found.groups == 15

    value = float(x.var() + y.var())
    found = jackknife(of_pair(x, y, lambda a, b: float(a.var() + b.var())), value, 15, 40, groups=40)
    assert found.bias_corrected == pytest.approx(x.var(ddof=1) + y.var(ddof=1), rel=1e-12), "biases add"


def test_pairs_leave_together() -> None:
    """The mean difference of strongly correlated pairs: far smaller an error than of independent samples."""
    rng = np.random.default_rng(6)
    x = rng.standard_normal(50) * 10
    y = x + rng.standard_normal(50)
    statistic = of_pair(x, y, lambda a, b: float(a.mean() - b.mean()))
    found = jackknife(statistic, float(x.mean() - y.mean()), 50, 50, groups=50)
    assert found.standard_error == pytest.approx((x - y).std(ddof=1) / math.sqrt(50), rel=1e-10)


def test_clips_of_one_source_leave_together() -> None:
    """Four copies of each of 25 values: the error is that of 25 values."""
    distinct = np.random.default_rng(7).standard_normal(25)
    x = np.repeat(distinct, 4)
    names = [f"video{i}" for i in range(25) for _ in range(4)]
    statistic = of_pair(x, x, lambda a, b: float(a.mean()))
    found = jackknife(statistic, float(x.mean()), 100, 100, groups=25, clusters=names)
    assert found.standard_error == pytest.approx(distinct.std(ddof=1) / 5, rel=1e-12)


@pytest.mark.parametrize(("n", "m", "groups"), [(2, 2, 20), (2, 9, 20), (50, 50, 2), (9, 2, 20)])
def test_fewer_than_three_groups_give_no_error(n: int, m: int, groups: int) -> None:
    found = jackknife(lambda a, b: 1.0, 1.0, n, m, groups=groups)
    assert math.isnan(found.standard_error)
    assert math.isnan(found.bias_corrected)
    assert found.groups == 0


def test_two_sources_are_too_few() -> None:
    found = jackknife(lambda a, b: 1.0, 1.0, 6, 6, clusters=["a", "a", "a", "b", "b", "b"])
    assert found.groups == 0
    assert combined(1.0, found, found).groups == 0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 200), st.integers(1, 30))
def test_groups_split_the_clips_evenly(count: int, groups: int) -> None:
    parts = assign_groups(count, groups)
    assert len(parts) == min(count, groups)
    assert np.concatenate(parts).tolist() == list(range(count)), "runs of neighbours, in order"
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=80), st.integers(1, 25))
def test_sources_stay_whole_in_balanced_groups(names: list[str], groups: int) -> None:
    parts = assign_groups(len(names), groups, names)
    assert len(parts) == min(groups, len(set(names)))
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(names)))
    homes = {name: {j for j, part in enumerate(parts) if name in {names[i] for i in part}} for name in names}
    assert all(len(home) == 1 for home in homes.values())
    largest_source = max(names.count(name) for name in names)
    assert max(map(len, parts)) - min(map(len, parts)) <= largest_source
    assert [part.tolist() for part in assign_groups(len(names), groups, names)] == [part.tolist() for part in parts]


def test_clusters_that_do_not_fit_are_refused() -> None:
    with pytest.raises(VideoError, match="expected 3 names, found 2"):
        assign_groups(3, 20, ["a", "b"])
    with pytest.raises(VideoError, match="two sets of equal size"):
        jackknife(lambda a, b: 0.0, 0.0, 3, 4, clusters=["a", "b", "c"])
    with pytest.raises(VideoError, match="at least one jackknife group"):
        assign_groups(3, 0)


def sampled_scores(n: int, m: int, repeats: int) -> tuple[Array, Array, Array, float]:
    """Values, standard errors and corrected values of FVD of Gaussian samples, and the distance of the Gaussians."""
    d = 6
    rng = np.random.default_rng(8)
    spread_x, spread_y = np.linspace(0.5, 2, d), np.linspace(1.5, 0.7, d)
    shift = 0.3
    truth = d * shift**2 + ((spread_x - spread_y) ** 2).sum()
    scores = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BiasWarning)
        for _ in range(repeats):
            x, y = rng.standard_normal((n, d)) * spread_x, rng.standard_normal((m, d)) * spread_y + shift
            scores.append(fvd_from_features(torch.from_numpy(x), torch.from_numpy(y)))
    values, errors, corrected = (
        np.array([getattr(s, name) for s in scores]) for name in ("value", "standard_error", "bias_corrected")
    )
    return values, errors, corrected, truth


@pytest.mark.parametrize(("n", "m"), [(60, 60), pytest.param(60, 110, marks=pytest.mark.slow)])
def test_error_and_bias_of_the_distance_agree_with_repeated_sampling(n: int, m: int) -> None:
    """Means over 150 samples, so chance moves them by a few per cent; the seed is fixed."""
    values, errors, corrected, truth = sampled_scores(n, m, 150)
    assert 0.85 < errors.mean() / values.std(ddof=1) < 1.2
    bias = values.mean() - truth
    assert bias > 0.05 * truth, "the regime must have a bias to correct"
    assert abs(corrected.mean() - truth) < bias / 4
