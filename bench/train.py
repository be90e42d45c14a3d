"""One loop for every trainable method, on one process or many."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bench import provenance
from bench.data.interface import Progress as DataProgress
from bench.data.loader import worker_fault
from bench.distributed import World, peers_alive
from bench.interrupts import interruptible
from bench.training.checkpoints import Checkpoints, Progress
from bench.training.engine import Average, FabricEngine, NotFiniteError
from bench.training.feed import Feed, TrainingData, open_training_data
from bench.training.folder import alone, writing
from bench.training.journal import Journal
from bench.training.plan import PRECISIONS, PREDICTOR, Plan, read_plan
from bench.training.validation import Validator
from methods.training import Training
from metrics.base import METRICS
from metrics.cache import atomic_path
from metrics.errors import DataError, TrainingError

if TYPE_CHECKING:
    from lightning.fabric import Fabric

log = logging.getLogger(__name__)

FINAL = "model.safetensors"
"""The weights of the last step, in the folder of a training that is done."""

Report = Callable[[int, int, str], None]
"""Called as `report(steps done, steps in all, what was measured last)`."""


@dataclass(frozen=True)
class Trained:
    """What a training left.

    Attributes:
        training: with the final weights.
        model: the final weights, FINAL in the folder of the training.
        checkpoint: folder of the last checkpoint.
        values: of the last validation; empty when there was none.
    """

    training: Training
    model: Path
    checkpoint: Path
    values: dict[str, float]


def make_fabric(precision: str = "fp32", device: str | None = None) -> Fabric:
    """Fabric on this process, or on all that torchrun started, launched.

    Args:
        precision: a key of PRECISIONS.
        device: "cpu" or "cuda"; None: a GPU when there is one.

    Raises:
        TrainingError: fp16 on a CPU.
    """
    from lightning.fabric import Fabric

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
        strategy="ddp" if many else "auto",
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
    fabric = fabric or make_fabric(plan.loop.precision)
    world = World(fabric.global_rank, fabric.world_size)
    _check_shares(plan, world)
    with alone(out) if world.first else nullcontext():
        return _train(plan, out, training, data, fabric, world, workers, report, data_progress)


def _train(
    plan: Plan,
    out: Path,
    training: Training,
    data: TrainingData | None,
    fabric: Fabric,
    world: World,
    workers: int,
    report: Report | None,
    data_progress: DataProgress | None,
) -> Trained:
    checkpoints = Checkpoints(out / "checkpoints", plan)
    if world.first:
        with writing(f"the plan in {out}"):
            _store_plan(plan, out)
        checkpoints.tidy()
    opened = data or _opened(plan, world, data_progress)
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
    done = _Loop(plan, out, training, opened, fabric, world, engine, feed, average, checkpoints, report).run()
    if world.first:
        with writing(f"the trained weights in {out}"), atomic_path(out / FINAL) as temporary:
            shutil.copyfile(done.model, temporary)
    world.barrier()
    return replace(done, model=out / FINAL)


class _Loop:
    def __init__(
        self,
        plan: Plan,
        out: Path,
        training: Training,
        data: TrainingData,
        fabric: Fabric,
        world: World,
        engine: FabricEngine,
        feed: Feed,
        average: Average | None,
        checkpoints: Checkpoints,
        report: Report | None,
    ) -> None:
        self.plan, self.loop, self.out, self.training = plan, plan.loop, out, training
        self.fabric, self.world, self.engine, self.feed = fabric, world, engine, feed
        self.average, self.checkpoints, self.report = average, checkpoints, report
        self.facts = {
            "commit": provenance.commit(),
            "dataset": data.training.name,
            "data": data.training.content_hash,
            "batch_size": plan.loop.batch_size,
            "precision": plan.loop.precision,
            "seed": plan.loop.seed,
            "hardware": provenance.hardware(str(fabric.device)),
        }
        self.progress = Progress(0, 0.0, feed.loader.state_dict())
        self.values: dict[str, float] = {}
        self.between = True  # no step is half done
        self.precision: Any = fabric.strategy.precision  # holds the gradient scaler of fp16
        newest = checkpoints.newest()
        if newest is not None:
            self.progress = checkpoints.restore(newest, training, average)
            feed.loader.load_state_dict(dict(self.progress.loader))
            if self.progress.scaler is not None:
                self.precision.load_state_dict(dict(self.progress.scaler))
            log.info("going on from %s", newest)
        self.written = self.progress.iteration
        self.validator = None
        if world.first and data.validation is not None and self.loop.validate_every:
            self.validator = Validator(data.validation, plan, training.inputs, fabric.device)
        self.journal = Journal(out, self.progress.iteration) if world.first else None

    def run(self) -> Trained:
        """Steps until the plan's last."""
        try:
            return self._run()
        except RuntimeError as error:
            fault = worker_fault(error)  # which may come at any moment, and leave a step half done
            if fault is None:
                raise
            raise DataError(f"{fault} {self._left()}") from error

    def _run(self) -> Trained:
        try:
            with interruptible("step") as interrupted:
                for done in self._steps():
                    stop = self._agreed(done, interrupted())
                    validate = bool(self.loop.validate_every) and self._due(done, self.loop.validate_every)
                    if validate or stop or self._due(done, self.loop.checkpoint_every):
                        self.engine.check_finite()
                        best = self._validate(done) if validate else False
                        self._write(best)
                    if stop:
                        raise KeyboardInterrupt(f"{done} of {self.loop.steps} steps are done")
        except NotFiniteError as error:
            good = self.checkpoints.newest()
            raise TrainingError(
                f"{error}. The last good checkpoint is {good or 'none: it failed before the first'}. "
                "Lower the learning rate or use precision fp32, with another --out, or look at the data."
            ) from error
        except DataError as error:
            # Clips are read between steps: the state is that after the last step, and is kept.
            if self.between and self.world.first and self.progress.iteration > self.written:
                self._write(False, alone=True)
            raise DataError(f"{error} {self._left()}") from error
        finally:
            if self.journal is not None:
                self.journal.close()
        self.world.barrier()
        newest = self.checkpoints.newest()
        if newest is None:
            raise TrainingError(
                f"no checkpoint can be read in {self.checkpoints.folder}, which all processes must share"
            )
        return Trained(self.training, newest / "model.safetensors", newest, self.values)

    def _steps(self) -> Iterator[int]:
        """Takes one step after the other and yields how many are done."""
        done = first = self.progress.iteration
        started, spent = time.perf_counter(), self.progress.seconds
        while done < self.loop.steps:
            for batch in self.feed.loader:
                self.engine.iteration, self.engine.epoch = done, self.feed.loader.epoch
                parts = self.feed.ready(batch).parts(self.loop.accumulate)
                self.between = False
                with self.fabric.autocast():
                    scalars = self.training.step(parts, self.engine)
                if self.average is not None:
                    self.average.update(done)
                done += 1
                seconds = time.perf_counter() - started
                scaler = dict(self.precision.state_dict()) or None
                loader = self.feed.loader.state_dict()
                self.progress = Progress(done, spent + seconds, loader, self.progress.best, scaler)
                self.between = True
                if self._due(done, self.loop.log_every):
                    self._log(done, scalars, (done - first) / seconds)
                yield done
                if done == self.loop.steps:
                    return

    def _log(self, done: int, scalars: dict[str, Tensor], rate: float) -> None:
        if self.journal is None:
            return
        names = list(scalars)
        numbers = torch.stack([scalars[name].float() for name in names]).tolist()  # one wait for all of them
        self.engine.check_finite()
        values = dict(zip(names, numbers, strict=True))
        self.journal.write(done, "train", {**values, "steps_per_second": rate, "seconds": self.progress.seconds})
        if self.report is not None:
            shown = ", ".join(f"{name} {value:.4g}" for name, value in list(values.items())[:3])
            self.report(done, self.loop.steps, shown)

    def _validate(self, done: int) -> bool:
        """Validates in the first process; whether it is the best so far."""
        if self.validator is None or self.journal is None:
            return False
        if self.average is not None:
            self.average.swap()
        try:
            self.values, picture = self.validator(self.training.method())
        finally:
            if self.average is not None:
                self.average.swap()
        self.journal.write(done, "validation", self.values)
        self.journal.picture(done, "truth above prediction", picture)
        value, best = self.values[self.loop.best], self.progress.best
        if METRICS.get(self.loop.best).card.higher_is_better:
            better = best is None or value > best
        else:
            better = best is None or value < best
        if better and math.isfinite(value):
            progress = self.progress
            self.progress = Progress(progress.iteration, progress.seconds, progress.loader, value, progress.scaler)
            return True
        return False

    def _write(self, best: bool, alone: bool = False) -> None:
        """Writes a checkpoint.

        Args:
            best: it is the best one.
            alone: not all processes are here.
        """
        if self.world.first:
            self.checkpoints.write(self.training, self.average, self.progress, self.facts, self.loop.keep, best)
        self.written = self.progress.iteration
        if not alone:
            self.world.barrier()

    def _left(self) -> str:
        return f"The training is kept up to step {self.written}; run the same command again to go on from there."

    def _due(self, done: int, every: int) -> bool:
        """Whether something is due that is to happen after `every` steps (0: never) and at the end."""
        return done == self.loop.steps or (every > 0 and done % every == 0)

    def _agreed(self, done: int, interrupted: bool) -> bool:
        """Whether to stop. Several processes ask each other now and then, for they must stop after the same step."""
        if self.world.size == 1:
            return interrupted
        if not self._due(done, self.loop.log_every):
            return False
        asked = torch.tensor(float(interrupted), device=self.fabric.device)
        with peers_alive():
            torch.distributed.all_reduce(asked)
        return bool(asked > 0)


