"""FVD: published values, its uncertainty, its warnings, and the ways to call it."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from peers.clips import closed_form_pair, noise
from torch import Tensor

from metrics import frechet_distance, fvd, i3d_logits
from metrics.base import METRICS, SetMetric
from metrics.errors import VideoError, WeightsError
from metrics.fvd import FEW_CLIPS, FVD, BiasWarning, fvd_from_features
from metrics.weights import weight_hash


@pytest.fixture(autouse=True)
def few_clips_are_meant() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BiasWarning)
        yield


def features(seed: int, count: int, dimensions: int = 400, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    spectrum = 3 / torch.arange(1, dimensions + 1).sqrt()
    return torch.randn(count, dimensions, generator=generator) * spectrum + shift


def test_the_closed_form_pair_is_at_the_squared_distance_of_its_logits() -> None:
    """Sets of equal clips have no covariance. 72.44576 is what TensorFlow gives for the original graph."""
    first, second = closed_form_pair()
    found = fvd(first.repeat(2, 1, 1, 1, 1), second.repeat(3, 1, 1, 1, 1))
    assert found.value == pytest.approx(72.44576, rel=1e-4)
    assert (found.n_pred, found.n_target, found.frames, found.mode) == (2, 3, 10, "exact")


def test_black_against_white_has_its_published_value() -> None:
    """569.772 at T = 10 for any frame size, from the original graph."""
    black = torch.zeros(2, 10, 3, 16, 16)
    assert fvd(black, 1 - black).value == pytest.approx(569.772, rel=2e-5)


def test_equals_the_distance_of_the_logits() -> None:
    pred, target = noise(0, 4, 9, 40, 40), noise(1, 3, 9, 40, 40) ** 2
    found = fvd(pred, target, batch_size=3)
    assert found.value == pytest.approx(frechet_distance(i3d_logits(pred), i3d_logits(target)), rel=1e-6)
    assert found.groups == 3


def test_identity_symmetry_and_direction() -> None:
    x, y = features(0, 30), features(1, 30)
    assert fvd_from_features(x, x).value == pytest.approx(0, abs=1e-9)
    forth, back = fvd_from_features(x, y), fvd_from_features(y, x)
    assert back.value == pytest.approx(forth.value, rel=1e-12)
    assert back.standard_error == pytest.approx(forth.standard_error, rel=1e-9)
    far = fvd_from_features(x + 1, y).value
    assert (far > forth.value) != FVD.card.higher_is_better


@pytest.mark.parametrize(("n", "m"), [(60, 60), (60, 45)])
def test_few_clips_bias_upwards_and_the_correction_goes_down(n: int, m: int) -> None:
    """Two samples of one distribution: the true distance is 0."""
    found = fvd_from_features(features(2, n), features(3, m))
    more = fvd_from_features(features(2, 4 * n), features(3, 4 * m))
    assert found.value > more.value > 0
    assert abs(found.bias_corrected) < found.value
    assert found.standard_error > 0


@pytest.mark.parametrize(("n", "m", "groups"), [(24, 24, 20), (24, 24, 4), (6, 6, 6), (30, 7, 7), (2, 30, 0)])
def test_counts_and_groups_are_reported(n: int, m: int, groups: int) -> None:
    found = fvd_from_features(features(4, n, 20), features(5, m, 20), groups=groups or 20)
    assert (found.n_pred, found.n_target, found.groups, found.frames) == (n, m, groups, 0)
    assert math.isnan(found.standard_error) == math.isnan(found.bias_corrected) == (groups == 0)
    assert found.value > 0


def test_jackknife_equals_leaving_out_by_hand() -> None:
    x, y = features(6, 9, 30), features(7, 9, 30, 0.5)
    found = fvd_from_features(x, y, groups=3)
    keep = [np.delete(np.arange(9), range(3 * g, 3 * g + 3)) for g in range(3)]
    left_out = np.array([frechet_distance(x[k], y[k]) for k in keep])
    assert found.bias_corrected == pytest.approx(3 * found.value - 2 * left_out.mean(), rel=1e-10)
    expected = math.sqrt(2 / 3 * ((left_out - left_out.mean()) ** 2).sum())
    assert found.standard_error == pytest.approx(expected, rel=1e-10)


def test_sources_leave_as_a_whole() -> None:
    x, y = features(8, 20, 30), features(9, 20, 30)
    names = [f"video{i % 5}" for i in range(20)]
    found = fvd_from_features(x, y, clusters=names)
    assert found.groups == 5
    assert found.value == fvd_from_features(x, y).value
    order = np.argsort(names, kind="stable")
    sorted_apart = fvd_from_features(x[order], y[order], groups=5)
    assert found.standard_error == pytest.approx(sorted_apart.standard_error, rel=1e-9)


def test_few_clips_warn_with_their_number() -> None:
    warnings.simplefilter("always", BiasWarning)
    with pytest.warns(BiasWarning, match=r"30 predicted and 500 target clips.*biased upwards.*at least 400"):
        fvd_from_features(features(10, 30, 5), features(11, 500, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fvd_from_features(features(10, FEW_CLIPS, 5), features(11, FEW_CLIPS, 5))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mode": "quick"}, VideoError, "quick"),
        ({"backend": "jax"}, VideoError, "backend='jax'"),
        ({"module": "somewhere"}, VideoError, "module='somewhere'"),
        ({"backend": "tfhub", "mode": "fast", "module": "x"}, VideoError, "mode='fast'"),
        ({"backend": "tfhub"}, WeightsError, "needs module"),
        ({"clusters": ["a"]}, VideoError, "expected 2 names, found 1"),
    ],
)
def test_bad_options_are_refused(options: dict, error: type[Exception], message: str) -> None:
    video = noise(2, 2, 9, 16, 16)
    with pytest.raises(error, match=message):
        fvd(video, video, **options)


def test_features_are_computed_in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def fake_logits(video: Tensor, *, mode: str, batch_size: int) -> Tensor:
        sizes.append((len(video), batch_size))
        return video.mean((3, 4)).flatten(1)

    monkeypatch.setattr(importlib.import_module("metrics.fvd"), "i3d_logits", fake_logits)
    fvd(noise(3, 7, 9, 8, 8), noise(4, 5, 9, 8, 8), batch_size=2)
    assert sizes == [(7, 2), (5, 2)]


def test_the_class_follows_the_protocol() -> None:
    metric = METRICS.get("fvd")(device="cpu", mode="exact")
    assert isinstance(metric, SetMetric)
    video = noise(5, 2, 9, 24, 24)
    assert torch.equal(metric.features(video), i3d_logits(video))
    x, y = features(12, 12), features(13, 12)
    assert metric.value(x, y) == fvd_from_features(x, y)
    assert metric.value(x, y, [f"v{i // 3}" for i in range(12)]).groups == 4
    assert metric.card.weights == {"i3d-kinetics-400": weight_hash("i3d-kinetics-400")}


@pytest.mark.slow
def test_jackknife_of_two_thousand_clips() -> None:
    """Large sets go through QR and stay exact: the same value as scipy's matrix root to 1e-9."""
    from scipy.linalg import sqrtm

    x, y = features(14, 2048).double(), features(15, 2048, shift=0.05).double()
    found = fvd_from_features(x, y)
    cov_x, cov_y = (np.cov(rows.numpy(), rowvar=False) for rows in (x, y))
    root = np.real(sqrtm(cov_x @ cov_y))
    expected = float((x.mean(0) - y.mean(0)).square().sum()) + np.trace(cov_x + cov_y - 2 * root)
    assert found.value == pytest.approx(expected, rel=1e-9)
    assert 0 < found.standard_error < found.value
