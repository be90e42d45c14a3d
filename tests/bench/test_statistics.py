import numpy as np
import pytest
from scipy.stats import t

from bench.statistics import MIN_SOURCES, RESAMPLES, jackknife_interval, mean_interval, over_samples


def test_the_mean_weighs_clips_not_sources():
    found = mean_interval(np.array([1.0, 2, 3, 10, 2, 5, 1, 8, 4]), list("aaabcdefg"))
    assert found.value == 4
    assert found.low <= found.value <= found.high


def test_limits_by_hand():
    """One resample at a time, in plain words, against the matrices of the program."""
    sums, counts = np.array([3.0, 1, 4, 1, 5, 9]), np.array([2.0, 1, 3, 1, 2, 2])
    names = np.repeat(list("abcdef"), counts.astype(int)).tolist()
    found = mean_interval(np.repeat(sums / counts, counts.astype(int)), names)

    def of(s, c):
        mean = s.sum() / c.sum()
        return mean, np.sqrt(((s - mean * c) ** 2).sum()) / c.sum()

    mean, error = of(sums, counts)
    ratios = []
    for chosen in np.random.default_rng(0).integers(0, 6, (RESAMPLES, 6)):
        again, spread = of(sums[chosen], counts[chosen])
        ratios.append((again - mean) / spread if spread > 1e-9 else np.copysign(np.inf, again - mean))
    ratios.sort()
    assert (found.low, found.high) == pytest.approx((mean - ratios[9749] * error, mean - ratios[249] * error))


def test_many_sources_are_resampled_in_parts(monkeypatch):
    values, names = np.random.default_rng(3).random(40), [f"{n:02d}" for n in range(40)]
    whole = mean_interval(values, names)
    monkeypatch.setattr("bench.statistics._BLOCK", 40 * 1000)
    assert mean_interval(values, names) == whole


def test_skewed_values_have_a_longer_side():
    found = mean_interval(np.random.default_rng(4).exponential(size=20), [str(n) for n in range(20)])
    assert found.high - found.value > 1.3 * (found.value - found.low)


def test_clips_of_one_source_do_not_count_as_independent():
    random = np.random.default_rng(1)
    values = np.repeat(random.normal(size=8), 10)
    together = mean_interval(values, np.repeat(np.arange(8), 10).astype(str).tolist())
    apart = mean_interval(values, np.arange(80).astype(str).tolist())
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_few_sources_have_no_interval_and_equal_values_one_of_no_length():
    alone = mean_interval(np.array([1.0, 2]), ["a", "a"])
    assert alone.value == 1.5
    assert np.isnan([alone.low, alone.high]).all()
    for sources in (MIN_SOURCES - 1, MIN_SOURCES):
        found = mean_interval(np.arange(1.0, sources + 1), [str(n) for n in range(sources)])
        assert np.isnan([found.low, found.high]).all() == (sources < MIN_SOURCES)
    equal = mean_interval(np.array([2.0, 2, 2]), ["a", "b", "c"])
    assert (equal.low, equal.value, equal.high) == (2, 2, 2)


def test_one_source_that_differs_from_all_others_gives_no_interval():
    """A third of the resamples lack it, and know of no difference: one end would be infinite."""
    found = mean_interval(np.array([1.0] + [0.0] * 49), [str(n) for n in range(50)])
    assert found.value == 0.02
    assert np.isnan([found.low, found.high]).all()


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
