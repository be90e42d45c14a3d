"""Everything that all numbers of a record share, in words: for the report, `bench trace` and `bench verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.record import LoadedRecord
from bench.store import RunKey

Lines = list[tuple[str, str]]
"""(label, value)."""


def record_folder(record: LoadedRecord) -> Path:
    """Folder of a record, relative to its store: the record's id."""
    facts = record.facts
    method = {"name": facts.method.name, "revision": facts.method.revision, "weights": facts.method.weights}
    return RunKey(method, facts.protocol_hash, facts.data.name, facts.data.content_hash).folder


def record_origin(record: LoadedRecord) -> list[dict[str, Any]]:
    """Everything that all numbers of a record share: sections of (label, value)."""
    facts = record.facts
    method, data, made = facts.method, facts.data, facts.provenance
    return [
        section(
            "Record",
            [
                ("record", record_folder(record).as_posix()),
                ("rows", f"{facts.arrays.file}, sha256 {facts.arrays.sha256}"),
                ("finished", made.finished),
                ("command", made.command),
                ("commit", ", ".join(made.commits) or "not known"),
                ("seed", str(made.seed)),
                ("wall time", f"{made.predict_seconds:.1f} s to predict, {made.score_seconds:.1f} s to score"),
                ("processes", _listed(made.processes)),
                ("batch size", _listed(made.batch_sizes)),
            ],
        ),
        section(
            "Method",
            [
                ("name", method.name),
                ("revision", method.revision),
                ("inputs", ", ".join(method.inputs)),
                ("samples", f"{facts.samples}{'' if method.stochastic else ' (deterministic)'}"),
                ("parameters", f"{method.parameters:,}"),
                *(("weights", f"{name}, sha256 {digest}") for name, digest in method.weights.items()),
                ("paper", method.paper),
                ("licence", method.licence),
                ("notes", method.notes),
            ],
        ),
        section(
            "Data",
            [
                ("name", data.name),
                ("content", data.content_hash),
                ("description", data.description),
                ("clips", str(len(facts.clip_ids))),
                ("sources", str(len(set(facts.sources)))),
                *(("left out", name) for name in data.skipped),
            ],
        ),
        section("Protocol", [("hash", facts.protocol_hash), *_fields(facts.protocol.model_dump(mode="json"))]),
        section("Packages", list(made.packages.items())),
        *(section("Hardware", list(machine.items())) for machine in made.hardware),
    ]


def section(title: str, lines: Lines) -> dict[str, Any]:
    """A titled list of what is known; lines without a value are left out."""
    return {"title": title, "lines": [list(line) for line in lines if line[1]]}


def _fields(fields: dict[str, Any]) -> Lines:
    return [(name, _plain(value)) for name, value in fields.items()]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return _listed(value)
    return "none" if value is None else str(value)


def _listed(values: Any) -> str:
    return ", ".join(map(str, values))
