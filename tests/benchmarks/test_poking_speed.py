"""Speed of a training step of the poking model against one in the form of the authors' program; same losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import torch
from peers.engine import PlainEngine
from peers.poking_clips import batch, classifier
from peers.poking_released import Features, ReleasedStep
from peers.timing import interleaved, report
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from bench.training.allocator import keep_memory
from methods.perceptual import Perceptual
from methods.poking.config import PokingConfig
from methods.poking.objective import PokingTraining
from methods.poking.poke_map import poke_map

pytestmark = pytest.mark.benchmark

WIDTH, CLIPS, HORIZON, SIDE = 512, 2, 10, 64
ROUNDS, UNMEASURED = 6, 3
"""Turns; for some steps a process still gathers the memory that it works in, and then keeps it."""
THREADS = sorted({1, torch.get_num_threads()})
RATE = 1e-9
"""Hardly moves a weight. The first step of Adam moves by the sign of a gradient, so rounding turns it, and losses
after it would not show how exactly they are computed."""
LOSSES, PENALTIES = 1e-5, 1e-4
"""Relative, float32; the second for squares of gradients, in which rounding counts more. The generator's terms are
means of scores of both signs, of about one: the first holds for them in absolute numbers."""
FLOOR, SHARED_FLOOR = 2.0, 1.9
"""Smallest ratio of the peer's CPU time to ours, which other work on the machine hardly moves, at the released size: on
one thread, and on all, where it moves by more."""


class Measured(NamedTuple):
    ours: Callable[[], dict[str, Tensor]]
    figures: dict[str, float]


@pytest.fixture(scope="module", params=THREADS, ids=lambda count: f"threads={count}")
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=[False, True], ids=["before", "with discriminators"])
def measured(request: pytest.FixtureRequest, threads: int) -> Measured:
    keep_memory()  # as `bench train` does; it serves both
    tensors = classifier("vgg19", torch.float32)
    adversarial: bool = request.param
    config = PokingConfig(width=WIDTH, gan=adversarial, gan_start=0, learning_rate=RATE)
    training = PokingTraining(config, seed=0)
    training.supervision._perceptual = Perceptual("vgg19", 5, tensors)
    part = batch(CLIPS, HORIZON, SIDE, dtype=torch.float32)
    engine = PlainEngine(training.optimizers)
    states = [training.networks[name].state_dict() if adversarial else None for name in ("patch", "temporal")]
    released = ReleasedStep(training.network.state_dict(), Features("vgg19", tensors), *states, rate=RATE)
    frames = part.frames * 2 - 1
    assert part.poke is not None
    poke = poke_map(part.poke.location, part.poke.displacement, SIDE)
    drawn: tuple[list[int], ...] = ()
    if adversarial:
        tags = ("real frames", "fake frames")
        everything = CLIPS * HORIZON
        generators = [part.common_generator(tag) for tag in tags]
        drawn = tuple(torch.randint(everything, (16,), generator=one).tolist() for one in generators)

    def ours() -> dict[str, Tensor]:
        return training.step([part], engine)

    found, wanted = ours(), released(frames, poke, *drawn)
    for name, value in wanted.items():
        tolerance = PENALTIES if name.endswith("penalty") else LOSSES
        least = LOSSES if name.endswith("generator") else None
        assert float(found[name]) == pytest.approx(value, rel=tolerance, abs=least), name

    def peer() -> object:
        return released(frames, poke, *drawn)

    times = interleaved({"ours": ours, "peer": peer}, ROUNDS, UNMEASURED)
    which = "with discriminators" if adversarial else "before the discriminators"
    how = f"{which}, threads {threads}"
    figures = report(f"poking step, {SIDE} px, width {WIDTH}, {how}", times, CLIPS, "clips", peer)
    return Measured(ours, figures)


def test_poking_step(benchmark: BenchmarkFixture, measured: Measured) -> None:
    benchmark.extra_info.update(measured.figures)
    assert "dynamics" in benchmark.pedantic(measured.ours, rounds=1)


def test_poking_step_ratio(measured: Measured, threads: int) -> None:
    assert measured.figures["cpu_ratio"] >= (FLOOR if threads == 1 else SHARED_FLOOR)
