"""Methods x data set -> records, in one pass: each clip is decoded once, predicted once, and scored by all metrics.

The clips, sorted by id, are cut into batches; the results of a batch are kept on disk as soon as they are there, so a
run that is killed at any moment goes on where it was. Batch i belongs to process i modulo the number of processes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext

import torch

from bench.data.interface import DataSet
from bench.distributed import World
from bench.evaluation.assemble import assemble
from bench.evaluation.compute import Progress, Run, compute
from bench.evaluation.prediction import AnyMethod, told_apart
from bench.evaluation.scoring import Scorer
from bench.flow.source import FlowSource
from bench.protocol import Protocol
from bench.record import LoadedRecord
from bench.store import RunKey, Store
from methods.interface import ChecksClips, MethodCard
from metrics.errors import DataError, MethodError, RecordError

log = logging.getLogger(__name__)


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
        batch_size: clips predicted at once; results do not depend on it beyond rounding (1e-6). Where so many do not
            fit in memory, it is halved, with a warning.
        world: this process among those of torchrun; None: alone.

    Returns:
        One record a method, in the given order.

    Raises:
        MethodError: a method cannot do what the protocol asks, or returned something that cannot be scored.
        DataError: a clip cannot be read or has another shape.
        RecordError: results cannot be written.
        KeyboardInterrupt: it was interrupted, and says how many clips are done. In all cases, what was computed before
            is kept and used next time.
    """
    world = world or World()
    device = torch.device(device)
    named = told_apart(methods)
    for method in methods:
        check_fit(method.card, protocol)
    refs = sorted(dataset.clips(), key=lambda ref: ref.clip_id)
    if not refs:
        raise DataError(f"the data set {dataset.name} has no clips under this protocol: {dataset.describe()}")
    clip_ids = [ref.clip_id for ref in refs]
    for method in methods:
        if isinstance(method, ChecksClips):
            method.check_clips(clip_ids)
    keys = {name: run_key(method.card, protocol, dataset) for name, method in named.items()}
    found = {name: store.find(keys[name]) for name in named}
    open_keys = [keys[name] for name in named if found[name] is None or store.unfinished(keys[name])]
    with store.alone(open_keys) if world.first else nullcontext():
        world.barrier()  # from here on, no other run changes which records there are
        found = {name: found[name] or store.find(keys[name]) for name in named}
        for name in named:
            if found[name] is not None:
                log.info("%s is there already", name)
                if world.first:
                    store.remove_parts(keys[name])  # left by a run that was killed just after it wrote its record
        pending = {name: method for name, method in named.items() if found[name] is None}
        if pending:
            if protocol.poke is not None and world.size > 1:
                # Files of flow hold the clips of several batches: each process makes its share of them first.
                FlowSource(dataset, protocol.flow, context=protocol.context).prepare(share=(world.rank, world.size))
                world.barrier()
            compute(Run(pending, dataset, protocol, store, keys, clip_ids, device, batch_size, world, progress))
            world.barrier()
            if world.first:
                sources = [ref.source for ref in refs]
                scorer = Scorer(protocol, device)
                for name, method in pending.items():
                    assemble(method, dataset, scorer, store, keys[name], clip_ids, sources)
        world.barrier()
    return [found[name] or _required(store, keys[name]) for name in named]


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
        raise MethodError(f"{card.name} takes a poke, the protocol gives none; add `poke`: --set poke={{}}")
    if "tracks" in card.inputs and protocol.tracks is None:
        raise MethodError(f"{card.name} takes tracks, the protocol gives none; add `tracks`: --set tracks={{}}")
    if card.sizes is not None and protocol.size not in card.sizes:
        raise MethodError(f"{card.name} predicts {sorted(card.sizes)} px, the protocol has {protocol.size} px")
    if card.horizons is not None and protocol.horizon not in card.horizons:
        raise MethodError(
            f"{card.name} predicts {sorted(card.horizons)} frames, the protocol asks for {protocol.horizon}"
        )


def _required(store: Store, key: RunKey) -> LoadedRecord:
    found = store.find(key)
    if found is None:
        raise RecordError(f"the record {key.folder} is not in {store.root}, which all processes must share")
    return found
