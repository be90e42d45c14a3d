"""Old records stay readable: for each older schema version, the step to the next one, applied on reading.

Nothing on disk is changed. The versions:

1. The first. Its earliest records have protocols without `poke` and `flow`: there were no pokes, and no flow was
   needed. When these two fields came, they entered every protocol's hash.
2. Every protocol has `poke` and `flow`, and its hash covers them.

A field that is added with a value that means "as before" needs no new version: the protocol leaves it out of the hash
while it has that value (`LATER_FIELDS`). Anything else does: a field renamed or removed, or one whose meaning changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bench.protocol import PROTOCOL_VERSION
from bench.record import SCHEMA_VERSION
from metrics.cache import hash_of
from metrics.errors import RecordError
from metrics.parsing import unsealed

Content = dict[str, Any]
"""What a record.json holds."""

FIRST_PROTOCOL = {"poke": None, "flow": "dis"}
"""Fields that the earliest protocols of version 1 lack, with what their absence meant."""


def upgraded(content: Any) -> Content:
    """What a record.json of any version holds, as the present version has it; `content` itself is left as it is.

    Raises:
        RecordError: not a record, without a version, or of a version that is newer than this program.
    """
    if not isinstance(content, dict) or type(content.get("schema_version")) is not int:
        raise RecordError(
            "expected a record with a whole number as its schema_version, found "
            f"{content.get('schema_version') if isinstance(content, dict) else type(content).__name__!r}. "
            "Restore the file, or remove its folder and evaluate again."
        )
    version = content["schema_version"]
    if version > SCHEMA_VERSION:
        raise RecordError(
            f"schema version {version} is newer than {SCHEMA_VERSION}, the newest that this program reads. A newer "
            "release wrote this record: update the program to read it."
        )
    try:
        content = unsealed(content)
    except ValueError as error:
        raise RecordError(f"{error}: it is damaged. Restore it, or remove its folder and evaluate again.") from error
    if version < min(UPGRADES):
        raise RecordError(f"there has never been a schema version {version}; restore the file")
    while version < SCHEMA_VERSION:
        content = {**UPGRADES[version](content), "schema_version": version + 1}
        version += 1
    return content


def _from_1(content: Content) -> Content:
    """Writes out the fields of the earliest protocols; a hash that was right for them becomes today's."""
    before = content.get("protocol")
    if not isinstance(before, dict) or FIRST_PROTOCOL.keys() <= before.keys():
        return content
    protocol, found = {**FIRST_PROTOCOL, **before}, content.get("protocol_hash")
    if found == _first_hash(before, content):
        found = _first_hash(protocol, content)
    return {**content, "protocol": protocol, "protocol_hash": found}


def _first_hash(protocol: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """The hash over exactly the fields that `protocol` has, with the metric versions of the record."""
    metrics = content.get("metrics")
    known = metrics.items() if isinstance(metrics, dict) else ()
    versions = {name: facts.get("version") for name, facts in known if isinstance(facts, dict)}
    return hash_of({"protocol_version": PROTOCOL_VERSION, "metric_versions": versions, **protocol})[:12]


UPGRADES: dict[int, Callable[[Content], Content]] = {1: _from_1}
"""Version -> what makes a record of the next version of it."""
