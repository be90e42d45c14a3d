"""Methods x data set -> records, in one pass: each clip is decoded once, predicted once, and scored by all metrics.

The clips, sorted by id, are cut into batches; the results of a batch are kept on disk as soon as they are there, so a
run that is killed at any moment goes on where it was. Batch i belongs to process i modulo the number of processes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from bench import provenance
from bench.data.interface import DataSet
from bench.distributed import World
from bench.flow import FlowSource
from bench.pokes import pokes_of, still_targets
from bench.protocol import Protocol
from bench.record import Arrays, DataFacts, LoadedRecord, MethodFacts, Provenance, SetResult
from bench.response import ControlScorer
from bench.scoring import Scorer, check_prediction, merge, select
from bench.store import RunKey, Store
from bench.tracks import tracks_of
from methods.interface import ChecksClips, Clip, Conditioning, Method, MethodCard, TruthMethod
from metrics.errors import DataError, MethodError, RecordError, VideoError

log = logging.getLogger(__name__)

AnyMethod = Method | TruthMethod
Progress = Callable[[int, int], None]
"""Called with (clips done, clips to do), counted over methods."""


def evaluate(
    methods: Sequence[AnyMethod],
    dataset: DataSet,
    protocol: Protocol,
    store: Store,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 8,
    world: World | None = None,
    progress: Progress | None = None,
) -> list[LoadedRecord]:
    """Evaluates `methods` on `dataset` under `protocol`; what the store already has is not computed again.

    Args:
        methods: built methods; `prepare` is called here.
        dataset: opened with the protocol's size, length, frame rate and clip rule.
        store: where records and the parts of unfinished runs go; shared by all processes.
        batch_size: clips predicted at once; results do not depend on it beyond rounding (1e-6).
        world: this process among those of torchrun; None: alone.

    Returns:
        One record a method, in the given order.

    Raises:
        MethodError: a method cannot do what the protocol asks, or returned something that cannot be scored.
        DataError: a clip cannot be read or has another shape.
        RecordError: results cannot be written. In all cases, what was computed before is kept and used next time.
    """
    world = world or World()
    device = torch.device(device)
    names = [method.card.name for method in methods]
    if len(set(names)) != len(names):
        raise MethodError(f"every method may be given once, found {', '.join(names)}")
    for method in methods:
        check_fit(method.card, protocol)
    refs = sorted(dataset.clips(), key=lambda ref: ref.clip_id)
    if not refs:
        raise DataError(f"the data set {dataset.name} has no clips under this protocol: {dataset.describe()}")
    clip_ids = [ref.clip_id for ref in refs]
    for method in methods:
        if isinstance(method, ChecksClips):
            method.check_clips(clip_ids)
    keys = {method.card.name: run_key(method.card, protocol, dataset) for method in methods}
    pending = [method for method in methods if store.find(keys[method.card.name]) is None]
    for method in methods:
        if method not in pending:
            log.info("%s is there already", method.card.name)
    if pending:
        _compute(pending, dataset, protocol, store, keys, clip_ids, device, batch_size, world, progress)
        world.barrier()
        if world.first:
            sources = [ref.source for ref in refs]
            scorer = Scorer(protocol, device)
            for method in pending:
                _assemble(method, dataset, scorer, store, keys[method.card.name], clip_ids, sources)
        world.barrier()
    return [_required(store, keys[method.card.name]) for method in methods]


def run_key(card: MethodCard, protocol: Protocol, dataset: DataSet) -> RunKey:
    """The key under which the record of `card` on `dataset` is stored."""
    facts = {"name": card.name, "revision": card.revision, "weights": dict(card.weights)}
    return RunKey(facts, protocol.hash, dataset.name, dataset.content_hash)


def check_fit(card: MethodCard, protocol: Protocol) -> None:
    """Checks that a method can do what the protocol asks.

    Raises:
        MethodError: too few context frames, no poke, no tracks, or a size or horizon that it cannot predict.
    """
    if protocol.context < card.min_context:
        raise MethodError(f"{card.name} needs {card.min_context} context frames, the protocol shows {protocol.context}")
    if "poke" in card.inputs and protocol.poke is None:
        raise MethodError(f"{card.name} takes a poke, the protocol gives none; add `poke` to the protocol")
    if "tracks" in card.inputs and protocol.tracks is None:
        raise MethodError(f"{card.name} takes tracks, the protocol gives none; add `tracks` to the protocol")
    if card.sizes is not None and protocol.size not in card.sizes:
        raise MethodError(f"{card.name} predicts {sorted(card.sizes)} px, the protocol has {protocol.size} px")
    if card.horizons is not None and protocol.horizon not in card.horizons:
        raise MethodError(
            f"{card.name} predicts {sorted(card.horizons)} frames, the protocol asks for {protocol.horizon}"
        )


def condition(
    clips: Sequence[Clip], protocol: Protocol, device: torch.device, flow: FlowSource | None = None
) -> tuple[Conditioning, Tensor]:
    """Splits clips into what a method may see and the frames to be predicted, float `[B, T, 3, H, W]` in [0, 1].

    Args:
        flow: of the data set; needed when the protocol has pokes. After a poke beside the object the frames to be
            predicted are x0: nothing is to move.

    Raises:
        DataError: a clip has another shape than the protocol says, or no poke or tracks can be drawn.
    """
    wanted = (protocol.length, 3, protocol.size, protocol.size)
    for clip in clips:
        if tuple(clip.frames.shape) != wanted or clip.frames.dtype != torch.uint8:
            raise DataError(
                f"clip {clip.clip_id}: expected uint8 {list(wanted)}, "
                f"found {clip.frames.dtype} {list(clip.frames.shape)}"
            )
    frames, poke = torch.stack([clip.frames for clip in clips]), None
    if protocol.poke is not None and flow is not None:
        poke = pokes_of(clips, flow, protocol.poke, protocol.seed)
        frames = still_targets(frames, poke, protocol.context)
    tracks = None
    if protocol.tracks is not None:
        tracks = tracks_of(clips, protocol.tracks, protocol.seed, protocol.context, device)
    frames = frames.to(device).float() / 255
    # Copies: not even in memory does a future frame lie behind the context.
    context, target = frames[:, : protocol.context].clone(), frames[:, protocol.context :].clone()
    ids = tuple(clip.clip_id for clip in clips)
    shown = Conditioning(context, ids, protocol.horizon, clips[0].frame_rate, poke, tracks)
    return shown.to(device), target


@torch.no_grad()
def predict(method: AnyMethod, conditioning: Conditioning, truth: Tensor, samples: int, seed: int) -> Tensor:
    """One checked prediction, float32 `[B, S, T, 3, H, W]`; `truth` goes to reference methods alone."""
    count = samples if method.card.stochastic else 1
    if "truth" in method.card.inputs:
        found = cast(TruthMethod, method).predict_from_truth(conditioning, truth, count, seed)
    else:
        found = cast(Method, method).predict(conditioning, count, seed)
    batch, _, _, height, width = conditioning.context.shape
    shape = (batch, count, conditioning.horizon, 3, height, width)
    return check_prediction(found, method.card.name, list(conditioning.clip_ids), shape).to(truth.device)


def _compute(
    methods: Sequence[AnyMethod],
    dataset: DataSet,
    protocol: Protocol,
    store: Store,
    keys: dict[str, RunKey],
    clip_ids: list[str],
    device: torch.device,
    batch_size: int,
    world: World,
    progress: Progress | None,
) -> None:
    batches = [clip_ids[start : start + batch_size] for start in range(0, len(clip_ids), batch_size)]
    mine = batches[world.rank :: world.size]
    todo: dict[str, set[str]] = {}
    for method in methods:
        done = {clip_id for ids, _, _ in store.parts(keys[method.card.name]).values() for clip_id in ids}
        todo[method.card.name] = {clip_id for batch in mine for clip_id in batch} - done
    total = sum(map(len, todo.values()))
    mine = [batch for batch in mine if any(todo[method.card.name].intersection(batch) for method in methods)]
    if not mine:
        return
    scorer, control = Scorer(protocol, device), ControlScorer(protocol, device)
    for method in methods:
        if todo[method.card.name]:
            method.prepare(device)
    facts = {
        "commit": provenance.commit(),
        "batch_size": batch_size,
        "processes": world.size,
        "hardware": provenance.hardware(str(device)),
    }
    flow = None if protocol.poke is None else FlowSource(dataset, protocol.flow, context=protocol.context)
    finished = 0
    for batch, clips in _loaded(dataset, mine):
        conditioning, target = condition(clips, protocol, device, flow)
        started = time.perf_counter()
        with torch.inference_mode():
            reference = scorer.reference(target)
            known = control.truth(clips, conditioning, target)
        reference_seconds = time.perf_counter() - started
        for method in methods:
            name = method.card.name
            rows = [row for row, clip_id in enumerate(batch) if clip_id in todo[name]]
            if not rows:
                continue
            shown = conditioning.select(rows)
            started = time.perf_counter()
            pred = predict(method, shown, target[rows], protocol.samples, protocol.seed)
            _wait(device)
            predicted = time.perf_counter()
            with torch.inference_mode():
                arrays = scorer.score(pred, select(reference, rows, len(batch)))
                again = partial(_again, method, target[rows], protocol)
                arrays |= control.score(pred, target[rows], shown, known and known.select(rows), again)
            if shown.poke is not None:
                arrays["poke/location"] = shown.poke.location.cpu().numpy()
                arrays["poke/displacement"] = shown.poke.displacement.cpu().numpy()
            seconds = {
                "predict_seconds": predicted - started,
                "score_seconds": time.perf_counter() - predicted + reference_seconds / len(methods),
            }
            store.write_part(keys[name], list(shown.clip_ids), arrays, {**facts, **seconds})
            finished += len(rows)
            if progress is not None:
                progress(finished, total)


def _again(method: AnyMethod, truth: Tensor, protocol: Protocol, conditioning: Conditioning) -> Tensor:
    return predict(method, conditioning, truth, protocol.samples, protocol.seed)


def _loaded(dataset: DataSet, batches: list[list[str]]) -> Iterator[tuple[list[str], list[Clip]]]:
    """Batches of clips; the next one is read while the caller works on the last."""

    def read(batch: list[str]) -> list[Clip]:
        return [dataset.load(clip_id) for clip_id in batch]

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read, batches[0])
        for number, batch in enumerate(batches):
            clips = coming.result()
            if number + 1 < len(batches):
                coming = reader.submit(read, batches[number + 1])
            yield batch, clips


def _assemble(
    method: AnyMethod,
    dataset: DataSet,
    scorer: Scorer,
    store: Store,
    key: RunKey,
    clip_ids: list[str],
    sources: list[str],
) -> None:
    parts = list(store.parts(key).values())
    missing = set(clip_ids).difference(*(ids for ids, _, _ in parts))
    if missing:
        raise RecordError(
            f"{method.card.name}: {len(missing)} of {len(clip_ids)} clips have no results in {store.root}; run the "
            "same command again. With several machines, the store must be a folder that all of them share."
        )
    arrays = merge([(ids, values) for ids, values, _ in parts], clip_ids)
    arrays = ControlScorer(scorer.protocol, torch.device("cpu")).finish(arrays, sources)
    heads = [facts for _, _, facts in parts]
    card = method.card
    record: dict[str, Any] = {
        "method": MethodFacts(
            name=card.name,
            title=card.title,
            revision=card.revision,
            inputs=tuple(sorted(card.inputs)),
            stochastic=card.stochastic,
            paper=card.paper,
            licence=card.licence,
            parameters=card.parameters,
            weights=dict(card.weights),
            notes=card.notes,
        ),
        "protocol": scorer.protocol,
        "protocol_hash": scorer.protocol.hash,
        "data": DataFacts(
            name=dataset.name,
            content_hash=dataset.content_hash,
            description=dataset.describe(),
            skipped=tuple(dataset.skipped),
        ),
        "clip_ids": tuple(clip_ids),
        "sources": tuple(sources),
        "samples": scorer.protocol.samples if card.stochastic else 1,
        "metrics": scorer.facts(),
        "set_results": set_results(scorer, arrays, sources),
        "provenance": Provenance(
            commits=tuple(sorted({head["commit"] for head in heads})),
            command=provenance.command(),
            finished=provenance.now(),
            seed=scorer.protocol.seed,
            batch_sizes=tuple(sorted({head["batch_size"] for head in heads})),
            processes=tuple(sorted({head["processes"] for head in heads})),
            packages=provenance.package_versions(),
            hardware=_distinct([head["hardware"] for head in heads]),
            predict_seconds=sum(head["predict_seconds"] for head in heads),
            score_seconds=sum(head["score_seconds"] for head in heads),
        ),
    }
    store.write(key, record, arrays)
    store.remove_parts(key)


def set_results(scorer: Scorer, arrays: Arrays, sources: list[str]) -> dict[str, SetResult]:
    """Set metrics of a record's features, each with its value or the reason why there is none."""
    found = {name: SetResult(refused=reason) for name, reason in scorer.refused.items()}
    for name, metric in scorer.sets.items():
        pred = torch.from_numpy(arrays[f"features/{metric.extractor}/pred"])
        target = torch.from_numpy(arrays[f"features/{metric.extractor}/target"])
        if len(pred) < scorer.protocol.min_clips:
            found[name] = SetResult(
                refused=f"needs {scorer.protocol.min_clips} clips under this protocol, there are {len(pred)}"
            )
            continue
        try:
            score = asdict(metric.value(pred, target, clusters=sources))
        except VideoError as error:
            found[name] = SetResult(refused=str(error))
            continue
        score.pop("frames")
        found[name] = SetResult(**score)
    return {name: found[name] for name in scorer.protocol.metrics if name in found}


def _distinct(values: list[dict[str, str]]) -> tuple[dict[str, str], ...]:
    return tuple(dict(items) for items in sorted({tuple(sorted(value.items())) for value in values}))


def _required(store: Store, key: RunKey) -> LoadedRecord:
    found = store.find(key)
    if found is None:
        raise RecordError(f"the record {key.folder} is not in {store.root}, which all processes must share")
    return found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
