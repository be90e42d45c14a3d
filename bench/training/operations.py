"""How much arithmetic a training takes: what "equal compute" means here, on any machine."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.distributed import World
from bench.planning.generated import GeneratedClips
from bench.train import make_fabric
from bench.training.engine import FabricEngine
from bench.training.feed import Feed
from bench.training.plan import PREDICTOR, Plan
from bench.training.suite_plans import chosen_plans
from methods.products import by_pytorch

MIDDLES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Where steps are looked at, as shares of a training: a step of one stage may cost more than one of another."""


def operations_of_a_step(plan: Plan, at: Sequence[float] = MIDDLES) -> float:
    """Floating-point operations of one step, forward and backward, of convolutions and matrix products.

    They are counted (by PyTorch, two for a multiplication with its addition) while steps are taken on generated clips
    of the plan's shape, on a CPU in single precision. What is small beside them is not counted: normalisation,
    element by element functions, the optimiser.

    Args:
        plan: what is trained.
        at: shares of the training in [0, 1) at which a step is taken; the mean over these is returned.

    Raises:
        TrainingError, MethodError: the plan cannot be trained.
    """
    training = plan.build()
    data = plan.data.model_copy(update={"flow": "exact"})
    fabric = make_fabric("fp32", "cpu")
    engine = FabricEngine(fabric, training.optimizers, plan.loop.steps, plan.loop.accumulate)
    clips = GeneratedClips(plan.loop.batch_size, data.size, data.context, data.horizon)
    feed = Feed(clips, data, training.inputs, plan.loop.batch_size, 0, torch.device("cpu"), World(0, 1))
    batch = feed.ready(next(iter(feed.loader)))
    counted = 0
    for share in at:
        engine.iteration = int(share * plan.loop.steps)
        with by_pytorch(), FlopCounterMode(display=False) as counter:
            training.step(batch.parts(plan.loop.accumulate), engine)
        counted += counter.get_total_flops()
    return counted / len(at)


def budgets_of_suite(suite: str) -> str:
    """A markdown table of what a suite trains, a line a training: numbers of the predictor, steps, clips, arithmetic.

    Raises:
        ProtocolError, TrainingError, MethodError: see `chosen_plans` and `operations_of_a_step`.
    """
    from tabulate import tabulate

    lines = []
    for plan, _ in chosen_plans(suite):
        predictor = plan.build().networks[PREDICTOR]
        lines.append(
            {
                "method": plan.method,
                "recipe": plan.recipe,
                "seed": plan.loop.seed,
                "numbers": f"{sum(value.numel() for value in predictor.state_dict().values()):,}",
                "steps": f"{plan.loop.steps:,}",
                "clips": f"{plan.loop.steps * plan.loop.batch_size:,}",
                "trillion operations": f"{plan.loop.steps * operations_of_a_step(plan) / 1e12:.1f}",
            }
        )
    return tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True)
