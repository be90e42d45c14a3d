import numpy as np
import pytest
from scipy.stats import t

from bench.statistics import jackknife_interval, mean_interval, over_samples


def test_the_mean_weighs_clips_not_sources():
    found = mean_interval(np.array([1.0, 2, 3, 10]), ["a", "a", "a", "b"])
    assert found.value == 4
    assert found.low <= 4 <= found.high


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    covered, repeats = 0, 200
    for _ in range(repeats):
        effects = random.normal(size=12)
        values = np.repeat(effects, 5) + 0.1 * random.normal(size=60)
        found = mean_interval(values, np.repeat(np.arange(12), 5).astype(str).tolist())
        covered += found.low <= 0 <= found.high
    assert 0.86 <= covered / repeats <= 0.98  # nominal .95; BCa with 12 sources falls somewhat short


def test_clips_of_one_source_do_not_count_as_independent():
    random = np.random.default_rng(1)
    values = np.repeat(random.normal(size=8), 10)
    together = mean_interval(values, np.repeat(np.arange(8), 10).astype(str).tolist())
    apart = mean_interval(values, np.arange(80).astype(str).tolist())
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_one_source_has_no_interval_and_equal_values_have_none_either():
    alone = mean_interval(np.array([1.0, 2]), ["a", "a"])
    assert alone.value == 1.5
    assert np.isnan([alone.low, alone.high]).all()
    equal = mean_interval(np.array([2.0, 2, 2]), ["a", "b", "c"])
    assert (equal.low, equal.value, equal.high) == (2, 2, 2)


def test_the_interval_does_not_depend_on_the_order_of_clips():
    values, sources = np.arange(12.0) ** 2, list("aabbccddeeff")
    order = np.random.default_rng(2).permutation(12)
    again = mean_interval(values[order], [sources[i] for i in order])
    first = mean_interval(values, sources)
    assert (again.low, again.high) == pytest.approx((first.low, first.high))


def test_jackknife_interval_is_students():
    found = jackknife_interval(10, 2, 8)
    assert found.high - 10 == pytest.approx(2 * t.ppf(0.975, 7))
    assert np.isnan(jackknife_interval(10, float("nan"), 0).low)


@pytest.mark.parametrize(
    ("higher", "best", "expected"), [(True, True, [3, 6]), (False, True, [1, 4]), (True, False, [2, 5])]
)
def test_the_best_sample_follows_the_metrics_direction(higher, best, expected):
    values = np.array([[1.0, 3, 2], [4, 6, 5]])
    assert over_samples(values, higher, best).tolist() == expected
