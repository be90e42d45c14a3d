"""Speed of a heatmap's predictions: many pokes on one image, beside a call of the method for each poke."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peers.timing import interleaved, report
from torch import Tensor

from methods.interface import Conditioning, Poke
from methods.poking.adapter import Poking
from methods.poking.config import PokingConfig
from methods.poking.network import PokingNetwork

pytestmark = pytest.mark.benchmark

SIDE, HORIZON = 64, 10
CPU_POKES, CPU_FLOOR = 16, 2.0
"""A hundred pokes take six times as long and save a little more; 16 keep the benchmark short."""
GPU_POKES, GPU_FLOORS = 100, {"half": 10.0, "tf32": 2.0, "ieee": 2.0}
"""In float16, as `bench heatmap --half` has it; with float32 products in TF32, as PyTorch has convolutions unless told
otherwise; and in full, as `bench heatmap` has them. Both ways have the same precision. What a hundred calls lose to
launches they lose in each, but in float32 the arithmetic of a hundred pokes takes longer than that."""
NEAR = {"half": 2e-2, "tf32": 1e-2, "ieee": 1e-4}
"""Largest difference between both ways, of colours in [0, 1]."""


def figures(device: str, pokes: int, rounds: int, near: float = 1e-4, title: str = "cpu") -> dict[str, float]:
    """Ratios for the model at the paper's size, with random weights, which cost the same."""
    generator = torch.Generator().manual_seed(0)
    config = PokingConfig()
    method = Poking.sharing(PokingNetwork(config), config)
    method.prepare(torch.device(device))
    x0 = torch.rand(3, SIDE, SIDE, generator=generator).to(device)
    location = torch.full((pokes, 2), 30.0, device=device)
    displacement = (6 * torch.randn(pokes, 2, generator=generator)).to(device)

    found: dict[str, Tensor] = {}

    def ours() -> None:
        found["ours"] = method.rollout_pokes(x0, Poke(location, displacement), HORIZON, frames=[HORIZON])[:, 0].cpu()

    def peer() -> None:
        frames = []
        for k in range(pokes):
            poke = Poke(location[k : k + 1], displacement[k : k + 1])
            frames.append(method.predict(Conditioning(x0[None, None], ["image"], HORIZON, poke=poke), 1, 0)[0, 0, -1])
        found["peer"] = torch.stack(frames).cpu()

    times = interleaved({"ours": ours, "peer": peer}, rounds)
    torch.testing.assert_close(found["ours"], found["peer"], rtol=0, atol=near)
    return report(f"{pokes} pokes on one image, {title}", times, pokes, "pokes")


def test_many_pokes_on_the_cpu() -> None:
    """By CPU time, which other work on the machine moves less."""
    assert figures("cpu", CPU_POKES, rounds=1)["cpu_ratio"] >= CPU_FLOOR


@pytest.mark.gpu
@pytest.mark.parametrize("precision", GPU_FLOORS)
def test_many_pokes_on_a_gpu(precision: str) -> None:
    convolutions: Any = torch.backends.cudnn.conv
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "ieee" if precision == "ieee" else "tf32"
    try:
        with torch.autocast("cuda", torch.float16, enabled=precision == "half"):
            found = figures("cuda", GPU_POKES, 3, NEAR[precision], f"cuda, {precision}")
    finally:
        convolutions.fp32_precision = before
    assert found["ratio"] >= GPU_FLOORS[precision]
