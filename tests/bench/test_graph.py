"""Recorded steps give what plain ones do: with a recorder that computes a step again where a GPU would replay it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from peers.poking_clips import batch, training
from peers.tiny_training import TinyTraining
from torch import Tensor

from bench.train import make_fabric, train
from bench.training import graph
from bench.training.checkpoints import _optimizer_state, _restore_optimizer
from bench.training.engine import FabricEngine
from bench.training.graph import WARM, GraphedStep, RecordedBatch
from bench.training.plan import make_plan
from methods.interface import Poke
from methods.poking.objective import PokingTraining
from methods.training import TrainingBatch
from metrics.errors import TrainingError

STEPS, GAN_START = 16, 7
RATES = {"learning_rate": 2.0**-10, "rate_cooldown": 0.5, "rate_milestones": (1,), "rate_factor": 0.5}
"""Exact in float32 at every step, as tensors keep them."""
CLOSE = 1e-4
"""Relative: Adam computes with rates that are tensors in float32, and steps make more of that rounding."""


class Again:
    """Records by computing a step and taking it back; replays by computing it again."""

    def __init__(self, made: PokingTraining) -> None:
        self.made, self.recorded = made, 0

    def warm(self, step: Callable[[], graph.Scalars]) -> graph.Scalars:
        return step()

    def record(self, step: Callable[[], graph.Scalars]) -> tuple[graph.Scalars, Callable[[], None]]:
        self.recorded += 1
        networks, optimizers = self.made.networks, self.made.optimizers
        before = copy.deepcopy([[part.state_dict() for part in kept.values()] for kept in (networks, optimizers)])
        scalars = step()
        for kept, states in zip((networks, optimizers), before, strict=True):
            for part, state in zip(kept.values(), states, strict=True):
                part.load_state_dict(state)
        held = next(
            cell.cell_contents for cell in step.__closure__ or () if isinstance(cell.cell_contents, RecordedBatch)
        )

        def replay() -> None:
            held.again()
            for key, value in step().items():
                scalars[key].copy_(value)

        return scalars, replay


def batches() -> list[TrainingBatch]:
    """Another batch for each step: other clips, other pokes."""
    made = []
    for step in range(STEPS):
        one = batch()
        assert one.poke is not None
        poke = Poke((one.poke.location + step) % 28, one.poke.displacement * (1 + step))
        names = tuple(f"{name}-{step}" for name in one.clip_ids)
        frames = one.frames.roll(step, dims=-1)
        made.append(replace(one, frames=frames, poke=poke, clip_ids=names, seed=step, iteration=step))
    return made


def trained(make: Callable[[PokingTraining, FabricEngine], Callable[[TrainingBatch], dict[str, Tensor]]]) -> Any:
    """A training after STEPS steps, and what each of them reported."""
    made = training(gan_start=GAN_START, perceptual_frames=2, **RATES)
    engine = FabricEngine(make_fabric("fp32", "cpu"), made.optimizers, steps=STEPS)
    step, reported = make(made, engine), []
    for engine.iteration, one in enumerate(batches()):
        engine.epoch = engine.iteration // 5
        reported.append({key: float(value) for key, value in step(one).items()})
    return made, reported


def test_recorded_steps_are_plain_steps() -> None:
    recorders: list[Again] = []

    def graphed(made: PokingTraining, engine: FabricEngine) -> GraphedStep:
        recorders.append(Again(made))
        return GraphedStep(made, engine, recorders[-1])

    wanted, told = trained(lambda made, engine: lambda one: made.step([one], engine))
    found, said = trained(graphed)
    assert recorders[0].recorded == 2, "once without discriminators, once with them"
    assert len(said) == len(told) == STEPS
    for ours, plain in zip(said, told, strict=True):
        assert ours.keys() == plain.keys()
        for key, value in plain.items():
            assert ours[key] == pytest.approx(value, rel=CLOSE, abs=CLOSE), key
    for name, network in wanted.networks.items():
        state = found.networks[name].state_dict()
        for key, value in network.state_dict().items():
            torch.testing.assert_close(state[key], value, rtol=CLOSE, atol=CLOSE)
    assert said[WARM]["dynamics"] != said[WARM + 1]["dynamics"], "each step sees its own batch"


def test_rates_of_recorded_steps_are_kept_and_go_on_in_plain_ones() -> None:
    made = training()
    graph.place_rates(made, torch.device("cpu"))
    optimizer = made.optimizers["dynamics"]
    engine = FabricEngine(make_fabric("fp32", "cpu"), made.optimizers, steps=10)
    made.step([batch()], engine)
    groups, tensors = _optimizer_state(optimizer)
    assert [group["lr"] for group in groups] == [made.config.learning_rate]
    other = training().optimizers["dynamics"]
    _restore_optimizer(other, groups, tensors)
    assert other.param_groups[0]["lr"] == made.config.learning_rate
    assert other.param_groups[0]["fused"] == optimizer.param_groups[0]["fused"]


def test_what_cannot_be_recorded_is_refused(tmp_path: Any) -> None:
    engine = FabricEngine(make_fabric("fp32", "cpu"), {}, steps=1)
    tiny = TinyTraining(TinyTraining.Config(), seed=0)
    with pytest.raises(TrainingError, match=r"steps of tiny cannot be recorded"):
        GraphedStep(tiny, engine)
    plan = make_plan("poking", "small", ["loop.graphs=true"])
    with pytest.raises(TrainingError, match=r"one process on a GPU"):
        train(plan, tmp_path, fabric=make_fabric("fp32", "cpu"))
    assert plan.identity == make_plan("poking", "small").identity, "it does not move what a step computes"
