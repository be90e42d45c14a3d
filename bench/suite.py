"""A suite with its data, its records and its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.data.interface import DataSet, Progress
from bench.data.registry import DATASETS, fetch_dataset, open_dataset, splits_of
from bench.distributed import World
from bench.evaluate import run_key
from bench.output import output_path
from bench.protocol import Protocol
from bench.record import LoadedRecord
from bench.store import Store
from bench.suite_file import Suite, load_suite
from bench.tables import Table, build_table
from bench.training.feed import open_training_data
from bench.training.plan import DataPlan
from methods.interface import MethodCard
from methods.registry import build_method
from metrics.cache import user_path
from metrics.errors import ProtocolError, RecordError
from metrics.parsing import parse_toml

EVALUATION_SPLITS = ("test", "validation", "train")
"""What a suite can be evaluated on."""


def parse_overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """Turns "size=128" into {"size": 128}; values are read as TOML, bare words as strings.

    Raises:
        ProtocolError: a pair has no "=", or names no protocol field.
    """
    overrides: dict[str, Any] = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign or key not in Protocol.model_fields:
            raise ProtocolError(
                f"--set {pair!r}: expected FIELD=VALUE with a field of: {', '.join(Protocol.model_fields)}"
            )
        if text == "none" and key != "quantise":
            overrides[key] = None
            continue
        try:
            overrides[key] = parse_toml(f"value = {text}")["value"]
        except ValueError:
            overrides[key] = text
    return overrides


def chosen_suite(
    name: str, data: str | None = None, methods: Sequence[str] = (), pairs: Sequence[str] = ()
) -> tuple[Suite, str]:
    """A suite with what the user replaces, and the data set or folder that is to be opened for it.

    Args and errors as `open_suite_data`; no data are looked at.
    """
    overrides = parse_overrides(pairs)
    where = data or overrides.get("dataset")
    if where is not None:
        if not isinstance(where, str) or not where or "\0" in where:
            raise ProtocolError(f"dataset: expected a data set's name or a folder, found {where!r}")
        registered = where in DATASETS
        overrides["dataset"] = where if registered else f"folder:{user_path(where).resolve().name}"
    suite = load_suite(name, overrides)
    if methods:
        suite = suite.model_copy(update={"methods": tuple(methods)})
    return suite, where or suite.protocol.dataset


def open_suite_data(
    name: str,
    data: str | None = None,
    methods: Sequence[str] = (),
    pairs: Sequence[str] = (),
    *,
    skip_unreadable: bool = False,
    fetch: bool = False,
    split: str = "test",
    world: World | None = None,
    progress: Progress | None = None,
) -> tuple[Suite, DataSet]:
    """Reads a suite, applies what the user replaces, and opens its data set.

    Args:
        name: a suite's name, or a .toml file.
        data: data set or folder in place of the suite's.
        methods: methods in place of the suite's; empty keeps them.
        pairs: protocol fields to replace, "FIELD=VALUE".
        skip_unreadable: leave out files that cannot be read.
        fetch: download the data set when it is not there and can be downloaded.
        split: "test" (all clips of data without splits), "train", or "validation": the clips that trainings on this
            data set hold out of its training split.
        world: this process among its peers; the first one prepares the data, the others wait for it.
        progress: called during download and preparation.

    Raises:
        ProtocolError, DataError, RegistryError: the suite, the data or a name is not valid, or data without a training
            split were asked for it.
    """
    if split not in EVALUATION_SPLITS:
        raise ProtocolError(f"split: expected one of {', '.join(EVALUATION_SPLITS)}, found {split!r}")
    suite, where = chosen_suite(name, data, methods, pairs)
    world = world or World()
    if not world.first:
        world.barrier()
    if fetch and world.first and where in DATASETS and not DATASETS.get(where).status().present:
        fetch_dataset(where, progress)
    if split != "test" and "train" not in splits_of(where):
        raise ProtocolError(
            f"{split} clips: expected a data set with a training split, found {where}; `bench data list` shows data "
            "sets, and `bench data prepare folder` splits a folder of videos"
        )
    if split == "validation":
        opened = open_validation_data(suite.protocol, where, skip_unreadable=skip_unreadable, progress=progress)
    else:
        opened = open_protocol_data(
            suite.protocol,
            where,
            skip_unreadable=skip_unreadable,
            split="train" if split == "train" else None,
            progress=progress,
        )
    if world.first:
        world.barrier()
    return suite, opened


def open_protocol_data(
    protocol: Protocol,
    where: str | None = None,
    *,
    skip_unreadable: bool = False,
    split: str | None = None,
    progress: Progress | None = None,
) -> DataSet:
    """Opens a data set as a protocol says.

    Args:
        where: a data set's name or a folder; None: the protocol's.
        split: see `bench.data.registry.open_dataset`.

    Raises:
        DataError, RegistryError: the data cannot be opened.
    """
    return open_dataset(
        where or protocol.dataset,
        size=protocol.size,
        length=protocol.length,
        frame_rate=protocol.frame_rate,
        max_clips=protocol.clips,
        clips_per_source=protocol.clips_per_source,
        seed=protocol.seed,
        skip_unreadable=skip_unreadable,
        split=split,
        progress=progress,
    )


def open_validation_data(
    protocol: Protocol, where: str, *, skip_unreadable: bool = False, progress: Progress | None = None
) -> DataSet:
    """The clips that trainings hold out of the training split of `where`, of a protocol's size and length.

    Choices that are made on these leave the test clips unseen.

    Raises:
        DataError, RegistryError: the data cannot be opened.
    """
    shared = ("size", "context", "horizon", "frame_rate", "seed")
    plan = DataPlan.model_validate({"dataset": where, **{name: getattr(protocol, name) for name in shared}})
    held = open_training_data(plan, progress, skip_unreadable=skip_unreadable).validation
    assert held is not None  # the plan's default holds some out
    return held


def suite_record(card: MethodCard, suite: Suite, dataset: DataSet, store: Path) -> LoadedRecord:
    """The record of one method of a suite in `store`.

    Raises:
        RecordError: there is none yet.
    """
    found = Store(store).find(run_key(card, suite.protocol, dataset))
    if found is None:
        raise RecordError(
            f"{card.name} has no record for this suite in {store}; "
            f"run `bench evaluate {suite.name}` with the same options"
        )
    return found


def suite_records(suite: Suite, dataset: DataSet, store: Path) -> list[LoadedRecord]:
    """The records of a suite in `store`, one a method.

    Raises:
        RecordError: a method has no record yet.
    """
    return [suite_record(build_method(spec).card, suite, dataset, store) for spec in suite.methods]


def suite_table(suite: Suite, dataset: DataSet, store: Path) -> Table:
    """The table of a suite from the records in `store`; errors as `suite_records`."""
    return build_table(suite.title, suite_records(suite, dataset, store))


def write_table(table: Table, folder: Path, name: str) -> None:
    """Writes NAME.md, NAME.tex and NAME.csv; NAME may begin with folders.

    Raises:
        OutputError: they cannot be written.
    """
    for ending, text in (
        ("md", table.markdown()),
        ("tex", table.latex()),
        ("csv", table.frame().to_csv(index=False)),
    ):
        with output_path(folder / f"{name}.{ending}") as temporary:
            temporary.write_text(text)
