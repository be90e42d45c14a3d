"""Records do not depend on the number of processes: the command line under torchrun, on small generated videos."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stand_ins import write
from typer.testing import CliRunner

from bench.cli import app
from bench.record import LoadedRecord
from bench.store import Store

ROOT = Path(__file__).resolve().parents[2]
METHODS = ("copy-last-frame", "flow-warp", "noisy-truth:sigma=0.1")
ROWS = ("psnr", "ssim", "lpips_alex", "endpoint_error", "leakage")
FURTHER = ("dose_slope", "beside_stillness", "fvd", "kvd")
"""What takes longer: predictions for further pokes, and set metrics."""
SUITE = """
title = "Processes"
methods = {methods}

[protocol]
dataset = "folder:videos"
size = 32
context = 2
horizon = 9
samples = 2
metrics = {metrics}
min_clips = 4
flow = "dis"
tracker = "dis"
poke = {{}}
seed = 3
"""


def evaluated(folder: Path, metrics: tuple[str, ...], processes: int) -> dict[str, LoadedRecord]:
    """The records of SUITE by method, from that many processes; the videos and the cache are shared by all runs."""
    videos, suite, store = folder / "videos", folder / "small.toml", folder / f"records-{processes}"
    if not videos.is_dir():
        for seed in range(3):
            write(videos / f"v{seed}.mkv", 36, height=64, width=64, seed=seed)
        suite.write_text(SUITE.format(methods=list(METHODS), metrics=list(metrics)))
    words = [
        "evaluate",
        str(suite),
        "--data",
        str(videos),
        "--store",
        str(store),
        "--device",
        "cpu",
        "--batch-size",
        "2",
    ]
    own = {"OMP_NUM_THREADS": "1", "POKEBENCH_CACHE": str(folder / f"cache-{processes}")}
    if processes == 1:
        done = CliRunner().invoke(app, words, env=own, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    else:
        launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
        run = subprocess.run(
            [sys.executable, *launcher, "-m", "bench.cli", *words],
            cwd=ROOT,
            env=os.environ | own,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr[-2000:]
    return {record.facts.method.name: record for record in Store(store).records()}


def same(found: dict[str, LoadedRecord], alone: dict[str, LoadedRecord], processes: int) -> None:
    assert found.keys() == alone.keys()
    assert len(found) == len(METHODS)
    for name, record in found.items():
        facts, others = record.facts, alone[name].facts
        assert (facts.clip_ids, facts.sources, facts.samples) == (others.clip_ids, others.sources, others.samples)
        assert len(facts.clip_ids) == 9
        assert facts.provenance.processes == (processes,)
        assert record.arrays.keys() == alone[name].arrays.keys()
        for array, values in record.arrays.items():
            if not array.startswith("features/"):  # of the order of 10; their distances are compared below
                np.testing.assert_allclose(values, alone[name].arrays[array], rtol=0, atol=1e-6, err_msg=array)
        for metric, score in facts.set_results.items():
            assert score.value == pytest.approx(others.set_results[metric].value, rel=1e-6), metric


def test_two_processes_give_the_records_of_one(tmp_path: Path) -> None:
    same(evaluated(tmp_path, ROWS, 2), evaluated(tmp_path, ROWS, 1), 2)


@pytest.mark.slow
def test_two_and_four_processes_give_the_records_of_one_with_all_metrics(tmp_path: Path) -> None:
    alone = evaluated(tmp_path, ROWS + FURTHER, 1)
    assert all(record.facts.set_results.keys() == {"fvd", "kvd"} for record in alone.values())
    for processes in (2, 4):
        same(evaluated(tmp_path, ROWS + FURTHER, processes), alone, processes)
