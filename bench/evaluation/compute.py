"""The long part of an evaluation: every clip decoded once, predicted by every method, and scored by all metrics.

The results of a method on a batch are kept on disk as soon as they are there. What goes wrong with one method leaves
the results of the others on the same batch; what does not fit in memory is computed in smaller batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench import provenance
from bench.data.interface import DataSet
from bench.data.reading import read_clip
from bench.distributed import World
from bench.evaluation.memory import Pieces
from bench.evaluation.prediction import AnyMethod, condition, predict
from bench.evaluation.response import ControlScorer, Truth
from bench.evaluation.scoring import Scorer, select
from bench.flow.source import FlowSource
from bench.foreign import Reported, described
from bench.interrupts import interruptible
from bench.protocol import Protocol
from bench.record import Arrays
from bench.store import RunKey, Store
from methods.interface import Clip, Conditioning
from metrics.errors import MethodError

Progress = Callable[[int, int], None]
"""Called with (clips done, clips to do), counted over methods."""


@dataclass(frozen=True)
class Run:
    """What is computed, and how; see `bench.evaluate.evaluate`.

    Attributes:
        methods: those without a record, by name; see `bench.evaluation.prediction.told_apart`.
        keys: of the methods, by the same name.
        clip_ids: all, sorted.
    """

    methods: Mapping[str, AnyMethod]
    dataset: DataSet
    protocol: Protocol
    store: Store
    keys: dict[str, RunKey]
    clip_ids: list[str]
    device: torch.device
    batch_size: int
    world: World
    progress: Progress | None


@dataclass(frozen=True)
class _Shared:
    """What all methods need of some clips."""

    conditioning: Conditioning
    target: Tensor
    reference: dict[str, Any]
    known: Truth | None
    seconds: float


def compute(run: Run) -> None:
    """Computes and keeps what this process has to of the results of `run`.

    Raises:
        MethodError: a method raised, or what it returned cannot be scored. The other methods' results of the batch
            are kept first.
        DataError, RecordError: see `bench.evaluate.evaluate`.
        KeyboardInterrupt: it was interrupted, and says how far it was; what was in work is finished first.
    """
    batches = [run.clip_ids[start : start + run.batch_size] for start in range(0, len(run.clip_ids), run.batch_size)]
    mine = batches[run.world.rank :: run.world.size]
    share = {clip_id for batch in mine for clip_id in batch}
    done = {name: {c for ids, _, _ in run.store.parts(run.keys[name]).values() for c in ids} for name in run.methods}
    todo = {name: share - found for name, found in done.items()}
    mine = [batch for batch in mine if any(left.intersection(batch) for left in todo.values())]
    if not mine:
        return
    before = {name: len(found.intersection(run.clip_ids)) for name, found in done.items()}
    computer = _Computer(run, todo, before)
    try:
        with interruptible("batch") as interrupted:
            computer.prepare()
            for clips in _loaded(run.dataset, mine):
                computer.batch(clips, interrupted)
    except KeyboardInterrupt as stop:
        total = len(run.methods) * len(share)
        several = f" (of {len(run.methods)} methods)" if len(run.methods) > 1 else ""
        raise KeyboardInterrupt(f"{total - computer.left} of {total} clips are done{several}") from stop


class _Computer:
    """Computes batches.

    Attributes:
        left: results that this process still has to compute, one a clip and method.
    """

    def __init__(self, run: Run, todo: dict[str, set[str]], kept: dict[str, int]) -> None:
        self._run, self._todo, self._kept = run, todo, kept
        self.left = self._all = sum(map(len, todo.values()))
        self._faults: dict[str, MethodError] = {}
        self._shared = Pieces("scoring", run.device)
        self._pieces = {name: Pieces(name, run.device) for name in todo}
        self._facts = {
            "commit": provenance.commit(),
            "processes": run.world.size,
            "hardware": provenance.hardware(str(run.device)),
        }

    def prepare(self) -> None:
        """Loads metrics and methods."""
        run = self._run
        self._scorer, self._control = Scorer(run.protocol, run.device), ControlScorer(run.protocol, run.device)
        for name, method in run.methods.items():
            if self._todo[name]:
                with Reported(partial(_not_prepared, name, method)):
                    method.prepare(run.device)
        poked = run.protocol.poke is not None
        self._flow = FlowSource(run.dataset, run.protocol.flow, context=run.protocol.context) if poked else None

    def batch(self, clips: list[Clip], interrupted: Callable[[], bool]) -> None:
        """Computes what is missing for some clips.

        Raises:
            MethodError: a method failed; raised once all others have their results.
            KeyboardInterrupt: `interrupted` said so.
        """
        ids = [clip.clip_id for clip in clips]
        for shared in self._shared.each(ids, lambda rows: self._prepared([clips[row] for row in rows])):
            for name, method in self._run.methods.items():
                if name in self._faults:
                    continue
                try:
                    for _ in self._method(name, method, shared):
                        if interrupted():
                            raise KeyboardInterrupt
                except MethodError as error:
                    self._faults[name] = self._fault(name, error)
        if self._faults:
            first, *others = self._faults.values()
            raise MethodError("\n".join(map(str, (first, *others)))) from first.__cause__

    def _prepared(self, clips: list[Clip]) -> _Shared:
        conditioning, target = condition(clips, self._run.protocol, self._run.device, self._flow)
        started = time.perf_counter()
        with torch.inference_mode():
            reference = self._scorer.reference(target)
            known = self._control.truth(clips, conditioning, target)
        return _Shared(conditioning, target, reference, known, time.perf_counter() - started)

    def _method(self, name: str, method: AnyMethod, shared: _Shared) -> Iterator[None]:
        """Computes and keeps what a method lacks of some clips; yields after each piece."""
        all_ids = shared.conditioning.clip_ids
        missing = [row for row, clip_id in enumerate(all_ids) if clip_id in self._todo[name]]
        ids = [all_ids[row] for row in missing]
        pieces = self._pieces[name]
        results = pieces.each(ids, lambda rows: self._results(method, shared, [missing[row] for row in rows]))
        for kept, arrays, seconds in results:
            self._run.store.write_part(
                self._run.keys[name], kept, arrays, {**self._facts, "batch_size": self._size(pieces), **seconds}
            )
            self._kept[name] += len(kept)
            self.left -= len(kept)
            if self._run.progress is not None:
                self._run.progress(self._all - self.left, self._all)
            yield

    def _results(
        self, method: AnyMethod, shared: _Shared, rows: list[int]
    ) -> tuple[list[str], Arrays, dict[str, float]]:
        protocol, batch = self._run.protocol, len(shared.conditioning.clip_ids)
        shown, target = shared.conditioning.select(rows), shared.target[rows]
        started = time.perf_counter()
        pred = predict(method, shown, target, protocol.samples, protocol.seed)
        _wait(self._run.device)
        predicted = time.perf_counter()
        again = partial(_again, method, target, protocol) if "poke" in method.card.inputs else lambda _: pred
        with torch.inference_mode():
            arrays = self._scorer.score(pred, select(shared.reference, rows, batch))
            arrays |= self._control.score(pred, target, shown, shared.known and shared.known.select(rows), again)
        if shown.poke is not None:
            arrays["poke/location"] = shown.poke.location.cpu().numpy()
            arrays["poke/displacement"] = shown.poke.displacement.cpu().numpy()
        reference_seconds = shared.seconds * len(rows) / (batch * len(self._run.methods))
        seconds = {
            "predict_seconds": predicted - started,
            "score_seconds": time.perf_counter() - predicted + reference_seconds,
        }
        return list(shown.clip_ids), arrays, seconds

    def _size(self, pieces: Pieces) -> int:
        """The batch size in force."""
        return min(size for size in (self._run.batch_size, self._shared.size, pieces.size) if size is not None)

    def _fault(self, name: str, error: MethodError) -> MethodError:
        fault = MethodError(
            f"{error} The results of {self._kept[name]} of {len(self._run.clip_ids)} clips of {name} are kept."
        )
        fault.__cause__ = error.__cause__ or error
        return fault


def _not_prepared(name: str, method: AnyMethod, error: Exception) -> MethodError:
    return MethodError(f"the method {name} cannot be prepared: {described(error, method)}")


def _again(method: AnyMethod, truth: Tensor, protocol: Protocol, conditioning: Conditioning) -> Tensor:
    return predict(method, conditioning, truth, protocol.samples, protocol.seed)


def _loaded(dataset: DataSet, batches: list[list[str]]) -> Iterator[list[Clip]]:
    """Batches of clips; the next one is read while the caller works on the last."""

    def read(batch: list[str]) -> list[Clip]:
        return [read_clip(dataset, clip_id) for clip_id in batch]

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read, batches[0])
        for number in range(len(batches)):
            clips = coming.result()
            if number + 1 < len(batches):
                coming = reader.submit(read, batches[number + 1])
            yield clips


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
