"""Timing a program against its peer on a machine that may do other work."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from peers.roofline import flops, least_seconds, operations


class Kernel(NamedTuple):
    """All calls of a kernel in one turn of a program."""

    name: str
    calls: int
    milliseconds: float


REPORTED: dict[str, dict[str, float]] = {}
"""What was reported in this run, by title."""
KERNELS: dict[str, list[Kernel]] = {}
"""Which kernels of a GPU took how long, by title."""


class Timing(NamedTuple):
    """Best of all rounds, seconds."""

    wall: float
    cpu: float


def interleaved(programs: dict[str, Callable[[], object]], rounds: int, unmeasured: int = 1) -> dict[str, Timing]:
    """Best time of each program; the programs take turns, after some unmeasured turns each."""
    best: dict[str, Timing] = {}
    for turn in range(rounds + unmeasured):
        for name, program in programs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            program()
            found = Timing(time.perf_counter() - wall, time.process_time() - cpu)
            if turn >= unmeasured:
                known = best.get(name, found)
                best[name] = Timing(min(known.wall, found.wall), min(known.cpu, found.cpu))
    return best


def report(
    title: str,
    times: dict[str, Timing],
    count: int,
    unit: str,
    work: Callable[[], object] | None = None,
    device: str = "cpu",
    type: torch.dtype = torch.float32,
    program: Callable[[], object] | None = None,
) -> dict[str, float]:
    """Prints, keeps in REPORTED and returns what one turn of "ours" and "peer" took for `count` units, and the ratios.

    Args:
        work: a program in its plain form, such as the peer: the arithmetic of its convolutions and matrix products,
            over our time, is given as a share of the peak. It can exceed 1: the page written says why.
        type: of the numbers that "ours" multiplies, for the peak.
        program: "ours": the least time that its operations take at the measured peak and bandwidth is given as a share
            of its time (`peers/roofline.py`).
    """
    ours, peer = times["ours"], times["peer"]
    figures = {
        "ratio": peer.wall / ours.wall,
        "cpu_ratio": peer.cpu / ours.cpu,
        f"{unit}_per_second": count / ours.wall,
        f"peer_{unit}_per_second": count / peer.wall,
        "threads": torch.get_num_threads(),
    }
    if work is not None:
        figures["share_of_peak"] = flops(operations(work)) / ours.wall / peak(device, torch.get_num_threads(), type)
    if program is not None:
        rates = peak(device, torch.get_num_threads(), type), bandwidth(device)
        figures["share_of_roofline"] = least_seconds(operations(program), *rates) / ours.wall
    return reported(title, figures)


def reported(title: str, figures: dict[str, float]) -> dict[str, float]:
    """Prints and keeps figures, among them "ratio" and "threads"."""
    print(f"\n{title}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    REPORTED[title] = figures
    return figures


def profiled(title: str, program: Callable[[], object]) -> None:
    """Keeps in KERNELS what one turn of a program does on a GPU, the longest first."""
    from torch.profiler import ProfilerActivity, profile

    program()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        program()
        torch.cuda.synchronize()
    spent: dict[str, list[float]] = {}
    for event in found.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            spent.setdefault(event.name, []).append(event.time_range.elapsed_us() / 1e3)
    rows = [Kernel(name, len(times), sum(times)) for name, times in spent.items()]
    KERNELS[title] = sorted(rows, key=lambda row: -row.milliseconds)


@cache
def peak(device: str, threads: int, type: torch.dtype = torch.float32) -> float:
    """Measured peak, operations per second: a product of two square matrices of `type`, the best of ten.

    The matrices are 2048 x 2048 on a CPU and 8192 x 8192 on a GPU, which smaller ones do not keep busy.

    Args:
        threads: in force; each number of them has its own peak.
    """
    side = 2048 if device == "cpu" else 8192
    left, right = (torch.rand(side, side, device=device, dtype=type) for _ in range(2))
    return 2 * side**3 / best_seconds(lambda: left @ right, device)


@cache
def bandwidth(device: str) -> float:
    """Measured, bytes a second: a copy of 1 GiB, read and written, the best of ten."""
    source = torch.ones(2**28, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() * source.element_size() / best_seconds(lambda: target.copy_(source), device)


def best_seconds(call: Callable[[], object], device: str) -> float:
    """The best of ten, after one in which kernels are chosen."""
    best = float("inf")
    for turn in range(11):
        started = time.perf_counter()
        call()
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started) if turn else best
    return best
