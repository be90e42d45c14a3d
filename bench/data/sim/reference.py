"""The manifest: sha256 of every shard as made with the reference versions, and what to say when a machine differs.

`python -m bench.data.sim.reference SIZE [SPLIT ...]` makes the splits (default: all) at SIZE px and writes their hashes
into the manifest. It is run by whoever raises `splits.VERSION`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from bench.data.sim.generate import ensure_shards
from bench.data.sim.shards import Shard
from bench.data.sim.splits import SPLITS, VERSION, Split
from metrics.cache import atomic_path
from metrics.errors import DataError

MANIFEST = "manifest.json"
"""Beside this module: {"version", "made_with", "shards": {"<split>/<size>": [content sha256, ...]}}."""


@cache
def manifest() -> dict[str, Any]:
    """The manifest of this version of the world."""
    return json.loads(files("bench.data.sim").joinpath(MANIFEST).read_text())


def reference_hashes(split: Split, size: int) -> list[str] | None:
    """Content sha256 of each shard; None where the manifest has none for this size."""
    known = manifest()
    if known["version"] != VERSION:
        return None
    return known["shards"].get(f"{split.name}/{size}")


def difference(split: Split, size: int, shards: Sequence[tuple[int, Shard]]) -> str:
    """What to tell the user when stored shards (number, shard) are not those of the manifest; "" when they are."""
    expected = reference_hashes(split, size)
    if expected is None:
        return ""
    differ = [shard for number, shard in shards if shard.content_sha256 != expected[number]]
    if not differ:
        return ""
    here = ", ".join(f"{name} {value}" for name, value in sorted(differ[0].made_with.items()))
    there = ", ".join(f"{name} {value}" for name, value in sorted(manifest()["made_with"].items()))
    return (
        f"{len(differ)} of {len(shards)} shards of {split.name} at {size} px differ from the reference. Made here with "
        f"{here}; the reference with {there}. The scenes are the same, but some pixels differ slightly, and so may "
        "scores: compare only results with the same data hash, or install the reference versions."
    )


def record(split: Split, size: int, path: Path) -> None:
    """Makes a split at `size` px and writes the hashes of its shards into the manifest at `path`.

    Raises:
        DataError: the shards of one manifest would come from different versions of MuJoCo or numpy.
    """
    shards = ensure_shards(split, size)
    known = json.loads(path.read_text()) if path.is_file() else {}
    if known.get("version") != VERSION:
        known = {"version": VERSION, "made_with": shards[0].made_with, "shards": {}}
    if any(shard.made_with != known["made_with"] for shard in shards):
        raise DataError(
            f"the manifest was made with {known['made_with']}, some shards of {split.name} with other versions; "
            "remove the stored shards and make all of them with one set of versions"
        )
    known["shards"][f"{split.name}/{size}"] = [shard.content_sha256 for shard in shards]
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def _main() -> None:
    size, *names = sys.argv[1:]
    for name in names or SPLITS:
        record(SPLITS[name], int(size), Path(__file__).with_name(MANIFEST))


if __name__ == "__main__":
    _main()
