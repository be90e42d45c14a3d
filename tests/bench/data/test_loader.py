"""The loader: every clip once, the same for any number of workers and processes, resumable."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import DriftingDiscs

from bench.data.batch import batch_of
from bench.data.loader import ClipLoader, epoch_seed
from bench.distributed import World
from bench.flow.source import FlowSource
from bench.pokes import DrawnPoke, PokeRule, pokes_for
from methods.interface import Clip, Poke
from metrics.errors import DataError


def ids_of(loader: ClipLoader) -> list[tuple[str, ...]]:
    return [batch.clip_ids for batch in loader]


def flat(batches: list[tuple[str, ...]]) -> list[str]:
    return [clip_id for batch in batches for clip_id in batch]


def all_ids(dataset: DriftingDiscs) -> list[str]:
    return [ref.clip_id for ref in dataset.clips()]


def loader_of(clips: int = 11, batch_size: int = 3, **settings: Any) -> ClipLoader:
    return ClipLoader(DriftingDiscs(clips, size=16), batch_size, **{"workers": 0, **settings})


def test_batches_hold_the_clips_as_loaded(own_cache: Path) -> None:
    dataset = DriftingDiscs(5, size=32)
    source = FlowSource(dataset, context=2)
    batches = list(ClipLoader(dataset, 2, workers=0, flow=source))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    for batch in batches:
        assert batch.frames.dtype == torch.uint8
        assert batch.poke is None
        assert batch.parts is None
        for row, clip_id in enumerate(batch.clip_ids):
            assert torch.equal(batch.frames[row], dataset.load(clip_id).frames)
            assert torch.equal(batch.flow[row], source(clip_id))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(own_cache: Path, workers: int) -> None:
    dataset = DriftingDiscs(10, size=32)
    settings: dict[str, Any] = {"seed": 4, "shuffle": True, "rule": PokeRule(background=0.3)}
    runs = []
    for count in (0, workers):
        loader = ClipLoader(dataset, 3, workers=count, flow=FlowSource(dataset, context=2), **settings)
        runs.append([*loader, *loader])
    assert len(runs[0]) == len(runs[1]) == 8
    for one, other in zip(*runs, strict=True):
        assert one.clip_ids == other.clip_ids
        assert torch.equal(one.frames, other.frames)
        assert torch.equal(one.flow, other.flow)
        assert torch.equal(one.poke.location, other.poke.location)
        assert isinstance(other.poke, DrawnPoke)
        assert one.poke.kinds == other.poke.kinds


def test_order_is_that_of_the_data_or_a_new_one_each_epoch() -> None:
    plain, shuffled = loader_of(), loader_of(shuffle=True, seed=1)
    expected = all_ids(DriftingDiscs(11, size=16))
    assert flat(ids_of(plain)) == flat(ids_of(plain)) == expected
    first, second = flat(ids_of(shuffled)), flat(ids_of(shuffled))
    assert sorted(first) == sorted(second) == sorted(expected)
    assert len({tuple(first), tuple(second), tuple(expected)}) == 3
    assert flat(ids_of(loader_of(shuffle=True, seed=1))) == first
    assert flat(ids_of(loader_of(shuffle=True, seed=2))) != first


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("shuffle", [False, True])
def test_evaluation_visits_every_clip_once(processes: int, shuffle: bool) -> None:
    ranks = [loader_of(shuffle=shuffle, world=World(rank, processes)) for rank in range(processes)]
    shares = [ids_of(loader) for loader in ranks]
    assert [len(share) for share in shares] == [len(loader) for loader in ranks]
    assert sorted(flat([batch for share in shares for batch in share])) == all_ids(DriftingDiscs(11, size=16))


@pytest.mark.parametrize(("processes", "batches"), [(1, 3), (2, 1), (3, 1)])
def test_training_gives_every_process_as_many_full_batches(processes: int, batches: int) -> None:
    shares = [
        ids_of(loader_of(shuffle=True, drop_last=True, world=World(rank, processes))) for rank in range(processes)
    ]
    assert all(len(share) == batches and all(len(batch) == 3 for batch in share) for share in shares)
    seen = flat([batch for share in shares for batch in share])
    assert len(set(seen)) == len(seen)
    alone = ids_of(loader_of(shuffle=True, drop_last=True))
    together = [share[step] for step in range(batches) for share in shares]
    assert together == alone[: len(together)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 3, 4, 5, 7])
def test_resumes_where_it_was(workers: int, stop: int) -> None:
    def endless(loader: ClipLoader) -> Any:
        while True:
            yield from loader

    settings: dict[str, Any] = {"shuffle": True, "seed": 3, "workers": workers}
    whole = endless(loader_of(**settings))
    expected = [next(whole).clip_ids for _ in range(12)]
    first = loader_of(**settings)
    stream = endless(first)
    begun = [next(stream).clip_ids for _ in range(stop)]
    state = first.state_dict()
    second = loader_of(**settings)
    second.load_state_dict(state)
    rest = endless(second)
    assert begun + [next(rest).clip_ids for _ in range(12 - stop)] == expected


def test_a_loop_that_was_left_goes_on() -> None:
    loader = loader_of(workers=2)
    for batch in loader:
        first = batch.clip_ids
        break
    assert [first, *ids_of(loader)] == ids_of(loader_of())
    assert (loader.epoch, loader.position) == (1, 0)


def test_workers_are_told_to_stop_at_once() -> None:
    """No cycle of references holds the loader: freed by the collector, it would leave its workers waiting."""
    loader = loader_of(workers=1)
    stream = iter(loader)
    next(stream)
    (worker,) = loader._loader._iterator._workers
    gone = weakref.ref(loader)
    gc.disable()
    try:
        del loader, stream
        assert gone() is None
        assert not worker.is_alive()
    finally:
        gc.enable()
    assert worker.exitcode == 0


def test_a_foreign_state_is_refused() -> None:
    state = loader_of(seed=1).state_dict()
    for other in ({"seed": 2}, {"seed": 1, "batch_size": 4}, {"seed": 1, "shuffle": True}, {"seed": 1, "clips": 9}):
        with pytest.raises(DataError, match="saved with another"):
            loader_of(**other).load_state_dict(state)


def test_pokes_are_fixed_or_new_each_epoch(own_cache: Path) -> None:
    dataset, rule = DriftingDiscs(6, size=32), PokeRule()
    source = FlowSource(dataset, context=2)
    fixed = ClipLoader(dataset, 6, workers=0, seed=5, flow=source, rule=rule)
    one, two = next(iter(fixed)), next(iter(fixed))
    expected = pokes_for(dataset, all_ids(dataset), source, rule, 5)
    assert torch.equal(one.poke.location, expected.location)
    assert torch.equal(two.poke.location, expected.location)
    fresh = ClipLoader(dataset, 6, workers=0, seed=5, shuffle=True, flow=source, rule=rule)
    for epoch in range(2):
        (batch,) = list(fresh)
        expected = pokes_for(dataset, batch.clip_ids, source, rule, epoch_seed(5, epoch))
        assert torch.equal(batch.poke.location, expected.location)


def test_grabcut_in_workers(own_cache: Path) -> None:
    dataset, rule = DriftingDiscs(4, size=32), PokeRule(foreground="grabcut")
    source = FlowSource(dataset, context=2)
    (batch,) = list(ClipLoader(dataset, 4, workers=1, flow=source, rule=rule))
    expected = pokes_for(dataset, all_ids(dataset), source, rule, 0)
    assert torch.equal(batch.poke.location, expected.location)


class Broken(DriftingDiscs):
    def load(self, clip_id: str) -> Clip:
        if clip_id == self.clips()[4].clip_id:
            raise DataError(f"clip {clip_id} is damaged; mend it")
        return super().load(clip_id)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_keeps_its_message(workers: int) -> None:
    stream = iter(ClipLoader(Broken(8, size=16), 2, workers=workers))
    next(stream), next(stream)
    with pytest.raises(DataError, match=r"^clip source001@000004 is damaged; mend it$"):
        next(stream)


def test_true_pokes_and_parts_come_along() -> None:
    dataset = DriftingDiscs(3, size=16)
    clips = [
        replace(
            dataset.load(ref.clip_id),
            parts=torch.full((16, 16), row, dtype=torch.uint8),
            poke=Poke(torch.full((1, 2), float(row)), torch.full((1, 2), -float(row))),
        )
        for row, ref in enumerate(dataset.clips())
    ]
    batch = batch_of(clips)
    assert batch.parts[:, 0, 0].tolist() == batch.poke.location[:, 0].tolist() == [0, 1, 2]
    mixed = batch_of([clips[0], replace(clips[1], parts=None, poke=None)])
    assert mixed.parts is None
    assert mixed.poke is None
    with pytest.raises(DataError, match="one shape"):
        batch_of([clips[0], replace(clips[1], frames=clips[1].frames[:5])])
    there = batch.to("meta")
    assert there.frames.device.type == there.poke.location.device.type == there.parts.device.type == "meta"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: loader_of(batch_size=0), "batch_size >= 1"),
        (lambda: loader_of(workers=-1), "workers >= 0"),
        (lambda: loader_of(rule=PokeRule()), "needs a flow source"),
        (lambda: loader_of(batch_size=6, drop_last=True, world=World(0, 2)), "too few for a batch"),
        (lambda: loader_of(clips=0), "too few"),
    ],
)
def test_faults_are_named(make: Callable[[], ClipLoader], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make()
