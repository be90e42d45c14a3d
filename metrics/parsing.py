"""JSON and TOML that come from anywhere: every fault of the text is a ValueError; objects that carry a checksum."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metrics.cache import hash_of

CHECKSUM = "checksum"
"""Key of a sealed object under which the sha256 of all its other entries stands."""
DEEPEST = 64
"""Most objects and lists within each other; nothing that this program writes comes near it."""


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: not JSON, not UTF-8, or nested more than DEEPEST deep.
    """
    try:
        return _shallow(json.loads(text))
    except RecursionError as error:
        raise ValueError(f"it is nested more than {DEEPEST} deep") from error


def read_json(path: Path) -> Any:
    """What a JSON file says.

    Raises:
        ValueError: as `parse_json`.
        OSError: it cannot be read.
    """
    return parse_json(path.read_bytes())


def read_object(path: Path) -> dict[str, Any]:
    """What a JSON file says that holds an object; errors as `read_json`, ValueError for anything else."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"expected an object, found a {type(content).__name__}")
    return content


def parse_toml(text: str) -> dict[str, Any]:
    """What a TOML text says.

    Raises:
        ValueError: not TOML, or nested more than DEEPEST deep.
    """
    try:
        return dict(_shallow(tomllib.loads(text)))
    except RecursionError as error:
        raise ValueError(f"it is nested more than {DEEPEST} deep") from error


def sealed(facts: Mapping[str, Any]) -> dict[str, Any]:
    """JSON-able facts with a checksum over them all, whatever their order."""
    return {**facts, CHECKSUM: hash_of(dict(facts))}


def unsealed(content: Any) -> dict[str, Any]:
    """The facts of a sealed object, without the checksum. One that states none is of before there were any.

    Raises:
        ValueError: not an object, or its checksum is not that of its facts.
    """
    if not isinstance(content, dict):
        raise ValueError(f"expected an object, found a {type(content).__name__}")
    facts = {key: value for key, value in content.items() if key != CHECKSUM}
    if CHECKSUM in content and content[CHECKSUM] != hash_of(facts):
        raise ValueError("its content is not what its checksum says")
    return facts


def _shallow(value: Any) -> Any:
    level = [value]
    for _ in range(DEEPEST):
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, (dict, list))]
        if not inner:
            return value
        level = [deeper for items in inner for deeper in items]
    raise ValueError(f"it is nested more than {DEEPEST} deep")
