"""KVD against a double loop, torchmetrics' estimator and a jackknife that computes everything again."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peers.clips import closed_form_pair, noise
from torch import Tensor

from metrics import i3d_logits, kvd
from metrics.base import METRICS, SetMetric
from metrics.errors import VideoError
from metrics.jackknife import Indices, jackknife
from metrics.kvd import KVD, kvd_from_features


def features(seed: int, count: int, dimensions: int = 12, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimensions, generator=generator, dtype=torch.float64) * 2 + shift


def double_loop(x: Tensor, y: Tensor) -> float:
    def kernel(a: Tensor, b: Tensor) -> float:
        return (float(a @ b) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j)
    yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j)
    xy = sum(kernel(a, b) for a in x for b in y)
    return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)


def test_by_hand() -> None:
    """Kernel (ab + 1)^3 of 0, 1 and 1, 2: 1 + 27 - 2 (1 + 1 + 8 + 27) / 4 = 9.5."""
    found = kvd_from_features(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [2.0]]))
    assert found.value == pytest.approx(9.5, abs=1e-12)
    assert (found.n_pred, found.n_target, found.groups) == (2, 2, 0)
    assert math.isnan(found.standard_error)


@pytest.mark.parametrize(("n", "m"), [(7, 7), (5, 11)])
def test_equals_a_double_loop(n: int, m: int) -> None:
    x, y = features(0, n), features(1, m, shift=0.5)
    assert kvd_from_features(x, y).value == pytest.approx(double_loop(x, y), rel=1e-10)


def test_equals_torchmetrics_on_the_whole_set() -> None:
    from torchmetrics.image.kid import poly_mmd

    x, y = features(2, 150, 400), features(3, 150, 400, 0.1)
    assert kvd_from_features(x, y).value == pytest.approx(float(poly_mmd(x, y)), rel=1e-9)


def test_blocks_of_rows_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = features(4, 50), features(5, 31)
    whole = kvd_from_features(x, y)
    monkeypatch.setattr(importlib.import_module("metrics.kvd"), "_ROWS", 7)
    parts = kvd_from_features(x, y)
    assert parts.value == pytest.approx(whole.value, rel=1e-10)
    assert parts.standard_error == pytest.approx(whole.standard_error, rel=1e-10)


@pytest.mark.parametrize(
    ("n", "m", "clusters"), [(23, 23, None), (23, 40, None), (12, 12, [f"v{i // 3}" for i in range(12)])]
)
def test_jackknife_from_group_sums_equals_recomputation(n: int, m: int, clusters: list[str] | None) -> None:
    x, y = features(6, n), features(7, m, shift=0.7)

    def statistic(out_x: Indices, out_y: Indices) -> float:
        keep = (torch.from_numpy(np.delete(np.arange(k), out)) for k, out in ((n, out_x), (m, out_y)))
        return double_loop(*(rows[index] for rows, index in zip((x, y), keep, strict=True)))

    found = kvd_from_features(x, y, groups=5, clusters=clusters)
    expected = jackknife(statistic, found.value, n, m, groups=5, clusters=clusters)
    assert found.groups == expected.groups
    assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-9)
    assert found.bias_corrected == pytest.approx(expected.bias_corrected, rel=1e-9)


def test_is_unbiased_so_half_of_equal_distributions_are_below_zero() -> None:
    values = [kvd_from_features(features(2 * i, 20), features(2 * i + 1, 20)).value for i in range(100, 300)]
    standard_error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * standard_error
    assert 0.3 < np.mean(np.array(values) < 0) < 0.8


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(1, 20), st.integers(0, 10**6))
def test_symmetry_order_and_counts(n: int, m: int, d: int, seed: int) -> None:
    x, y = features(seed, n, d), features(seed + 1, m, d)
    found, swapped = kvd_from_features(x, y), kvd_from_features(y, x)
    scale = abs(found.value) + float(x.square().mean() + y.square().mean() + 1) ** 3
    assert swapped.value == pytest.approx(found.value, abs=1e-10 * scale)
    assert kvd_from_features(x.flip(0), y).value == pytest.approx(found.value, abs=1e-10 * scale)
    assert (found.n_pred, found.n_target) == (n, m)
    assert (found.groups > 0) == (not math.isnan(found.standard_error)) == (min(n, m) >= 3)


def test_direction_and_identity() -> None:
    """A set against itself is below zero, as its diagonal counts on one side only; distance grows with a shift."""
    x = features(9, 60)
    values = [kvd_from_features(x + shift, features(10, 60)).value for shift in (0.0, 1.0, 2.0)]
    assert (values[0] < values[1] < values[2]) != KVD.card.higher_is_better
    off_diagonal = (x @ x.T / 12 + 1) ** 3
    gap = off_diagonal.diagonal().mean() - (off_diagonal.sum() - off_diagonal.trace()) / (60 * 59)
    assert kvd_from_features(x, x).value == pytest.approx(float(-2 * gap / 60), rel=1e-9)


def test_from_videos_with_the_network() -> None:
    first, second = closed_form_pair()
    pred = torch.cat([first, noise(0, 1, 10, 64, 64)])
    target = torch.cat([second, noise(1, 1, 10, 64, 64)])
    found = kvd(pred, target)
    assert found.value == pytest.approx(double_loop(i3d_logits(pred).double(), i3d_logits(target).double()), rel=1e-5)
    assert (found.frames, found.mode) == (10, "exact")


def test_the_class_shares_the_features_of_fvd() -> None:
    metric = METRICS.get("kvd")(device="cpu", mode="exact")
    assert isinstance(metric, SetMetric)
    assert metric.extractor == METRICS.get("fvd").extractor == "i3d"
    x, y = features(11, 9, 400), features(12, 9, 400)
    names = [f"v{i // 2}" for i in range(9)]
    assert metric.value(x, y, names) == kvd_from_features(x, y, clusters=names)


def test_bad_features_are_refused() -> None:
    with pytest.raises(VideoError, match="found D = 3 and 4"):
        kvd_from_features(torch.zeros(4, 3), torch.zeros(4, 4))
    with pytest.raises(VideoError, match="at least 2 rows"):
        kvd_from_features(torch.zeros(1, 3), torch.zeros(4, 3))
    with pytest.raises(VideoError, match="equal size"):
        kvd_from_features(torch.zeros(3, 3), torch.zeros(4, 3), clusters=["a", "b", "c"])
