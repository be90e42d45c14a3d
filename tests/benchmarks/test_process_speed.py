"""Two processes of one thread each against one of them: the same clips, seconds between two barriers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from peers.timing import reported
from pytest_benchmark.fixture import BenchmarkFixture

ROOT = Path(__file__).resolve().parents[2]
CLIPS = int(os.environ.get("POKEBENCH_BENCHMARK_CLIPS", "48"))
ROUNDS = 2
FLOOR = 1.6
"""Smallest ratio of the time of one process to that of two, on two idle cores."""

SCRIPT = """
import shutil, sys, time
from pathlib import Path
from conftest import DriftingDiscs
from bench.distributed import world
from bench.evaluate import evaluate
from bench.protocol import Protocol
from bench.store import Store
from methods.registry import build_method
from metrics.cache import cache_root

store, clips, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
protocol = Protocol(dataset="discs", size=64, metrics=("fvd", "lpips_alex", "psnr", "ssim"))
with world() as peers:
    def run(name, count):
        methods = [build_method("copy-last-frame"), build_method("noisy-truth")]
        data = DriftingDiscs(clips=count, size=64, name=name)
        if peers.first:
            shutil.rmtree(cache_root() / "features", ignore_errors=True)
        peers.barrier()
        started = time.perf_counter()
        evaluate(methods, data, protocol, Store(store), batch_size=4, world=peers)
        return time.perf_counter() - started

    run("warm", 8 * peers.size)  # networks are built, and every process works once
    best = min(run(f"discs{turn}", clips) for turn in range(rounds))
    if peers.first:
        print("SECONDS", best)
"""


def seconds(folder: Path, processes: int) -> float:
    """Of the best of ROUNDS evaluations of CLIPS clips."""
    folder.mkdir()
    script = folder / "measured.py"
    script.write_text(SCRIPT)
    launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}") if processes > 1 else ()
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, *launcher, str(script), str(folder / "store"), str(CLIPS), str(ROUNDS)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return float(next(line for line in done.stdout.splitlines() if line.startswith("SECONDS")).split()[1])


@pytest.mark.benchmark
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_two_processes_on_two_cores(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    alone = seconds(tmp_path / "one", 1)
    both = benchmark.pedantic(seconds, (tmp_path / "two", 2), rounds=1)
    figures = {
        "ratio": alone / both,
        "clips_per_second": CLIPS / both,
        "peer_clips_per_second": CLIPS / alone,
        "threads": 1.0,
    }
    benchmark.extra_info.update(reported(f"two processes beside one, evaluation of {CLIPS} clips", figures))
    assert figures["ratio"] >= FLOOR
