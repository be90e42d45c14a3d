"""Prepares many videos with several processes at once.

Each process is this module run as a program, see `bench.data.workers`: a job is a `Job` as JSON, its one answer an
`Entry`, or why there is none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bench.data.interface import Progress
from bench.data.prepare_videos import Entry, Job, Recipe, make
from bench.data.workers import available_processes, run_jobs, said, serve_jobs
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
    results = _Results(jobs, progress)
    count = min(len(jobs), workers or available_processes())
    if count <= 1:
        for number, job in enumerate(jobs):
            results.add(number, _guarded(job))
    else:
        lines = [json.dumps(asdict(job)) for job in jobs]
        run_jobs("bench.data.prepare_crew", (), lines, count, "frames of a video", results.add)
    if results.faults:
        shown = "".join(f"\n  - {fault}" for fault in sorted(results.faults))
        raise DataError(f"{len(results.faults)} videos cannot be prepared:{shown}\nMend them, then run this again.")
    return results.entries


def _guarded(job: Job) -> dict[str, Any]:
    """`make` as a table: the entry, or why there is none ("error": of this video, "stop": of all)."""
    try:
        return asdict(make(job))
    except CacheError as error:
        return {"stop": str(error)}
    except (PokeBenchError, OSError) as error:
        return {"error": f"{job.name}: {error}"}


class _Results:
    """What came back of each job, and the progress."""

    def __init__(self, jobs: Sequence[Job], progress: Progress | None) -> None:
        self.jobs, self.progress = jobs, progress
        self.entries: dict[str, Entry] = {}
        self.faults: list[str] = []

    def add(self, number: int, answer: dict[str, Any]) -> bool:
        """Takes in the one answer of a job.

        Raises:
            CacheError: the results cannot be written; no job can do better.
        """
        name = self.jobs[number].name
        if "stop" in answer:
            raise CacheError(answer["stop"])
        if "error" in answer:
            self.faults.append(answer["error"])
        else:
            self.entries[name] = Entry(**answer)
        if self.progress is not None:
            self.progress(len(self.entries) + len(self.faults), len(self.jobs), name)
        return True


def _work(line: str) -> None:
    facts = json.loads(line)
    said(**_guarded(Job(**{**facts, "recipe": Recipe(**facts["recipe"])})))


def _main() -> None:
    import cv2

    cv2.setNumThreads(1)
    serve_jobs(_work)


if __name__ == "__main__":
    _main()
