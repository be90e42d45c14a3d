"""Batches that do not fit in memory are halved; a clip that does not fit by itself is an error."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Convolved, DriftingDiscs
from faults.programs import protocol

from bench.evaluate import evaluate, run_key
from bench.evaluation.memory import out_of_memory
from bench.evaluation.scoring import Scorer
from bench.record import LoadedRecord
from bench.store import Store
from metrics.errors import MethodError

CLIPS = 20
ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried ..."),
    RuntimeError("[enforce fail at alloc_cpu.cpp] data. DefaultCPUAllocator: not enough memory: you tried to"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    MemoryError(),
]


class Large(Convolved):
    """Has memory for so many clips at once."""

    def __init__(self, most: int, error: BaseException) -> None:
        super().__init__("large")
        self.most, self.error, self.sizes = most, error, list[int]()

    def predict(self, conditioning: Any, samples: int, seed: int) -> torch.Tensor:
        self.sizes.append(len(conditioning.clip_ids))
        if len(conditioning.clip_ids) > self.most:
            raise self.error
        return super().predict(conditioning, samples, seed)


def run(store: Path, *methods: Convolved, **options: Any) -> list[LoadedRecord]:
    return evaluate(methods, DriftingDiscs(CLIPS), protocol(), Store(store), **{"batch_size": 8, **options})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[LoadedRecord]:
    return run(tmp_path_factory.mktemp("whole"), Convolved("other"), Large(8, MemoryError()))


def same_numbers(found: list[LoadedRecord], expected: list[LoadedRecord]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.facts.clip_ids == other.facts.clip_ids
        for name in ("psnr", "ssim"):
            assert one.frame_values(name) == pytest.approx(other.frame_values(name), abs=1e-6)


@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "cpu", "cpu-2", "cublas", "cudnn", "python"])
def test_a_batch_too_large_for_the_method(
    tmp_path: Path, faults: Any, whole: list[LoadedRecord], error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    method, other = Large(3, error), Convolved("other")
    with faults.one():
        found = run(tmp_path, other, method)
        same_numbers(found, whole)
        faults.lost += other.calls - 3  # the other method keeps its batches
    # 8 and 4 are too many, each is tried once; then 20 clips of batches of 8, 8 and 4 in twos.
    assert method.sizes == [8, 4, *[2] * 10]
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert [line.split(" does not fit")[0] for line in warnings] == [
        "large: a batch of 8 clips",
        "large: a batch of 4 clips",
    ]
    assert found[1].facts.provenance.batch_sizes == (2,)
    assert found[0].facts.provenance.batch_sizes == (8,)


@pytest.mark.parametrize("where", ["reference", "score"])
def test_a_batch_too_large_for_the_metrics(
    tmp_path: Path, faults: Any, whole: list[LoadedRecord], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, sizes = getattr(Scorer, where), []

    def large(scorer: Scorer, video: torch.Tensor, *rest: Any) -> Any:
        sizes.append(len(video))
        if len(video) > 4:
            raise ERRORS[0]
        return real(scorer, video, *rest)

    monkeypatch.setattr(Scorer, where, large)
    with faults.one():
        same_numbers(run(tmp_path, Convolved("other"), Large(8, MemoryError())), whole)
    assert sizes.count(8) == (1 if where == "reference" else 2)


def test_a_clip_that_does_not_fit_by_itself(tmp_path: Path, faults: Any) -> None:
    other = Convolved("other")
    with faults.one():
        with pytest.raises(MethodError) as raised:
            run(tmp_path, Large(0, ERRORS[0]), other)
        assert "large: the clip source000@000000 does not fit in the memory of cpu, even by itself" in str(raised.value)
        assert "CUDA out of memory" in str(raised.value)
        assert "The results of 0 of 20 clips of large are kept" in str(raised.value)
        parts = Store(tmp_path).parts(run_key(other.card, protocol(), DriftingDiscs(CLIPS)))
        assert len(parts) == 1  # the batch of the others is there


class Stops(Large):
    """Is interrupted after some calls that fit."""

    def predict(self, conditioning: Any, samples: int, seed: int) -> torch.Tensor:
        if self.calls == 3:
            raise KeyboardInterrupt
        return super().predict(conditioning, samples, seed)


@pytest.mark.parametrize("most", [2, 8])
def test_halves_are_not_computed_again(tmp_path: Path, faults: Any, whole: list[LoadedRecord], most: int) -> None:
    """Interrupted in the midst of a halved batch; the next run has less memory still, or enough."""
    with faults.one():
        with pytest.raises(KeyboardInterrupt, match="12 of 20 clips are done"):
            run(tmp_path, Stops(4, MemoryError()))
        rest = Large(most, MemoryError())
        same_numbers(run(tmp_path, rest), whole[1:])
        faults.lost += sum(size for size in rest.sizes if size <= most) - 8


def test_other_errors_are_no_lack_of_memory() -> None:
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not out_of_memory(OSError("out of memory"))
