"""Time of predictions of 8 clips with the option `compiled`, beside the plain form; one thread on the CPU.

Both compute in full float32, as in an evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peers.clips import noise
from peers.timing import interleaved, reported

from methods.interface import Conditioning, Poke
from methods.registry import build_method
from methods.training import TRAININGS
from methods.weights_file import save_weights
from metrics.features.exact import exact_float32

pytestmark = pytest.mark.benchmark

CLIPS, HORIZON, ROUNDS = 8, 10, 3
FLOOR = 0.9
"""Smallest ratio of the plain form's time to that of the compiled one."""
NEAR = {"cpu": 1e-5, "cuda": 1e-4}
"""Largest difference between both forms, of colours in [0, 1]."""
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["ivrnn", "poking", "savp"])
def test_compiled_is_not_slower(name: str, device: str, tmp_path: Path) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    training = TRAININGS.get(name)
    model, path = training.recipes["small"].model, tmp_path / f"{name}.safetensors"
    save_weights(path, training(model, seed=0).networks["predictor"].state_dict(), name, model)
    poke = Poke(torch.full((CLIPS, 2), 30.0), torch.full((CLIPS, 2), 5.0))
    ids = [f"clip-{row}" for row in range(CLIPS)]
    given = Conditioning(noise(1, CLIPS, 2, 64, 64), ids, HORIZON, poke=poke).to(device)

    def program(options: str) -> Callable[[], object]:
        method = build_method(f"{name}:checkpoint={path}{options}")
        method.prepare(torch.device(device))

        def run() -> object:
            made = method.predict(given, 1, 0)
            if device == "cuda":
                torch.cuda.synchronize()
            return made

        return run

    programs = {"plain": program(""), "compiled": program(",compiled=true")}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with exact_float32(torch.device(device)):
            torch.testing.assert_close(programs["compiled"](), programs["plain"](), rtol=0, atol=NEAR[device])
            times = interleaved(programs, ROUNDS)
    finally:
        torch.set_num_threads(threads)
    plain, faster = times["plain"], times["compiled"]
    figures = {
        "ratio": plain.wall / faster.wall,
        "cpu_ratio": plain.cpu / faster.cpu,
        "frames_per_second": CLIPS * HORIZON / faster.wall,
        "peer_frames_per_second": CLIPS * HORIZON / plain.wall,
        "threads": 1,
    }
    found = reported(f"{name} small, compiled, beside the plain form, {device}", figures)
    # On a CPU that other work shares, its own time says more than the clock.
    assert found["cpu_ratio" if device == "cpu" else "ratio"] >= FLOOR
