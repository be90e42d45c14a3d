"""Makes the missing shards of a split with several processes at once.

Each process is this module run as a program (`python -m bench.data.sim.generate`): it reads numbers of shards from its
standard input and answers on its standard output with one JSON object per scene and per shard. A shard that was
finished stays; after an interruption only the others are made.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.data.interface import Progress
from bench.data.sim.render import check_size
from bench.data.sim.shards import Shard, shard_folder, stored_shard, write_shard
from bench.data.sim.splits import Split
from metrics.errors import DataError, PokeBenchError


def available_processes() -> int:
    """Number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
            _Crew(split, size, folder, report).work(missing, workers)
        for number in missing:
            stored[number] = stored_shard(split, size, number, folder)
    found = [shard for shard in stored.values() if shard is not None]
    if len(found) != len(numbers):
        raise DataError(f"shards of {split.name} in {folder} vanished while they were made; check the disk")
    return found


class _Report:
    """Counts finished clips for the progress bar; safe to call from several threads."""

    def __init__(self, split: Split, missing: Sequence[int], progress: Progress | None) -> None:
        last = split.shards - 1
        short = split.scenes_per_shard * split.shards - split.scenes
        scenes = len(missing) * split.scenes_per_shard - (short if last in missing else 0)
        self.total = scenes * split.clips_per_scene
        self.name, self.progress, self.done = split.name, progress, 0
        self.lock = threading.Lock()
        self.add(0)

    def add(self, clips: int) -> None:
        with self.lock:
            self.done += clips
            if self.progress is not None:
                self.progress(self.done, self.total, f"simulating {self.name}")


class _Crew:
    """Worker processes that take shards from one queue."""

    def __init__(self, split: Split, size: int, folder: Path, report: _Report) -> None:
        self.arguments = [json.dumps(asdict(split)), str(size), str(folder)]
        self.report = report
        self.faults: list[str] = []

    def work(self, missing: Sequence[int], workers: int) -> None:
        """Makes the shards `missing`; on a fault or an interruption all workers are stopped."""
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in missing:
            waiting.put(number)
        processes = [self._start() for _ in range(workers)]
        threads = [threading.Thread(target=self._serve, args=(p, waiting), daemon=True) for p in processes]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            for process in processes:
                process.kill()
                process.wait()
        if self.faults:
            raise DataError(self.faults[0])

    def _start(self) -> subprocess.Popen[str]:
        paths = os.pathsep.join(path for path in sys.path if path)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        return subprocess.Popen(
            [sys.executable, "-m", "bench.data.sim.generate", *self.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **threads, "PYTHONPATH": paths},
        )

    def _serve(self, process: subprocess.Popen[str], waiting: queue.SimpleQueue[int]) -> None:
        """Hands shards to one worker until none is left or a worker failed."""
        assert process.stdin is not None
        assert process.stdout is not None
        while not self.faults:
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                process.stdin.write(f"{number}\n")
                process.stdin.flush()
            except BrokenPipeError:
                self.faults.append(_last_words(process, number))
                return
            for line in process.stdout:
                said = json.loads(line)
                if "clips" in said:
                    self.report.add(said["clips"])
                elif "error" in said:
                    self.faults.append(said["error"])
                    return
                else:
                    break
            else:
                self.faults.append(_last_words(process, number))
                return


def _last_words(process: subprocess.Popen[str], number: int) -> str:
    assert process.stderr is not None
    code = process.wait()
    words = process.stderr.read().strip().splitlines()
    return (
        f"the process that made shard {number} of the simulated world ended early (exit status {code}): "
        f"{words[-1] if words else 'it said nothing'}. Finished shards are kept; try again, and if memory is short, "
        "with fewer processes"
    )


def _say(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def _worker(split: Split, size: int, folder: Path) -> None:
    """Makes the shards whose numbers come in on standard input, until it ends."""
    for line in sys.stdin:
        try:
            write_shard(split, size, int(line), folder, lambda clips: _say(clips=clips))
        except PokeBenchError as error:
            _say(error=str(error))
            return
        _say(shard=int(line))


def _main() -> None:
    facts, size, folder = sys.argv[1:]
    table = json.loads(facts)
    table["kinds"] = tuple(table["kinds"])
    try:
        _worker(Split(**table), int(size), Path(folder))
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(1)


if __name__ == "__main__":
    _main()
