"""Prepares many videos with several processes at once.

Each process is this module run as a program: it reads one job per line from its standard input, answers with one line
each, and ends when its input ends, as it does when the parent is killed.
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
from typing import Any

from bench.data.interface import Progress
from bench.data.prepare_videos import Entry, Job, Recipe, make
from metrics.errors import CacheError, DataError, PokeBenchError


def make_all(jobs: Sequence[Job], workers: int | None = None, progress: Progress | None = None) -> dict[str, Entry]:
    """Prepares all videos; returns what is known of each, by name.

    Args:
        workers: number of processes; None: as many as CPUs that this process may use.
        progress: called after every video.

    Raises:
        DataError: videos cannot be used; all of them are listed, the others are kept.
        CacheError: the results cannot be written.
    """
    crew = _Crew(jobs, progress)
    count = min(len(jobs), workers or _cpus())
    if count <= 1:
        for job in jobs:
            if crew.stopped is None:
                crew.add(job, _guarded(job))
    else:
        crew.work(count)
    if crew.stopped is not None:
        raise crew.stopped
    if crew.faults:
        shown = "".join(f"\n  - {fault}" for fault in sorted(crew.faults))
        raise DataError(f"{len(crew.faults)} videos cannot be prepared:{shown}\nMend them, then run this again.")
    return crew.entries


def _cpus() -> int:
    """Number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _guarded(job: Job) -> dict[str, Any]:
    """`make` as a table: the entry, or why there is none ("error": of this video, "stop": of all)."""
    try:
        return asdict(make(job))
    except CacheError as error:
        return {"stop": str(error)}
    except (PokeBenchError, OSError) as error:
        return {"error": f"{job.name}: {error}"}


class _Crew:
    """Worker processes that take jobs from one queue."""

    def __init__(self, jobs: Sequence[Job], progress: Progress | None) -> None:
        self.jobs, self.progress = jobs, progress
        self.entries: dict[str, Entry] = {}
        self.faults: list[str] = []
        self.stopped: PokeBenchError | None = None
        self.lock = threading.Lock()

    def add(self, job: Job, answer: dict[str, Any]) -> None:
        """Takes one answer in, and reports progress."""
        with self.lock:
            if "stop" in answer:
                self.stopped = CacheError(answer["stop"])
                return
            if "error" in answer:
                self.faults.append(answer["error"])
            else:
                self.entries[job.name] = Entry(**answer)
            if self.progress is not None:
                self.progress(len(self.entries) + len(self.faults), len(self.jobs), job.name)

    def work(self, count: int) -> None:
        """Does all jobs with `count` processes, which are stopped on an interruption."""
        waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        for job in self.jobs:
            waiting.put(job)
        processes = [self._start() for _ in range(count)]
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

    def _start(self) -> subprocess.Popen[str]:
        paths = os.pathsep.join(path for path in sys.path if path)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        return subprocess.Popen(
            [sys.executable, "-m", "bench.data.prepare_crew"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, **threads, "PYTHONPATH": paths},
        )

    def _serve(self, process: subprocess.Popen[str], waiting: queue.SimpleQueue[Job]) -> None:
        """Hands jobs to one process until none is left or the process is gone."""
        assert process.stdin is not None
        assert process.stdout is not None
        while self.stopped is None:
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                process.stdin.write(json.dumps(asdict(job)) + "\n")
                process.stdin.flush()
                answer = process.stdout.readline()
            except BrokenPipeError:
                answer = ""
            if not answer:
                self.stopped = DataError(
                    f"the process that prepared {job.name} ended early (exit status {process.wait()}). Finished videos "
                    "are kept: try again, with fewer workers if memory is short."
                )
                return
            self.add(job, json.loads(answer))


def _main() -> None:
    import cv2

    cv2.setNumThreads(1)
    for line in sys.stdin:
        facts = json.loads(line)
        job = Job(**{**facts, "recipe": Recipe(**facts["recipe"])})
        sys.stdout.write(json.dumps(_guarded(job)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    try:
        _main()
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(1)
