"""Bytes that an evaluation writes, counted with the writers themselves, and memory that grows with the clips."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.numpy import save

from bench import provenance
from bench.evaluation.scoring import Scorer
from bench.flow.registry import EXACT
from bench.protocol import Protocol
from bench.record import ArrayFile, DataFacts, MethodFacts, Provenance, Record, SetResult
from methods.interface import MethodCard
from metrics.base import METRICS
from metrics.control_metrics import Retrieval

FEATURES = 400
"""Numbers that I3D gives for a clip."""
COPIES = 6
"""How many times its arrays a record takes in memory while it is put together: the parts, the whole, the file's
content, and features in float64. Measured from 256 to 4096 clips: 20 kB a clip, whose arrays are 3.3 kB."""

Shapes = dict[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Storage:
    """Bytes.

    Attributes:
        records: of all records, with their arrays.
        features: the share of features in them.
        unfinished: of the results of all batches, which are there until the records are written.
        flow: estimated flow in the user cache, from which pokes are drawn.
        frames: of the clips, uncompressed: what a prepared data set takes for them.
        growth: memory that the largest record takes while it is put together.
    """

    records: int
    features: int
    unfinished: int
    flow: int
    frames: int
    growth: int


def storage(
    cards: Sequence[MethodCard],
    protocol: Protocol,
    ids: Sequence[tuple[str, str]],
    *,
    batch_size: int,
    hardware: dict[str, str],
) -> Storage:
    """What an evaluation of `cards` takes on disk.

    Args:
        ids: clip id and source of each clip.
    """
    clips = len(ids)
    records, features, unfinished, largest = 0, 0, 0, 0
    for card in cards:
        shapes = array_shapes(protocol, protocol.samples if card.stochastic else 1)
        arrays = file_bytes(shapes, clips)
        records += arrays + record_bytes(card, protocol, ids, batch_size, hardware)
        features += clips * sum(_row(*shape) for name, shape in shapes.items() if name.startswith("features/"))
        largest = max(largest, clips * sum(_row(*shape) for shape in shapes.values()))
        without = {name: shape for name, shape in shapes.items() if name != f"clip/{Retrieval.card.name}"}
        for start in range(0, clips, batch_size):
            batch = ids[start : start + batch_size]
            unfinished += file_bytes(without, len(batch)) + _head_bytes([clip_id for clip_id, _ in batch], hardware)
    drawn = protocol.poke is not None and protocol.poke.source == "flow" and protocol.flow != EXACT
    area = protocol.size**2
    return Storage(
        records=records,
        features=features,
        unfinished=unfinished,
        flow=clips * 8 * area if drawn else 0,
        frames=clips * protocol.length * 3 * area,
        growth=COPIES * largest,
    )


def array_shapes(protocol: Protocol, samples: int) -> Shapes:
    """Type and shape, without the first axis, of each array of a record; see `bench.record.Arrays`."""
    found: Shapes = {}
    for name in protocol.metrics:
        metric = METRICS.get(name)
        if metric.card.kind == "frame":
            found[f"frame/{name}"] = ("f8", (samples, protocol.horizon))
        elif metric.card.kind == "clip":
            found[f"clip/{name}"] = ("f8", (samples,))
        elif protocol.horizon >= metric.card.min_frames:
            for kind in ("pred", "target"):
                found[f"features/{metric.extractor}/{kind}"] = ("f4", (FEATURES,))
    if Retrieval.card.name in protocol.metrics:
        side = protocol.size // Retrieval.CELL
        found["response/pred"], found["response/truth"] = ("f4", (samples, 2, side, side)), ("f4", (2, side, side))
    if protocol.poke is not None:
        found["poke/location"] = found["poke/displacement"] = ("f4", (2,))
    return found


def file_bytes(shapes: Shapes, clips: int) -> int:
    """Size of a safetensors file of these arrays."""
    one = {name: np.zeros((1, *shape), kind) for name, (kind, shape) in shapes.items()}
    return len(save(one)) + (clips - 1) * sum(array.nbytes for array in one.values())


def record_bytes(
    card: MethodCard,
    protocol: Protocol,
    ids: Sequence[tuple[str, str]],
    batch_size: int,
    hardware: dict[str, str],
) -> int:
    """Size of record.json: that of a record with the same words and numbers of the usual length."""
    value = 123.456789012345
    score = SetResult(value=value, standard_error=value, bias_corrected=value, n_pred=len(ids), n_target=len(ids))
    facts = Scorer(protocol, torch.device("cpu")).facts()
    record = Record(
        method=MethodFacts.of(card),
        protocol=protocol,
        protocol_hash=protocol.hash,
        data=DataFacts(name=protocol.dataset, content_hash="0" * 64, description="clips, sources, size, rate " * 3),
        clip_ids=_distinct([clip_id for clip_id, _ in ids]),
        sources=tuple(source for _, source in ids),
        samples=protocol.samples,
        metrics=facts,
        set_results={name: score for name in protocol.metrics if METRICS.get(name).card.kind == "set"},
        provenance=Provenance(
            commits=("0" * 40,),
            command="bench evaluate " + protocol.dataset,
            finished=provenance.now(),
            seed=protocol.seed,
            batch_sizes=(batch_size,),
            processes=(1,),
            packages=provenance.package_versions(),
            hardware=(hardware,),
            predict_seconds=value,
            score_seconds=value,
        ),
        arrays=ArrayFile(file="rows-0123456789ab.safetensors", sha256="0" * 64),
    )
    return len(record.model_dump_json(indent=1)) + 1


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Names of the same lengths; numbered where they repeat, as those of data that are not there."""
    if len(set(names)) == len(names):
        return tuple(names)
    return tuple(f"{place:0{len(name)}d}" for place, name in enumerate(names))


def _head_bytes(clip_ids: list[str], hardware: dict[str, str]) -> int:
    """What a part says of itself besides its arrays."""
    facts = {
        "commit": "0" * 40,
        "batch_size": len(clip_ids),
        "processes": 1,
        "hardware": hardware,
        "predict_seconds": 0.123456789012345,
        "score_seconds": 0.123456789012345,
    }
    head = {"clip_ids": json.dumps(clip_ids), "facts": json.dumps(facts), "checksum": "0" * 64}
    return len(json.dumps({"__metadata__": head}))


def _row(kind: str, shape: tuple[int, ...]) -> int:
    return np.dtype(kind).itemsize * math.prod(shape)
