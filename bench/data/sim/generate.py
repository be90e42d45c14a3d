"""Makes the missing shards of a split with several processes at once.

Each process is this module run as a program, see `bench.data.workers`: a job is the number of a shard; it answers once
a scene and once a shard. A shard that was finished stays; after an interruption only the others are made.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.data.interface import Progress
from bench.data.sim.render import check_size
from bench.data.sim.shards import Shard, shard_folder, stored_shard, write_shard
from bench.data.sim.splits import Split
from bench.data.workers import available_processes, run_jobs, said, serve_jobs
from metrics.errors import DataError, PokeBenchError


def ensure_shards(
    split: Split,
    size: int,
    wanted: Sequence[int] | None = None,
    *,
    processes: int | None = None,
    progress: Progress | None = None,
    folder: Path | None = None,
) -> list[Shard]:
    """The shards `wanted` (default: all) of a split at `size` px, made where they are missing or damaged.

    Args:
        processes: at most this many work at once; None: as many as there are CPUs.
        progress: called with the number of clips made, their total, and the name of the split.
        folder: where the shards lie; None: in the user cache.

    Raises:
        DataError: `size` cannot be drawn, or a shard cannot be made.
        CacheError: the user cache cannot be written.
    """
    check_size(size)
    numbers = list(range(split.shards)) if wanted is None else list(wanted)
    folder = folder or shard_folder(split, size)
    stored = {number: stored_shard(split, size, number, folder) for number in numbers}
    missing = [number for number in numbers if stored[number] is None]
    if missing:
        report = _Report(split, missing, progress)
        workers = min(len(missing), processes or available_processes())
        if workers == 1:
            for number in missing:
                write_shard(split, size, number, folder, report.add)
        else:
            arguments = [json.dumps(asdict(split)), str(size), str(folder)]
            jobs = [str(number) for number in missing]
            run_jobs(
                "bench.data.sim.generate", arguments, jobs, workers, "shards of the simulated world", report.answered
            )
        for number in missing:
            stored[number] = stored_shard(split, size, number, folder)
    found = [shard for shard in stored.values() if shard is not None]
    if len(found) != len(numbers):
        raise DataError(f"shards of {split.name} in {folder} vanished while they were made; check the disk")
    return found


class _Report:
    """Counts finished clips for the progress bar."""

    def __init__(self, split: Split, missing: Sequence[int], progress: Progress | None) -> None:
        last = split.shards - 1
        short = split.scenes_per_shard * split.shards - split.scenes
        scenes = len(missing) * split.scenes_per_shard - (short if last in missing else 0)
        self.total = scenes * split.clips_per_scene
        self.name, self.progress, self.done = split.name, progress, 0
        self.add(0)

    def add(self, clips: int) -> None:
        self.done += clips
        if self.progress is not None:
            self.progress(self.done, self.total, f"simulating {self.name}")

    def answered(self, number: int, answer: dict[str, Any]) -> bool:
        """Takes in one answer of a worker.

        Raises:
            DataError: the shard cannot be made.
        """
        if "error" in answer:
            raise DataError(answer["error"])
        if "clips" in answer:
            self.add(answer["clips"])
        return "shard" in answer


def _shard_maker(split: Split, size: int, folder: Path) -> Callable[[str], None]:
    def work(line: str) -> None:
        try:
            write_shard(split, size, int(line), folder, lambda clips: said(clips=clips))
        except PokeBenchError as error:
            said(error=str(error))
        else:
            said(shard=int(line))

    return work


def _main() -> None:
    facts, size, folder = sys.argv[1:]
    table = json.loads(facts)
    table["kinds"] = tuple(table["kinds"])
    serve_jobs(_shard_maker(Split(**table), int(size), Path(folder)))


if __name__ == "__main__":
    _main()
