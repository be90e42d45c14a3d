"""Peak memory of an evaluation does not grow with the number of clips.

A process of its own for each number, since the peak of a process never falls. Rows and features (400 a clip) of all
clips are kept, pixels are not. The I3D network sees the first batch alone, so that its memory counts as it does in any
evaluation; a cheap projection to as many features stands in for it afterwards, as it would take an hour for thousands.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

ROOT = Path(__file__).resolve().parents[2]
FEW, MANY = 256, int(os.environ.get("POKEBENCH_MEMORY_CLIPS", "1024"))
RUNS = 3
"""Of each number; the smallest peak counts: of equal runs one may hold 90 MiB more than another."""
GROWTH = 0.05
"""Largest growth of the peak, as a share, from FEW to MANY clips; MANY is 4096 with POKEBENCH_MEMORY_CLIPS=4096."""

SCRIPT = """
import resource, sys
from pathlib import Path
import torch
import bench.evaluation.scoring
from bench.evaluate import evaluate
from bench.protocol import Protocol
from bench.store import Store
from conftest import DriftingDiscs, Unkept
from methods.registry import build_method
from metrics.features.i3d import i3d_logits

PROJECTION = torch.rand(1920, 400, generator=torch.Generator().manual_seed(0))

def features(video, *, mode="exact", batch_size=8, seen=[]):
    if len(seen) < 2:  # the truth and a prediction of the first batch
        seen.append(len(video))
        return i3d_logits(video)
    return torch.nn.functional.avg_pool2d(video.flatten(0, 1), 8).reshape(len(video), -1) @ PROJECTION

sys.modules["metrics.fvd"].i3d_logits = features  # `metrics.fvd` itself is the function of that name
bench.evaluation.scoring.ReferenceCache = Unkept
protocol = Protocol(dataset="discs", size=64, metrics=tuple(sys.argv[3].split(",")))
methods = [build_method("copy-last-frame"), build_method("noisy-truth")]
records = evaluate(methods, DriftingDiscs(clips=int(sys.argv[2]), size=64), protocol, Store(Path(sys.argv[1])))
assert all(len(record.facts.clip_ids) == int(sys.argv[2]) for record in records)
# Linux counts in `ru_maxrss` what the parent held when it started this process; VmHWM is this program's own.
status = Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else []
own = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
print("KIB", *(own or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


def peak(folder: Path, clips: int, metrics: str) -> float:
    """Peak resident memory of an evaluation of that many clips, MiB; the smallest of RUNS."""
    return min(_peak(folder / str(run), clips, metrics) for run in range(RUNS))


def _peak(folder: Path, clips: int, metrics: str) -> float:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder / f"{metrics}-{clips}"), str(clips), metrics],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout.split()[-1]) / 1024


@pytest.mark.slow
@pytest.mark.benchmark
@pytest.mark.parametrize("metrics", ["psnr", "psnr,fvd,kvd"])
def test_peak_memory_does_not_grow_with_the_clips(benchmark: BenchmarkFixture, tmp_path: Path, metrics: str) -> None:
    few = peak(tmp_path, FEW, metrics)
    many = benchmark.pedantic(peak, (tmp_path, MANY, metrics), rounds=1)
    print(f"\nmemory, {metrics}: {few:.0f} MiB with {FEW} clips, {many:.0f} MiB with {MANY}")
    benchmark.extra_info.update({"few_mib": few, "many_mib": many, "few": FEW, "many": MANY})
    assert many < (1 + GROWTH) * few
