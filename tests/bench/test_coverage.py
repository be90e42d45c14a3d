"""Whether intervals hold the truth as often as they say, and tests err as seldom as they say: by simulation.

Each check repeats an experiment whose truth is known. A share p of R repetitions has the standard error
sqrt(p (1 - p) / R); what is allowed is MARGIN, two points, and two such errors on top.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import t

from bench.figures.curves import expected_best
from bench.significance import compare_means, compare_replicates, sign_flips
from bench.statistics import FEW_SOURCES, MIN_SOURCES, jackknife_interval, mean_interval, mean_limits, over_samples
from metrics.frechet import frechet_distance
from metrics.fvd import fvd_from_features
from metrics.jackknife import GROUPS, assign_groups
from metrics.kvd import kvd_from_features

MARGIN = 0.02
MOST_CLIPS = 8
CENTRED = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "skewed": lambda rng, shape: rng.exponential(size=shape) - 1,
    "heavy-tailed": lambda rng, shape: rng.standard_t(5, size=shape),
    "bounded": lambda rng, shape: rng.beta(8, 2, size=shape) - 0.8,
    "log-normal": lambda rng, shape: rng.lognormal(size=shape) - math.exp(0.5),
}
"""Values of mean 0."""
KINDS = ("normal", "skewed", "heavy-tailed", "bounded")
SIZES = (10, 30, 130)


def allowed(rate: float, repeats: int) -> float:
    return MARGIN + 2 * math.sqrt(rate * (1 - rate) / repeats)


def experiments(kind, sources, clustered, repeats, seed=0):
    """Sums and counts of sources, [repeats, sources], of clips whose values have mean 0.

    Clustered: 1 to 8 clips from a source, which share four fifths of their variance. Otherwise each clip is a source.
    """
    rng = np.random.default_rng([seed, sources, len(kind)])
    draw = partial(CENTRED[kind], rng)
    if not clustered:
        return draw((repeats, sources)), np.ones((repeats, sources))
    counts = rng.integers(1, MOST_CLIPS + 1, (repeats, sources))
    there = np.arange(MOST_CLIPS) < counts[..., None]
    values = draw((repeats, sources))[..., None] + 0.5 * draw((repeats, sources, MOST_CLIPS))
    return (values * there).sum(2), counts.astype(float)


def coverage(kind, sources, clustered, repeats):
    """How often the interval of the mean holds 0."""
    sums, counts = experiments(kind, sources, clustered, repeats)
    held = 0
    for start in range(0, repeats, 250):
        low, high = mean_limits(sums[start : start + 250], counts[start : start + 250])
        held += int(((low <= 0) & (high >= 0)).sum())
    return held / repeats


# Means over clips


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("clustered", [False, True])
def test_an_interval_of_a_mean_from_few_sources_holds_it(kind, clustered):
    assert coverage(kind, FEW_SOURCES, clustered, 250) == pytest.approx(0.95, abs=allowed(0.95, 250))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sources", SIZES)
@pytest.mark.parametrize("clustered", [False, True])
def test_an_interval_of_a_mean_holds_it_as_often_as_it_says(kind, sources, clustered):
    assert coverage(kind, sources, clustered, 1500) == pytest.approx(0.95, abs=allowed(0.95, 1500))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "sources", "least", "most"), [
    ("skewed", MIN_SOURCES, 0.90, 0.96),
    ("normal", MIN_SOURCES, 0.92, 0.97),
    ("log-normal", 30, 0.88, 0.94),
])  # fmt: skip
def test_where_it_holds_it_less_often_it_is_as_documented(kind, sources, least, most):
    assert least <= coverage(kind, sources, True, 1500) <= most


def test_clips_taken_for_sources_would_be_found_out():
    """The check can fail: five clips from each source, counted as if each were a source of its own."""
    rng = np.random.default_rng(5)
    values = np.repeat(rng.normal(size=(250, 10)), 5, axis=1)
    low, high = mean_limits(values, np.ones_like(values))
    assert ((low <= 0) & (high >= 0)).mean() < 0.8


def test_many_data_sets_at_once_have_the_limits_of_each():
    sums, counts = experiments("skewed", 12, True, 3)
    low, high = mean_limits(sums, counts)
    for row in range(3):
        names = np.repeat(np.arange(12), counts[row].astype(int))
        values = (sums[row] / counts[row])[names]
        found = mean_interval(values, [f"{name:02d}" for name in names])
        assert (found.low, found.high) == pytest.approx((low[row], high[row]))


# Distances of sets


def paired_sets(rng, clips, each, dimensions, shift=0.5):
    """Features of predictions and of the truth, of the same clips, `each` from one source; Gaussian.

    The truth is N(0, I). Predictions follow it clip by clip, with another mean and other scales.
    """

    def noise():
        return np.sqrt(0.5) * (rng.normal(size=(clips // each, dimensions)).repeat(each, 0) + rng.normal(size=size))

    size = (clips, dimensions)
    target = noise()
    mean, scale = gaussian(dimensions, shift)
    return mean + scale * (0.8 * target + 0.6 * noise()), target


def gaussian(dimensions, shift=0.5):
    """Mean and scales of the predictions."""
    return np.full(dimensions, shift / math.sqrt(dimensions)), np.linspace(1.2, 1.8, dimensions)


def true_fvd(dimensions):
    mean, scale = gaussian(dimensions)
    return (mean**2).sum() + ((scale - 1) ** 2).sum()


def true_kvd(dimensions):
    """MMD^2 of the two Gaussians under (x.y / d + 1)^3, from their first three moments."""
    mean, scale = gaussian(dimensions)
    pred, target = moments_of(mean, scale), moments_of(0 * mean, np.ones(dimensions))

    def kernel(a, b):
        return sum(
            c * float((one * two).sum()) / dimensions**k
            for k, c, one, two in zip((1, 2, 3), (3, 3, 1), a, b, strict=True)
        )

    return kernel(pred, pred) + kernel(target, target) - 2 * kernel(pred, target)


def moments_of(mean, scale):
    """E x, E x x, E x x x of independent normal coordinates."""
    spread = np.diag(scale**2)
    third = np.einsum("i,j,k->ijk", mean, mean, mean)
    for axes in ("ij,k->ijk", "ik,j->ijk", "jk,i->ijk"):
        third = third + np.einsum(axes, spread, mean)
    return mean, spread + np.outer(mean, mean), third


def set_scores(measure, clips, each, dimensions, repeats, seed=0):
    """Value, bias-corrected value and half the interval, [repeats, 3]."""
    rng = np.random.default_rng([seed, clips, dimensions])
    sources = [str(clip // each) for clip in range(clips)]
    found = []
    for _ in range(repeats):
        pred, target = map(torch.from_numpy, paired_sets(rng, clips, each, dimensions))
        score = measure(pred, target, clusters=sources)
        interval = jackknife_interval(score.value, score.standard_error, score.groups)
        found.append((score.value, score.bias_corrected, interval.high - interval.value))
    return np.array(found)


def held(centres, halves, truth):
    return float((np.abs(centres - truth) <= halves).mean())


@pytest.mark.filterwarnings("ignore::metrics.fvd.BiasWarning")
def test_intervals_of_fvd_hold_its_mean_at_this_count_and_its_limit():
    value, corrected, half = set_scores(fvd_from_features, 60, 2, 4, 80).T
    assert held(value, half, value.mean()) >= 0.95 - allowed(0.95, 80)
    assert held(corrected, half, true_fvd(4)) >= 0.95 - allowed(0.95, 80)
    assert value.mean() > true_fvd(4) + 5 * value.std() / math.sqrt(80)  # the bias is there


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::metrics.fvd.BiasWarning")
@pytest.mark.parametrize(("clips", "each", "dimensions"), [(60, 2, 4), (130, 1, 16), (260, 2, 16)])
def test_coverage_of_fvd(clips, each, dimensions):
    """The mean at this count is that of the repetitions; its own error is a twentieth of a standard error."""
    value, corrected, half = set_scores(fvd_from_features, clips, each, dimensions, 400).T
    truth = true_fvd(dimensions)
    assert held(value, half, value.mean()) == pytest.approx(0.95, abs=allowed(0.95, 400))
    assert held(corrected, half, truth) == pytest.approx(0.95, abs=allowed(0.95, 400))
    if dimensions == 16:  # there the bias is larger than the interval
        assert held(value, half, truth) < 0.85


@pytest.mark.slow
@pytest.mark.parametrize(("clips", "each"), [(130, 1), (260, 2)])
def test_coverage_of_kvd(clips, each):
    value, corrected, half = set_scores(kvd_from_features, clips, each, 16, 400).T
    truth = true_kvd(16)
    assert held(value, half, value.mean()) == pytest.approx(0.95, abs=allowed(0.95, 400))
    assert held(corrected, half, truth) == pytest.approx(0.95, abs=allowed(0.95, 400))
    assert value.mean() < truth  # predictions of the same clips are no independent set: the estimate is biased
    assert held(value, half, truth) < 0.8


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::metrics.fvd.BiasWarning")
def test_between_two_sets_of_one_distribution_the_interval_is_too_wide():
    rng = np.random.default_rng(9)
    scores = [fvd_from_features(*torch.from_numpy(rng.normal(size=(2, 60, 4)))) for _ in range(200)]
    corrected = np.array([score.bias_corrected for score in scores])
    halves = np.array([jackknife_interval(0.0, score.standard_error, score.groups).high for score in scores])
    assert held(corrected, halves, 0.0) > 0.97


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::metrics.fvd.BiasWarning")
def test_with_fewer_clips_than_dimensions_the_corrected_fvd_is_nearer_and_still_off():
    value, corrected, half = set_scores(fvd_from_features, 60, 1, 100, 150).T
    truth = true_fvd(100)
    assert held(value, half, value.mean()) >= 0.95 - allowed(0.95, 150)
    assert abs(corrected.mean() - truth) < 0.8 * abs(value.mean() - truth)
    assert held(corrected, half, truth) < 0.5


# Tests of differences


def rejected(chances, level=0.05):
    return float((np.array(chances) <= level).mean())


@pytest.mark.parametrize("sources", [10, 30])
@pytest.mark.parametrize("kind", KINDS)
def test_equal_methods_are_told_apart_one_time_in_twenty(kind, sources):
    first, _ = experiments(kind, sources, True, 400, seed=1)
    second, _ = experiments(kind, sources, True, 400, seed=2)
    assert rejected(sign_flips(first - second, 0)) == pytest.approx(0.05, abs=allowed(0.05, 400))


@pytest.mark.slow
@pytest.mark.parametrize("sources", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_size_of_the_test_of_means(kind, sources):
    first, _ = experiments(kind, sources, True, 2000, seed=1)
    second, _ = experiments(kind, sources, True, 2000, seed=2)
    assert rejected(sign_flips(first - second, 0)) == pytest.approx(0.05, abs=allowed(0.05, 2000))


@pytest.mark.slow
@pytest.mark.parametrize(("sources", "least", "most"), [(10, 0.08, 0.12), (30, 0.055, 0.09), (130, 0.04, 0.07)])
def test_skewed_differences_are_found_too_often_as_documented(sources, least, most):
    differences, _ = experiments("skewed", sources, False, 3000)
    assert least <= rejected(sign_flips(differences, 0)) <= most


def families(repeats, sources, effect=0.0, seed=0):
    """Whether any of six methods, five of them equal, was told from another that is its equal; and from the sixth."""
    rng = np.random.default_rng([seed, sources])
    wrong, right = [], []
    names = [str(source) for source in range(sources) for _ in range(2)]
    for _ in range(repeats):
        common = rng.exponential(size=sources).repeat(2)
        rows = {row: common + rng.normal(size=2 * sources) + effect * (row == 5) for row in range(6)}
        found = compare_means(rows, names)
        wrong.append(any(pair.significant for pair in found if 5 not in (pair.first, pair.second)))
        right.append(np.mean([pair.significant for pair in found if 5 in (pair.first, pair.second)]))
        if not effect:
            wrong[-1] = any(pair.significant for pair in found)
    return float(np.mean(wrong)), float(np.mean(right))


def test_of_six_equal_methods_any_two_are_told_apart_one_time_in_twenty_at_most():
    assert families(150, 12)[0] <= 0.05 + allowed(0.05, 150)


@pytest.mark.slow
@pytest.mark.parametrize("effect", [0.0, 1.0])
@pytest.mark.parametrize("sources", [12, 30])
def test_the_familywise_error_with_holms_correction(sources, effect):
    assert families(600, sources, effect)[0] <= 0.05 + allowed(0.05, 600)


def test_larger_effects_are_found_more_often():
    power = [families(40, 30, effect)[1] for effect in (0.25, 0.75, 1.25)]
    assert power[0] < power[1] < power[2]
    assert power[0] < 0.3
    assert power[2] > 0.9


def set_tests(repeats, clips, effect=0.0, dimensions=4, seed=0):
    """p of the difference in FVD of two methods, the second of which is worse by `effect` in its mean."""
    rng = np.random.default_rng([seed, clips])
    groups = assign_groups(clips, GROUPS, [str(clip // 2) for clip in range(clips)])
    chances = []
    for _ in range(repeats):
        first, target = paired_sets(rng, clips, 2, dimensions)
        second = gaussian(dimensions)[0] + effect + (first - gaussian(dimensions)[0])
        own = rng.normal(size=first.shape), rng.normal(size=first.shape)
        values, deleted = {}, {}
        for row, pred in enumerate((first + 0.5 * own[0], second + 0.5 * own[1])):
            values[row] = frechet_distance(pred, target)
            deleted[row] = [frechet_distance(np.delete(pred, g, 0), np.delete(target, g, 0)) for g in groups]
        found = compare_replicates(values, deleted, [len(group) for group in groups], corrected=False)
        chances.append(found[0].p)
    return chances


def test_methods_of_one_fvd_are_seldom_told_apart():
    assert rejected(set_tests(60, 80)) <= 0.05 + allowed(0.05, 60)


@pytest.mark.slow
def test_the_size_and_power_of_the_test_of_fvd():
    assert rejected(set_tests(500, 80)) == pytest.approx(0.05, abs=allowed(0.05, 500))
    power = [rejected(set_tests(40, 80, effect)) for effect in (0.1, 0.6)]
    assert power[0] < power[1]
    assert power[1] > 0.9


def test_students_limits_of_a_mean_are_those_of_its_jackknife():
    """The group jackknife of a mean of 20 values is the usual interval, so its coverage is exact for normal values."""
    values = np.random.default_rng(6).normal(size=20)
    error = values.std(ddof=1) / math.sqrt(20)
    found = jackknife_interval(float(values.mean()), error, 20)
    assert (found.low, found.high) == pytest.approx(t.interval(0.95, 19, values.mean(), error))


# Best of K


def test_the_best_of_k_is_on_average_its_closed_form():
    """Of K uniform values the largest is K / (K + 1) on average, and the smallest 1 / (K + 1)."""
    values = np.random.default_rng(7).random((40_000, 10))
    for k in (1, 2, 5, 10):
        error = 3 * math.sqrt(k / (k + 1) ** 2 / (k + 2) / len(values))
        assert over_samples(values[:, :k], True, True).mean() == pytest.approx(k / (k + 1), abs=error)
        assert over_samples(values[:, :k], False, True).mean() == pytest.approx(1 / (k + 1), abs=error)


def test_the_curve_of_the_best_of_k_is_on_average_its_closed_form_at_each_k():
    """From 10 draws, as the figure makes it: no bias at any k."""
    values = np.random.default_rng(8).random((40_000, 10))
    k = np.arange(1, 11)
    error = 3 * np.sqrt(k / (k + 1) ** 2 / (k + 2) / len(values))
    assert (np.abs(expected_best(values, True).mean(0) - k / (k + 1)) < error).all()
    assert (np.abs(expected_best(values, False).mean(0) - 1 / (k + 1)) < error).all()
