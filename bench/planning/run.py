"""What `bench plan` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from bench import provenance
from bench.data.registry import DATASETS
from bench.data.sim.splits import SPLITS
from bench.planning.calibration import Progress, calibrate
from bench.planning.costs import CALL, fit, predict_column
from bench.planning.from_records import record_equations
from bench.planning.methods_of import measurable
from bench.planning.plan import Plan, plan
from bench.planning.storage import storage
from bench.protocol import Protocol
from bench.store import Store
from bench.suite import chosen_suite, open_protocol_data
from metrics.errors import DataError

TYPICAL = ("source-00000-name@000", "source-00000")
"""A clip id and its source, of the usual length."""


def make_plan(
    suite: str,
    *,
    data: str | None = None,
    methods: Sequence[str] = (),
    pairs: Sequence[str] = (),
    stores: Sequence[Path] = (),
    clips: int | None = None,
    skip_unreadable: bool = False,
    processes: int = 1,
    device: torch.device | None = None,
    batch_size: int = 8,
    calibrated: bool = False,
    progress: Progress | None = None,
) -> Plan:
    """Plans the evaluation of a suite.

    Args:
        suite, data, methods, pairs, skip_unreadable: as `bench.suite.open_suite_data`.
        stores: folders of records whose seconds are used, where they are of hardware like this.
        clips: of the data set, where it is not there and the protocol does not say it.
        processes: among which the clips are divided, each with a device of its own.
        device: that is planned for, and measured.
        calibrated: whether generated clips are evaluated now, for a short while.

    Raises:
        DataError: the number of clips is not known.
        ProtocolError, RegistryError: the suite or a name is not valid.
        RecordError: a record is damaged.
    """
    chosen, where = chosen_suite(suite, data, methods, pairs)
    protocol, device = chosen.protocol, device or torch.device("cpu")
    ids = _ids(protocol, where, clips, skip_unreadable)
    built, unknown = measurable(chosen)
    hardware = provenance.hardware(str(device))
    equations = record_equations(
        (record.facts for store in stores if store.is_dir() for record in Store(store).records()), hardware
    )
    calibration = None
    if calibrated:
        calibration = calibrate(
            built, protocol, len(ids), device=device, batch_size=min(batch_size, len(ids)), progress=progress
        )
        # What was measured at this very shape, here and now, is not mixed with what was measured otherwise.
        lacking = {CALL, *(predict_column(name) for name in calibration.refused)}
        equations = [e for e in equations if lacking.issuperset(e.amounts)] + calibration.equations
        unknown += [f"{name}: {reason}" for name, reason in calibration.refused.items()]
    cards = [method.card for method in built]
    stored = storage(cards, protocol, ids, batch_size=batch_size, hardware=hardware)
    return plan(
        chosen.title,
        cards,
        protocol,
        len(ids),
        fit(equations),
        stored,
        batch_size=batch_size,
        processes=processes,
        device=str(device),
        calibration=calibration,
        unknown=unknown,
    )


def _ids(protocol: Protocol, where: str, clips: int | None, skip_unreadable: bool) -> list[tuple[str, str]]:
    """Clip id and source of each clip; of the usual length, where the data need not be looked at to count them."""
    split = SPLITS.get(where)
    counts = (clips, protocol.clips, None if split is None else split.clips)
    most = [count for count in counts if count is not None]
    if most:
        return [TYPICAL] * min(most)
    if where in DATASETS and not DATASETS.get(where).status().present:
        raise DataError(
            f"{where} is not there, and its protocol takes all clips: say with --clips how many there will be. "
            f"{DATASETS.get(where).status().detail}"
        )
    opened = open_protocol_data(protocol, where, skip_unreadable=skip_unreadable)
    return [(ref.clip_id, ref.source) for ref in opened.clips()]
