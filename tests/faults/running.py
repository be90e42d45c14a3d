"""Starts programs of `faults.programs` in processes of their own, to be killed, stopped or waited for."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

TESTS = Path(__file__).resolve().parents[1]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}


class Process:
    """A program that was started.

    Attributes:
        pid: of its process.
    """

    def __init__(self, server: Server, pid: int, said: Path) -> None:
        self._server, self.pid, self._said = server, pid, said

    def signal(self, number: int) -> None:
        """Sends a signal; nothing happens when it has ended."""
        os.kill(self.pid, number)  # until it is waited for, its id stays its own

    def wait(self) -> int:
        """Its exit status; minus the signal when one killed it."""
        return int(self._server.ask(wait=self.pid))

    @property
    def said(self) -> str:
        """What it wrote to its standard output and error so far."""
        return self._said.read_text() if self._said.exists() else ""


class Server:
    """A process with everything imported, from which others are forked: a kill then hits work, not imports.

    Args:
        folder: for what the processes say.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.programs"],
            cwd=TESTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ENVIRONMENT},
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def ask(self, **request: Any) -> Any:
        """Sends a request and returns the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, program: str, **options: Any) -> Process:
        """Starts a program of `faults.programs`; options are its arguments."""
        self._count += 1
        said = self._folder / f"{self._count}.txt"
        pid = self.ask(start=program, options={k: str(v) if isinstance(v, Path) else v for k, v in options.items()},
                       said=str(said))  # fmt: skip
        return Process(self, pid, said)

    def run(self, program: str, **options: Any) -> Process:
        """Runs a program to its end, which must be a good one."""
        process = self.start(program, **options)
        status = process.wait()
        assert status == 0, process.said
        return process

    def seconds(self, program: str, **options: Any) -> float:
        """How long a program takes."""
        began = time.perf_counter()
        self.run(program, **options)
        return time.perf_counter() - began


def until(condition: Any, seconds: float = 60) -> None:
    """Waits until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"still waiting after {seconds} s"
        time.sleep(0.005)


def killed_at_random(
    start: Callable[[Path], Process],
    then: Callable[[Path], None],
    folder: Path,
    seconds: float,
    kills: int,
    faults: Any,
) -> None:
    """Kills `kills` runs at random moments, and does `then` after each.

    Moments are drawn one from each of `kills` equal parts of a run, so that they are spread over it.

    Args:
        start: begins a run in a folder of its own.
        seconds: that a run takes when nothing disturbs it.
    """
    chance, tries = random.Random(kills), 0
    while faults.injected < kills:
        tries += 1
        assert tries <= 3 * kills, "most runs end before they are killed"
        own = folder / f"run{tries}"
        process = start(own)
        time.sleep((faults.injected + chance.random()) / kills * seconds)
        process.signal(signal.SIGKILL)
        if process.wait() == 0:
            seconds *= 0.9  # it was faster than the undisturbed run: the machine has less to do by now
            continue
        with faults.one():
            then(own)
