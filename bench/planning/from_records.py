"""Measurements that stored records carry: seconds of prediction and of scoring, with the hardware that took them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from bench.planning.costs import CALL, Answerer, Equation, added, predict_amounts, score_amounts, score_parts, times
from bench.record import Record

SAME = ("processor", "gpu")
"""What must agree for seconds to be comparable, besides the kind of device."""


def record_equations(records: Iterable[Record], hardware: Mapping[str, str]) -> list[Equation]:
    """Two equations, predictions and scores, for each record that one machine like this one made.

    Seconds of records are sums over processes, so their number does not matter.

    Args:
        hardware: as `bench.provenance.hardware` of the device that is planned for.
    """
    fitting = [record for record in records if _like(record.provenance.hardware, hardware)]
    together = Counter(_group(record) for record in fitting)
    found = []
    for record in fitting:
        protocol, clips = record.protocol, len(record.clip_ids)
        method = Answerer(record.method.name, record.samples, "poke" in record.method.inputs)
        batches = clips / max(record.provenance.batch_sizes)
        shape = (protocol.size, protocol.horizon)
        predicted = times(predict_amounts(protocol, method), clips)
        scored = times(score_amounts(protocol, method, together[_group(record)]), clips)
        calls = batches * len(score_parts(protocol))
        found += [
            Equation(added(predicted, {CALL: batches}), record.provenance.predict_seconds, "record", shape),
            Equation(added(scored, {CALL: calls}), record.provenance.score_seconds, "record", shape),
        ]
    return found


def _group(record: Record) -> tuple[str, str]:
    return record.protocol_hash, record.data.content_hash


def _like(found: tuple[dict[str, str], ...], wanted: Mapping[str, str]) -> bool:
    return len(found) == 1 and all(
        [
            found[0].get("device", "").partition(":")[0] == wanted["device"].partition(":")[0],
            *(found[0].get(name) == wanted.get(name) for name in SAME),
        ]
    )
