"""Timing a program against its peer on a machine that may do other work."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import torch


class Timing(NamedTuple):
    """Best of all rounds, seconds."""

    wall: float
    cpu: float


def interleaved(programs: dict[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Best time of each program; the programs take turns, after one unmeasured turn each."""
    best: dict[str, Timing] = {}
    for turn in range(rounds + 1):
        for name, program in programs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            program()
            found = Timing(time.perf_counter() - wall, time.process_time() - cpu)
            if turn:
                known = best.get(name, found)
                best[name] = Timing(min(known.wall, found.wall), min(known.cpu, found.cpu))
    return best


def report(title: str, times: dict[str, Timing], count: int, unit: str) -> dict[str, float]:
    """Prints and returns what one turn of "ours" and "peer" took for `count` units, and the ratios."""
    ours, peer = times["ours"], times["peer"]
    figures = {
        "ratio": peer.wall / ours.wall,
        "cpu_ratio": peer.cpu / ours.cpu,
        f"{unit}_per_second": count / ours.wall,
        f"peer_{unit}_per_second": count / peer.wall,
        "threads": torch.get_num_threads(),
    }
    print(f"\n{title}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    return figures
