"""The record of a method from the parts of its evaluation, once every clip has its results."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from bench import provenance
from bench.data.interface import DataSet
from bench.evaluation.prediction import AnyMethod
from bench.evaluation.response import ControlScorer
from bench.evaluation.scoring import Scorer, merge
from bench.record import Arrays, DataFacts, MethodFacts, Provenance, SetResult
from bench.store import RunKey, Store
from metrics.errors import RecordError, VideoError


def assemble(
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
    arrays, heads = merge([(ids, values) for ids, values, _ in parts], clip_ids), [facts for _, _, facts in parts]
    del parts  # as many bytes as the arrays
    arrays = ControlScorer(scorer.protocol, torch.device("cpu")).finish(arrays, sources)
    card = method.card
    record: dict[str, Any] = {
        "method": MethodFacts.of(card),
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
