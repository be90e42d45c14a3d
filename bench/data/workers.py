"""Jobs done by several processes at once, each a module of this program run by itself.

A worker reads one job a line from its standard input, answers with lines of JSON on its standard output, and ends when
its input ends, as it does when the parent is killed. Processes of their own, and not forks, hold no threads or locks
of the parent, and survive neither it nor an interruption.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from metrics.errors import DataError

Answered = Callable[[int, dict[str, Any]], bool]
"""Takes (number of the job, one answer); returns whether that was the job's last. An exception stops all work."""

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def available_processes() -> int:
    """Number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(
    module: str, arguments: Sequence[str], jobs: Sequence[str], workers: int, what: str, answered: Answered
) -> None:
    """Does `jobs` with `workers` processes `python -m MODULE ARGUMENTS`.

    Args:
        jobs: one line each.
        what: what a job makes, for messages.
        answered: called for every answer, by one thread at a time.

    Raises:
        DataError: a worker ended early.
        Exception: what `answered` raised. In any case, all workers are stopped first.
    """
    crew = _Crew(jobs, what, answered)
    seats = [_Seat(module, arguments) for _ in range(workers)]
    threads = [threading.Thread(target=crew.serve, args=(seat,), daemon=True) for seat in seats]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for seat in seats:
            seat.stop()
    if crew.fault is not None:
        raise crew.fault


def said(**facts: Any) -> None:
    """Sends one answer; for workers."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def serve_jobs(work: Callable[[str], None]) -> None:
    """Calls `work` with every job until there are no more; for workers. Ends at once when the parent is gone."""
    try:
        for line in sys.stdin:
            work(line)
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(1)


class _Seat:
    """One worker process; what it writes to its standard error is kept for the message about its end."""

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        self.errors: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        paths = os.pathsep.join(path for path in sys.path if path)
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            encoding="utf-8",
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": paths},
        )

    def answers(self, job: str) -> Iterator[dict[str, Any]]:
        """Hands over a job; yields what comes back, and ends when the process does."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(job + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return
        for line in self.process.stdout:
            yield json.loads(line)

    def last_words(self) -> str:
        code = self.process.wait()
        self.errors.seek(0)
        words = self.errors.read().strip().splitlines()
        return f"exit status {code}: {words[-1] if words else 'it said nothing'}"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.errors.close()


class _Crew:
    def __init__(self, jobs: Sequence[str], what: str, answered: Answered) -> None:
        self.jobs, self.what, self.answered = jobs, what, answered
        self.waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(len(jobs)):
            self.waiting.put(number)
        self.fault: BaseException | None = None
        self.lock = threading.Lock()

    def serve(self, seat: _Seat) -> None:
        """Hands jobs to one worker until none is left or something failed."""
        while self.fault is None:
            try:
                number = self.waiting.get_nowait()
            except queue.Empty:
                return
            if not self._done(seat, number):
                return

    def _done(self, seat: _Seat, number: int) -> bool:
        for answer in seat.answers(self.jobs[number]):
            with self.lock:
                if self.fault is not None:
                    return False
                try:
                    if self.answered(number, answer):
                        return True
                except BaseException as fault:  # noqa: BLE001 - raised again by the thread that waits
                    self.fault = fault
                    return False
        with self.lock:
            self.fault = self.fault or DataError(
                f"the process that made {self.what} ended early ({seat.last_words()}). What is finished is kept: try "
                "again, and if memory is short, with fewer processes."
            )
        return False
