"""One loop for every trainable method, on one process or many."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.data.interface import Progress as DataProgress
from bench.distributed import BARRIER_TIMEOUT, World
from bench.training.allocator import keep_memory
from bench.training.checkpoints import Checkpoints
from bench.training.engine import Average, FabricEngine
from bench.training.feed import Feed, TrainingData, open_training_data
from bench.training.folder import alone, store_plan, writing
from bench.training.loop import Loop, Report, Trained
from bench.training.plan import PRECISIONS, PREDICTOR, Plan
from methods.training import Training
from metrics.cache import atomic_path
from metrics.errors import TrainingError

if TYPE_CHECKING:
    from lightning.fabric import Fabric

log = logging.getLogger(__name__)

FINAL = "model.safetensors"
"""The weights of the last step, in the folder of a training that is done."""


def make_fabric(precision: str = "fp32", device: str | None = None) -> Fabric:
    """Fabric on this process, or on all that torchrun started, launched. Processes wait for each other as long as in an
    evaluation, for the first prepares data and flow alone.

    Args:
        precision: a key of PRECISIONS.
        device: "cpu" or "cuda"; None: a GPU when there is one.

    Raises:
        TrainingError: fp16 on a CPU.
    """
    from lightning.fabric import Fabric
    from lightning.fabric.strategies.ddp import DDPStrategy

    accelerator = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if precision == "fp16" and accelerator == "cpu":
        raise TrainingError("loop.precision=fp16 needs a GPU; use bf16 or fp32 on a CPU")
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = int(os.environ.get("WORLD_SIZE", "1")) // local
    many = local * nodes > 1
    chosen: Any = PRECISIONS[precision]
    fabric = Fabric(
        accelerator=accelerator,
        devices=local,
        num_nodes=nodes,
        strategy=DDPStrategy(timeout=BARRIER_TIMEOUT) if many else "auto",
        precision=chosen,
    )
    fabric.launch()
    return fabric


def train(
    plan: Plan,
    out: Path,
    *,
    data: TrainingData | None = None,
    fabric: Fabric | None = None,
    workers: int = 0,
    skip_unreadable: bool = False,
    report: Report | None = None,
    data_progress: DataProgress | None = None,
) -> Trained:
    """Trains under `plan`, from the newest checkpoint in `out` if there is one.

    The result is the same, bit for bit on one machine, however often it was interrupted and resumed.

    Args:
        plan: what to do.
        out: folder of this training: the plan, checkpoints, log.
        data: opened data; None: as the plan says.
        fabric: launched; None: made here.
        workers: processes that read ahead.
        skip_unreadable: leave out files that cannot be used, and log which.
        report: called after every logged step.
        data_progress: called while data are prepared.

    Raises:
        TrainingError: the plan and `out` do not fit, another process trains in `out`, it cannot be written, or a loss
            is not finite; the last good checkpoint is named.
        MethodError: the configuration does not fit the data.
        DataError: the data cannot be had, or not any more: then a checkpoint was written first where that was possible.
        KeyboardInterrupt: it was interrupted; a checkpoint was written first.
    """
    training = plan.build()
    _check_clipping(plan, training)
    fabric = fabric or make_fabric(plan.loop.precision)
    if fabric.device.type == "cpu":
        keep_memory()
    world = World(fabric.global_rank, fabric.world_size)
    _check_shares(plan, world)
    _check_graphs(plan, world, fabric.device)
    with alone(out) if world.first else nullcontext():
        checkpoints = Checkpoints(out / "checkpoints", plan)
        if world.first:
            with writing(f"the plan in {out}"):
                store_plan(plan, out)
            checkpoints.tidy()
        opened = data or _opened(plan, world, skip_unreadable, data_progress)
        return _train(plan, out, training, opened, checkpoints, fabric, world, workers, report, data_progress)


def _train(
    plan: Plan,
    out: Path,
    training: Training,
    opened: TrainingData,
    checkpoints: Checkpoints,
    fabric: Fabric,
    world: World,
    workers: int,
    report: Report | None,
    data_progress: DataProgress | None,
) -> Trained:
    for network in training.networks.values():
        network.to(fabric.device)
    engine = FabricEngine(fabric, training.optimizers, plan.loop.steps, plan.loop.accumulate)
    feed = Feed(
        opened.training,
        plan.data,
        training.inputs,
        plan.loop.batch_size,
        plan.loop.seed,
        fabric.device,
        world,
        workers,
        data_progress,
    )
    if checkpoints.newest() is None:
        plan.begin(training)
    average = None if plan.loop.ema is None else Average(training.networks[PREDICTOR], plan.loop.ema)
    done = Loop(plan, out, training, opened, fabric, world, engine, feed, average, checkpoints, report).run()
    if world.first:
        with writing(f"the trained weights in {out}"), atomic_path(out / FINAL) as temporary:
            shutil.copyfile(done.model, temporary)
    world.barrier()
    return replace(done, model=out / FINAL)


def _check_shares(plan: Plan, world: World) -> None:
    share = plan.loop.batch_size // world.size
    if plan.loop.batch_size % world.size or share % plan.loop.accumulate:
        raise TrainingError(
            f"loop.batch_size {plan.loop.batch_size} cannot be cut into equal parts for {world.size} processes with "
            f"{plan.loop.accumulate} parts each; take a multiple of {world.size * plan.loop.accumulate}"
        )


def _check_clipping(plan: Plan, training: Training) -> None:
    """Fabric clips no gradients that a fused optimiser unscales by itself."""
    fused = any(getattr(one, "_step_supports_amp_scaling", False) for one in training.optimizers.values())
    if plan.loop.precision == "fp16" and plan.model.get("max_norm") is not None and fused:
        raise TrainingError(
            f"loop.precision=fp16 does not go with model.max_norm={plan.model['max_norm']} in {plan.method}; take "
            "bf16 or fp32, or model.max_norm=none"
        )


def _check_graphs(plan: Plan, world: World, device: torch.device) -> None:
    loop = plan.loop
    if loop.graphs and (device.type != "cuda" or world.size > 1 or loop.accumulate > 1 or loop.precision == "fp16"):
        raise TrainingError(
            f"loop.graphs is for one process on a GPU, one part a batch and precision fp32 or bf16; found {world.size} "
            f"on {device.type}, {loop.accumulate} and {loop.precision}. Leave it out, or change these."
        )


def _opened(plan: Plan, world: World, skip_unreadable: bool, progress: DataProgress | None) -> TrainingData:
    """The first process prepares the data, the others wait for it."""
    if not world.first:
        world.barrier()
    opened = open_training_data(plan.data, progress, skip_unreadable=skip_unreadable)
    if world.first:
        for name in opened.training.skipped:
            log.warning("left out as unreadable: %s", name)
        world.barrier()
    return opened
