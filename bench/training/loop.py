"""The loop of a training: steps, logs, validations, checkpoints, and what is kept when it ends early."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bench import provenance
from bench.data.loader import worker_fault
from bench.distributed import World, peers_alive
from bench.interrupts import interruptible
from bench.training.checkpoints import Checkpoints, Progress
from bench.training.engine import Average, FabricEngine, NotFiniteError
from bench.training.feed import Feed, TrainingData
from bench.training.graph import GraphedStep
from bench.training.journal import Journal
from bench.training.plan import Plan
from bench.training.validation import Validator
from methods.training import Training, TrainingBatch
from metrics.base import METRICS
from metrics.errors import DataError, TrainingError

if TYPE_CHECKING:
    from lightning.fabric import Fabric

log = logging.getLogger(__name__)

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


class Loop:
    """Steps, logs, validations and checkpoints of one training, from its newest checkpoint on."""

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
        self.step = GraphedStep(training, engine) if plan.loop.graphs else self._plain_step
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
                        self._check_finite()
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
            # Clips are read between steps: the state is that after the last step, and is kept if it is any good.
            if self.between and self.world.first and self.progress.iteration > self.written:
                with suppress(NotFiniteError):
                    self._check_finite()
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
                ready = replace(self.feed.ready(batch), iteration=done)
                self.between = False
                with self.fabric.autocast():
                    scalars = self.step(ready)
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

    def _plain_step(self, batch: TrainingBatch) -> dict[str, Tensor]:
        return self.training.step(batch.parts(self.loop.accumulate), self.engine)

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

    def _check_finite(self) -> None:
        """Raises a NotFiniteError unless all losses so far, and all parameters and their average, are finite."""
        self.engine.check_finite()
        weights: list[Tensor] = [p for network in self.training.networks.values() for p in network.parameters()]
        self.engine.check_weights(weights + ([] if self.average is None else list(self.average.tensors.values())))

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