def _check_shares(plan: Plan, world: World) -> None:
    share = plan.loop.batch_size // world.size
    if plan.loop.batch_size % world.size or share % plan.loop.accumulate:
        raise TrainingError(
            f"loop.batch_size {plan.loop.batch_size} cannot be cut into equal parts for {world.size} processes with "
            f"{plan.loop.accumulate} parts each; take a multiple of {world.size * plan.loop.accumulate}"
        )


def _store_plan(plan: Plan, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    target = out / "plan.json"
    if target.is_file():
        before = read_plan(target)
        if before.identity != plan.identity:
            different = [
                f"{section}.{key}: {old.get(key)!r} there, {value!r} here"
                for section in ("model", "data", "loop", "start")
                for old, new in [(before.model_dump()[section] or {}, plan.model_dump()[section] or {})]
                for key, value in new.items()
                if old.get(key) != value
            ]
            raise TrainingError(
                f"{out} holds a training under another plan ({'; '.join(different) or 'another method'}). "
                "Give the same settings to go on, or another --out to start anew."
            )
    with atomic_path(target) as temporary:
        temporary.write_text(json.dumps(plan.model_dump(mode="json"), indent=1))


def _opened(plan: Plan, world: World, progress: DataProgress | None) -> TrainingData:
    """The first process prepares the data, the others wait for it."""
    if not world.first:
        world.barrier()
    opened = open_training_data(plan.data, progress)
    if world.first:
        world.barrier()
    return opened
