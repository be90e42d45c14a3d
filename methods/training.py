"""The page that the author of a trainable method reads: what the loop gives, what the method does with it.

A training holds the networks, their optimisers and the objective; the loop (`bench/train.py`) holds everything else:
data, precision, processes, checkpoints, validation. All randomness of a step is drawn from its batch, so that training
is the same after a resume, and the same for any number of processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.optim import Optimizer

from methods.interface import Method, Poke, clip_generator
from metrics.registry import Registry


@dataclass(frozen=True)
class TrainingBatch:
    """Clips to learn from, augmented, on the device.

    Attributes:
        frames: float32 `[B, C + T, 3, H, W]`, RGB in [0, 1]: C context frames, the last of which is x0, then x1..xT.
        context: C.
        clip_ids: the B clip ids.
        seed: what randomness is derived from; another one in each epoch.
        poke: pokes `[B, 2]`, when the training asks for them.
        flow: float32 `[B, 2, H, W]`: (dx, dy) in px from x0 to xT, when there are pokes.
        tracks: float32 `[B, k, T + 1, 2]`: (x, y) in px of k points in x0..xT, when the training asks for them.
        first: place of these clips in the batch of all processes and parts.
        total: clips of the batch of all processes and parts.
        iteration: steps done before this one.
    """

    frames: Tensor
    context: int
    clip_ids: tuple[str, ...]
    seed: int
    poke: Poke | None = None
    flow: Tensor | None = None
    tracks: Tensor | None = None
    first: int = 0
    total: int = 0
    iteration: int = 0

    def __len__(self) -> int:
        return len(self.clip_ids)

    @property
    def x0(self) -> Tensor:
        """`[B, 3, H, W]`."""
        return self.frames[:, self.context - 1]

    @property
    def future(self) -> Tensor:
        """x1..xT, `[B, T, 3, H, W]`."""
        return self.frames[:, self.context :]

    def generators(self, tag: str) -> list[torch.Generator]:
        """One CPU generator a clip, for one purpose of one step: from (seed, tag, clip id) alone."""
        return [clip_generator(self.seed, f"{tag}/{clip_id}") for clip_id in self.clip_ids]

    def placed(self, draw: Callable[[TrainingBatch], Tensor]) -> Tensor:
        """What `draw` draws on the CPU, on the device of the frames.

        What a `Recordable` training draws goes through here: when its step is replayed, `draw` is called again, with
        the batch of that time.

        Args:
            draw: takes this batch, or a later one, to a tensor of the same shape.
        """
        return draw(self).to(self.frames.device, non_blocking=True)

    def noise(self, tag: str, shape: Sequence[int]) -> Tensor:
        """Standard normal float32 `[B, *shape]` on the device of the frames."""
        size = tuple(shape)
        return self.placed(lambda batch: torch.stack([torch.randn(size, generator=g) for g in batch.generators(tag)]))

    def common_generator(self, tag: str) -> torch.Generator:
        """One CPU generator that is the same in every process and part of a step."""
        digest = hashlib.sha256(f"step/{self.seed}/{self.iteration}/{tag}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") & (2**63 - 1))

    def parts(self, count: int) -> list[TrainingBatch]:
        """The batch in `count` parts, of equal size where that is possible."""
        ends = [len(self) * number // count for number in range(count + 1)]
        return [self._between(low, high) for low, high in pairwise(ends) if high > low]

    def _between(self, low: int, high: int) -> TrainingBatch:
        poke = self.poke and Poke(self.poke.location[low:high], self.poke.displacement[low:high])
        return replace(
            self,
            frames=self.frames[low:high],
            clip_ids=self.clip_ids[low:high],
            poke=poke,
            flow=None if self.flow is None else self.flow[low:high],
            tracks=None if self.tracks is None else self.tracks[low:high],
            first=self.first + low,
        )


class Engine(Protocol):
    """What the loop does for a training within a step."""

    iteration: int
    """Steps done before this one."""
    epoch: int
    """Epochs done before this one."""
    steps: int
    """Steps of the whole training."""

    def minimise(self, name: str, losses: Iterable[Tensor], max_norm: float | None = None) -> None:
        """One step of the optimiser `name`.

        Gradients reach the parameters of that optimiser and no others; they are averaged over processes.

        Args:
            losses: one scalar for each part of the batch that the step was given, the mean over the clips of that
                part. A generator is consumed one loss at a time, so that only one graph is held.
            max_norm: gradients are scaled down to this norm.
        """


@dataclass(frozen=True)
class Recipe:
    """A named way to train a method.

    Attributes:
        model: networks, objective and optimisers; of the training's `Config`.
        data, loop: settings of the loop that differ from its defaults (see `bench/training/plan.py`).
        summary: one line for listings.
    """

    model: BaseModel
    data: Mapping[str, Any] = field(default_factory=dict)
    loop: Mapping[str, Any] = field(default_factory=dict)
    summary: str = ""


class Training(Protocol):
    """Networks, objective and optimisers of a method; built as `TrainingClass(config, seed=...)`.

    Class attributes:
        name: the method's name.
        inputs: what its batches must have beside frames: of "poke" and "tracks".
        Config: type of its configuration, a frozen pydantic model that forbids unknown fields.
        recipes: named configurations.
    """

    name: ClassVar[str]
    inputs: ClassVar[frozenset[str]]
    Config: ClassVar[type[BaseModel]]
    recipes: ClassVar[Mapping[str, Recipe]]

    networks: Mapping[str, nn.Module]
    """All networks whose state is saved. The one called "predictor" is what a prediction needs."""
    optimizers: Mapping[str, Optimizer]

    def check(self, size: int, context: int, horizon: int) -> None:
        """Refuses clips that the configuration does not fit, before anything is computed.

        Raises:
            MethodError: what was expected, what was found.
        """

    def step(self, parts: Sequence[TrainingBatch], engine: Engine) -> dict[str, Tensor]:
        """One iteration: forward passes, and `engine.minimise` once for each optimiser that moves.

        Args:
            parts: the batch of this process, in one part, or in several when gradients are accumulated.

        Returns:
            Scalars for the log, detached, on the device: the step never waits for them.
        """

    def method(self) -> Method:
        """A predictor that shares the networks, prepared."""


@runtime_checkable
class Recordable(Protocol):
    """A training whose step can be recorded on a GPU, as a CUDA graph, and replayed (`loop.graphs`).

    Such a step draws on the CPU alone, through `TrainingBatch.placed`, and never reads or sends a value.
    """

    def kind(self, engine: Engine) -> Hashable:
        """Sets the rates of the step to come, by `set_rate`, and says which kind of step it is.

        Two steps of a kind launch the same kernels: they differ in the batch, the draws and the rates alone. `step`
        calls it as well.
        """


def set_rate(group: dict[str, Any], rate: float) -> None:
    """Sets the learning rate of a group of an optimiser's parameters.

    Where it is a tensor, which recorded steps read on the device, it is set in place, and only when it changes.
    """
    if not isinstance(group["lr"], Tensor):
        group["lr"] = rate
    elif group["rate"] != rate:
        group["lr"].fill_(rate)
        group["rate"] = rate


def training_fault(found: Any) -> str:
    """What keeps a class from being a training; "" when it is one."""
    wanted = ("name", "inputs", "Config", "recipes", "check", "step", "method")
    missing = [name for name in wanted if not hasattr(found, name)]
    return f"it lacks {', '.join(missing)}" if missing else ""


TRAININGS: Registry[type[Training]] = Registry("trainable method", "pokebench.trainings", training_fault)
"""Trainings by name of the method."""
TRAININGS.register("hao", "methods.hao.objective:HaoTraining", "Hao et al.: x0 warped along sparse trajectories")
TRAININGS.register("poking", "methods.poking.objective:PokingTraining", "Blattmann et al.: x0 answers a poke")
TRAININGS.register("ivrnn", "methods.ivrnn.objective:IVRNNTraining", "Castrejon et al.: VRNN with levels of latents")
TRAININGS.register("srvp", "methods.srvp.objective:SRVPTraining", "SRVP: stochastic latent residual dynamics")
TRAININGS.register("savp", "methods.savp.objective:SavpTraining", "SAVP: stochastic adversarial video prediction")
