"""How fast clips come out of the loader, and that the size of the data set does not matter."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench.data.interface import ClipRef, Settings
from bench.data.loader import ClipLoader
from bench.data.sim.dataset import SimDataSet
from bench.data.sim.splits import SPLITS
from bench.flow.source import FlowSource
from methods.interface import Clip

BATCH, WORKERS, SIDE = 32, 2, 64
FLOOR = 300.0
"""Clips a second, with frames, flow and parts, from the cache."""
EPOCHS = 5


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimDataSet]:
    """128 clips of the simulated world at 64 px, made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POKEBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        split = replace(SPLITS["sim-plants"], name="speed", scenes=16, clips_per_scene=8, scenes_per_shard=4)
        yield SimDataSet(split, Settings(SIDE, 12))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As torch has it in a worker: threads that wait for each other would count as CPU time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Longer:
    """A data set that shows the clips of another `times` over, under names of their own."""

    skipped = ()

    def __init__(self, dataset: SimDataSet, times: int) -> None:
        self.dataset, self.name, self.context = dataset, "longer", dataset.context
        self.content_hash = f"{dataset.content_hash}-{times}"
        refs = dataset.clips()
        self._refs = [replace(ref, clip_id=f"{k}~{ref.clip_id}") for k in range(times) for ref in refs]

    def clips(self) -> Sequence[ClipRef]:
        return self._refs

    def load(self, clip_id: str) -> Clip:
        return self.dataset.load(clip_id.partition("~")[2])

    def describe(self) -> str:
        return self.name


def clips_per_second(loader: ClipLoader, batches: int) -> float:
    """Once the workers run: the first batches, which wait for their start, are not counted."""
    stream = (batch for _ in iter(int, 1) for batch in loader)
    for _ in range(2 * WORKERS):
        next(stream)
    started, count = time.perf_counter(), 0
    for _ in range(batches):
        batch = next(stream)
        assert batch.frames.dtype == torch.uint8
        count += len(batch)
    return count / (time.perf_counter() - started)


@pytest.mark.benchmark
@pytest.mark.parametrize("estimator", ["exact", "dis"])
def test_loader_throughput(benchmark: BenchmarkFixture, world: SimDataSet, estimator: str) -> None:
    source = FlowSource(world, estimator)
    loader = ClipLoader(world, BATCH, workers=WORKERS, shuffle=True, drop_last=True, flow=source)
    best = max(clips_per_second(loader, 12) for _ in range(EPOCHS))
    alone = ClipLoader(world, BATCH, workers=0, shuffle=True, flow=source)
    started = time.process_time()
    for _ in alone:
        pass
    cpu = (time.process_time() - started) / len(world.clips())
    print(f"\nloader {SIDE} px, {estimator} flow: {best:.0f} clips/s, {1e3 * cpu:.2f} ms CPU a clip")
    benchmark.extra_info.update({"clips_per_second": best, "cpu_ms_per_clip": 1e3 * cpu})
    benchmark.pedantic(lambda: clips_per_second(loader, 4), rounds=3)
    assert best >= FLOOR


@pytest.mark.benchmark
def test_time_a_clip_does_not_depend_on_the_size_of_the_set(world: SimDataSet) -> None:
    def cpu_per_clip(times: int) -> float:
        loader = ClipLoader(Longer(world, times), BATCH, workers=0, shuffle=True)
        stream = iter(loader)
        next(stream)
        best = float("inf")
        for _ in range(3):
            started = time.process_time()
            next(stream)
            best = min(best, (time.process_time() - started) / BATCH)
        return best

    small, large = cpu_per_clip(1), cpu_per_clip(1000)
    print(f"\n{1e3 * small:.2f} ms CPU a clip of 128, {1e3 * large:.2f} ms of 128,000")
    assert large < 1.5 * small
