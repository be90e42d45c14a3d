"""Interruptions from the keyboard: what is in work is finished, and the program says how to go on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults.running import ENVIRONMENT, until

from bench.store import Store

METHOD = """
import time
from methods.baselines import CopyLastFrame

class Slow(CopyLastFrame):
    def predict(self, conditioning, samples, seed):
        time.sleep(0.2)
        return super().predict(conditioning, samples, seed)
"""
SUITE = """
title = "Slow"
methods = ["METHOD"]
[protocol]
dataset = "folder:videos"
size = 32
context = 2
horizon = 10
frame_rate = 10.0
metrics = ["psnr"]
min_clips = 2
"""


def parts(store: Path) -> list[Path]:
    return [path for path in store.glob(".partial/*/*.safetensors") if path.name[0] != "."]


@pytest.mark.slow
def test_the_command_line_is_interrupted(tmp_path: Path, faults: Any) -> None:
    import cv2

    for number in range(12):
        folder = tmp_path / "videos" / f"clip{number:02d}"
        folder.mkdir(parents=True)
        (folder / "frame_rate.txt").write_text("10")
        noise = np.random.default_rng(number).integers(0, 256, (13, 34, 34, 3)).astype(np.uint8)
        for t, frame in enumerate(noise):
            cv2.imwrite(str(folder / f"{t:03d}.png"), frame)
    (tmp_path / "slow.py").write_text(METHOD)
    (tmp_path / "suite.toml").write_text(SUITE.replace("METHOD", f"{tmp_path}/slow.py:Slow"))
    arguments = ["evaluate", "suite.toml", "--data", "videos", "--batch-size", "1", "--store", "my store"]
    command = [sys.executable, "-m", "bench.cli", *arguments]
    environment = {**os.environ, **ENVIRONMENT}
    first = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    store = tmp_path / "my store"
    until(lambda: parts(store) or first.poll() is not None)
    with faults.one():
        first.send_signal(signal.SIGINT)
        said = first.communicate(timeout=60)[1]
        assert first.returncode == 130, said
        assert "Traceback" not in said
        found = re.search(r"stopped: (\d+) of (\d+) clips are done, and kept; go on from here with: (.*)", said)
        assert found, said
        done, total = int(found[1]), int(found[2])
        assert 0 < done == len(parts(store)) < total
        assert found[3] == "bench evaluate suite.toml --data videos --batch-size 1 --store 'my store'"
        stamps = {path: path.stat().st_mtime_ns for path in parts(store)}
        second = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
        until(lambda: len(parts(store)) > done or second.poll() is not None)
        faults.lost += sum(not path.exists() or path.stat().st_mtime_ns != at for path, at in stamps.items())
        said = second.communicate(timeout=60)[1]
        assert second.returncode == 0, said
        [record] = Store(store).records()
        assert len(record.facts.clip_ids) == total


def test_an_evaluation_finishes_the_batch_in_work(server: Any, faults: Any, tmp_path: Path) -> None:
    store, calls = tmp_path / "store", tmp_path / "calls"
    process = server.start("evaluate", store=store, clips=24, calls=calls, seconds=0.2)
    until(lambda: calls.exists() and len(calls.read_text().splitlines()) == 3)
    with faults.one():
        process.signal(signal.SIGINT)
        assert process.wait() == 130, process.said
        assert "stopping after this batch; once more to stop at once" in process.said
        lines = calls.read_text().splitlines()
        assert f"stopped: {4 * len(lines)} of 48 clips are done (of 2 methods)" in process.said
        assert "Traceback" not in process.said
        assert len(parts(store)) == len(lines)
        again = tmp_path / "again"
        server.run("evaluate", store=store, clips=24, calls=again)
        asked = [json.dumps(json.loads(line)) for path in (calls, again) for line in path.read_text().splitlines()]
        faults.lost += len(asked) - len(set(asked))
        assert len(asked) == 12


def test_a_second_interrupt_drops_the_batch_in_work(server: Any, faults: Any, tmp_path: Path) -> None:
    store, calls = tmp_path / "store", tmp_path / "calls"
    process = server.start("evaluate", store=store, clips=8, calls=calls, seconds=30)
    until(lambda: calls.exists())
    with faults.one():
        process.signal(signal.SIGINT)
        until(lambda: "stopping after this batch" in process.said)
        process.signal(signal.SIGINT)
        assert process.wait() == 130, process.said
        assert "stopped: 0 of 16 clips are done (of 2 methods)" in process.said
        assert "Traceback" not in process.said
        server.run("evaluate", store=store, clips=8)


def test_a_training_finishes_its_step(server: Any, faults: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = server.start("train", out=out, seconds=0.1)
    until(lambda: (out / "log.jsonl").exists() and (out / "log.jsonl").read_text().count('"train"') >= 3)
    with faults.one():
        process.signal(signal.SIGINT)
        assert process.wait() == 130, process.said
        found = re.search(r"stopped: (\d+) of 12 steps are done", process.said)
        assert found, process.said
        assert "Traceback" not in process.said
        assert (out / f"checkpoints/step-{int(found[1]):08d}/state.json").is_file()
        faults.lost += (
            f"going on from {out}/checkpoints/step-{int(found[1]):08d}" not in server.run("train", out=out).said
        )
