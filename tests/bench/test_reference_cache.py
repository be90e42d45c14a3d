"""Features of true clips are computed once, and never taken from damaged files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DriftingDiscs
from torch import Tensor

from bench.evaluate import evaluate
from bench.evaluation.reference_cache import ReferenceCache
from bench.protocol import Protocol
from bench.store import Store
from methods.baselines import ContextMean, CopyLastFrame
from metrics.fvd import FVD

CPU = torch.device("cpu")
Counted = tuple[Callable[[Tensor], Tensor], list[int]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POKEBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def counted() -> Counted:
    calls: list[int] = []

    def compute(video: Tensor) -> Tensor:
        calls.append(len(video))
        return video.flatten(1)[:, :5].clone()

    return compute, calls


@pytest.fixture
def metric() -> FVD:
    return FVD(device=CPU, mode="exact")


def video(count: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 9, 3, 8, 8), generator=generator) / 255


def test_what_was_computed_is_read_again(metric: FVD, counted: Counted) -> None:
    compute, calls = counted
    first = ReferenceCache(metric, "exact", CPU).features(video(), compute)
    again = ReferenceCache(metric, "exact", CPU).features(video(), compute)
    assert calls == [3]
    assert torch.equal(first, again)
    assert torch.equal(first, compute(video()))
    assert torch.equal(ReferenceCache(metric, "exact", CPU).features(video()[[2, 0]], compute), first[[2, 0]])
    assert calls == [3, 3]


def test_other_content_and_other_precision_are_kept_apart(metric: FVD, counted: Counted) -> None:
    compute, calls = counted
    ReferenceCache(metric, "exact", CPU).features(video(), compute)
    ReferenceCache(metric, "fast", CPU).features(video(), compute)
    other = video()
    other[1, 0, 0, 0, 0] = (other[1, 0, 0, 0, 0] * 255 + 1) % 256 / 255
    found = ReferenceCache(metric, "exact", CPU).features(other, compute)
    assert calls == [3, 3, 3]
    assert torch.equal(found, compute(other))


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data[:40] + b"?" + data[41:], lambda data: b""]
)
def test_damaged_files_are_computed_again(
    metric: FVD, counted: Counted, cache: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    compute, calls = counted
    first = ReferenceCache(metric, "exact", CPU).features(video(), compute)
    path = next(path for path in sorted(cache.rglob("features/*/*/*")) if path.is_file())
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert torch.equal(ReferenceCache(metric, "exact", CPU).features(video(), compute), first)
    assert "is damaged" in caplog.text
    assert torch.equal(ReferenceCache(metric, "exact", CPU).features(video(), compute), first)
    assert calls == [3, 3]


def test_without_a_cache_everything_is_computed(
    metric: FVD, counted: Counted, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file where the folder should be")
    compute, calls = counted
    with caplog.at_level(logging.WARNING):
        found = ReferenceCache(metric, "exact", CPU)
    assert "are not kept" in caplog.text
    for _ in range(2):
        assert torch.equal(found.features(video(), compute), video().flatten(1)[:, :5])
    assert calls == [3, 3]


def test_a_method_that_comes_later_has_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = Protocol(dataset="discs", size=32, context=2, horizon=9, metrics=("fvd",), min_clips=2)
    data = DriftingDiscs(clips=4, length=11)
    [alone] = evaluate([CopyLastFrame()], data, protocol, Store(tmp_path / "a"))
    passes: list[int] = []
    original = FVD.features
    monkeypatch.setattr(FVD, "features", lambda self, clips: passes.append(len(clips)) or original(self, clips))
    [later] = evaluate([ContextMean()], data, protocol, Store(tmp_path / "a"))
    assert passes == [4]  # predictions alone
    np.testing.assert_array_equal(later.arrays["features/i3d/target"], alone.arrays["features/i3d/target"])
