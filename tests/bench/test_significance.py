"""Paired tests against scipy, Holm and letters against hand-computed and brute-force answers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test, ttest_rel

from bench.significance import (
    Comparison,
    compare_means,
    compare_replicates,
    holm,
    letters,
    smallest_p,
)


def names(count: int, each: int = 1) -> list[str]:
    return [f"s{i}" for i in range(count) for _ in range(each)]


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_sign_flips_by_hand():
    found = compare_means({0: np.array([2.0, 2.0, 2.0]), 1: np.array([1.0, 1.0, 1.0])}, names(3))
    assert [(one.difference, one.p) for one in found] == [(1.0, 2 / 8)]
    assert smallest_p({0: np.zeros(3), 1: np.zeros(3)}, names(3)) == 2 / 8


@pytest.mark.parametrize(("sources", "tolerance"), [(9, 1e-12), (40, 0.02)])
def test_sign_flips_against_scipy(sources, tolerance):
    rng = np.random.default_rng(sources)
    a, b = rng.normal(0.25, 1, sources), rng.normal(0, 1, sources)
    expected = permutation_test((a - b,), np.mean, permutation_type="samples", n_resamples=20000, rng=rng).pvalue
    assert compare_means({0: a, 1: b}, names(sources))[0].p == pytest.approx(expected, abs=tolerance)


def test_clips_of_one_source_are_no_more_evidence():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.5, 1, 10), rng.normal(0, 1, 10)
    alone = compare_means({0: a, 1: b}, names(10))[0]
    repeated = compare_means({0: a.repeat(50), 1: b.repeat(50)}, names(10, 50))[0]
    assert repeated.p == alone.p
    assert repeated.difference == pytest.approx(alone.difference)


def test_clips_without_a_value_are_left_out_of_their_pair():
    a, b = np.array([1.0, 2.0, np.nan, 4.0]), np.array([0.5, 1.0, 9.0, 1.0])
    keep = [0, 1, 3]
    whole = compare_means({0: a, 1: b}, names(4))[0]
    kept = compare_means({0: a[keep], 1: b[keep]}, names(3))[0]
    assert (whole.difference, whole.p) == (pytest.approx(kept.difference), kept.p)


def test_equal_methods_do_not_differ():
    values = np.random.default_rng(1).random(30)
    found = compare_means({0: values, 1: values.copy(), 2: values + 1}, names(30))
    assert found[0].p == 1
    assert [one.significant for one in found] == [False, True, True]
    assert letters([2, 0, 1], found) == {2: "a", 0: "b", 1: "b"}


def test_chance_alone_is_called_significant_one_time_in_twenty():
    rng = np.random.default_rng(2)
    hits = [compare_means({0: rng.normal(size=12), 1: rng.normal(size=12)}, names(12))[0].p <= 0.05 for _ in range(400)]
    assert 0.02 < np.mean(hits) < 0.085


def test_the_paired_jackknife_of_means_is_the_paired_t_test():
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.4, 1, 25), rng.normal(0, 1, 25)
    deleted = {row: [np.delete(v, n).mean() for n in range(25)] for row, v in ((0, a), (1, b))}
    for corrected in (False, True):  # a mean has no bias
        found = compare_replicates({0: a.mean(), 1: b.mean()}, deleted, [1] * 25, corrected=corrected)[0]
        assert found.p == pytest.approx(ttest_rel(a, b).pvalue, rel=1e-6)
        assert found.difference == pytest.approx((a - b).mean())


def test_equal_replicates_do_not_differ():
    same = {0: [1.0, 2.0, 3.0], 1: [1.0, 2.0, 3.0]}
    assert compare_replicates({0: 2.0, 1: 2.0}, same, [1, 1, 1], corrected=False)[0].p == 1


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_rows_share_a_letter_exactly_when_they_do_not_differ(data):
    rows = data.draw(st.integers(1, 7))
    pairs = [
        Comparison(a, b, 0.0, p, p)
        for (a, b) in itertools.combinations(range(rows), 2)
        for p in [0.01 if data.draw(st.booleans()) else 0.5]
    ]
    found = letters(data.draw(st.permutations(range(rows))), pairs)
    assert all(found[row] for row in range(rows))
    for pair in pairs:
        assert bool(set(found[pair.first]) & set(found[pair.second])) != pair.significant


def test_the_best_row_has_the_first_letter():
    pairs = [Comparison(0, 1, 0, 0.01, 0.01), Comparison(0, 2, 0, 0.5, 0.5), Comparison(1, 2, 0, 0.5, 0.5)]
    assert letters([1, 2, 0], pairs) == {1: "a", 2: "ab", 0: "b"}
