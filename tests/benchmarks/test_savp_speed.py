"""Speed of SAVP on the CPU: samples of one clip beside the plain program, and a training step."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from peers.clips import noise
from peers.engine import PlainEngine
from peers.plain_savp import plain_prediction
from peers.timing import interleaved, report
from pytest_benchmark.fixture import BenchmarkFixture

from methods.interface import Conditioning
from methods.savp.config import RECIPES
from methods.savp.objective import SavpTraining
from methods.training import TrainingBatch

pytestmark = pytest.mark.benchmark

SAMPLES, HORIZON = 16, 10
FLOORS = {"small": 1.5, "paper": 1.1}
"""Smallest ratio of the plain program's time to ours, by recipe."""


@cache
def figures(recipe: str) -> dict[str, float]:
    training = SavpTraining(RECIPES[recipe].model, seed=0)
    method, given = training.method(), Conditioning(noise(1, 1, 2, 64, 64), ["clip"], HORIZON)
    with torch.no_grad():
        ours, peer = method.predict(given, 2, 0), plain_prediction(training.generator, given, 2, 0)
        torch.testing.assert_close(ours, peer, rtol=0, atol=1e-5)
        programs = {
            "ours": lambda: method.predict(given, SAMPLES, 0),
            "peer": lambda: plain_prediction(training.generator, given, SAMPLES, 0),
        }
        return report(f"SAVP {recipe}, {SAMPLES} samples", interleaved(programs, rounds=3), SAMPLES * HORIZON, "frames")


@pytest.mark.parametrize("recipe", list(FLOORS))
def test_savp_samples_beside_the_plain_program(recipe: str) -> None:
    assert figures(recipe)["ratio"] >= FLOORS[recipe]


@pytest.mark.parametrize("recipe", ["small", "small-gan-only", "small-vae-only", "small-deterministic"])
def test_savp_training_step(benchmark: BenchmarkFixture, recipe: str) -> None:
    """Batch of 8 clips of 2 + 10 frames."""
    training = SavpTraining(RECIPES[recipe].model, seed=0)
    engine = PlainEngine(training.optimizers, steps=100)
    batch = TrainingBatch(noise(1, 8, 12, 64, 64), 2, tuple(f"clip-{n}" for n in range(8)), 0)
    benchmark.pedantic(training.step, ([batch], engine), rounds=2, warmup_rounds=1)
