"""The step of a training on a GPU, recorded once as a CUDA graph and replayed, so that nothing waits for launches."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Protocol

import torch
from torch import Tensor

from bench.training.engine import FabricEngine
from methods.interface import Poke
from methods.training import Recordable, Training, TrainingBatch
from metrics.errors import TrainingError

WARM = 3
"""Steps of a kind that are computed as they are before one is recorded: memory is reserved and kernels are chosen."""

Draw = Callable[[TrainingBatch], Tensor]
Scalars = dict[str, Tensor]
TENSORS = ("frames", "flow", "tracks")


class Recorder(Protocol):
    """What computes, records and replays on a device."""

    def warm(self, step: Callable[[], Scalars]) -> Scalars:
        """Computes `step` where a recording could go on from it."""

    def record(self, step: Callable[[], Scalars]) -> tuple[Scalars, Callable[[], None]]:
        """Records `step` without computing it: where its scalars will be, and what computes it."""


class CudaRecorder:
    """Records CUDA graphs; all share one pool of memory, since one is replayed at a time."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()
        self._pool = torch.cuda.graph_pool_handle()

    def warm(self, step: Callable[[], Scalars]) -> Scalars:
        """On a stream of its own, as recording asks for."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            found = step()
        torch.cuda.current_stream().wait_stream(self._stream)
        return found

    def record(self, step: Callable[[], Scalars]) -> tuple[Scalars, Callable[[], None]]:
        """See `Recorder`. Data loaders may go on pinning memory in other threads meanwhile."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            found = step()
        return found, graph.replay


@dataclass(frozen=True)
class RecordedBatch(TrainingBatch):
    """The batch of a recorded step: its tensors stay where they are, and others' values are put into them.

    A step is computed with it before one is recorded, so that its draws have memory that is not the recording's own:
    that of a recording is overwritten, from its first kernel on, each time it is replayed.

    Attributes:
        drawn: what was drawn in the step, in order, and where it is kept.
        found: how many of them the present step has asked for.
    """

    drawn: list[tuple[Draw, Tensor]] = field(default_factory=list)
    found: list[int] = field(default_factory=lambda: [0])

    def placed(self, draw: Draw) -> Tensor:
        """Where the draws of each batch are put."""
        place = self.found[0]
        self.found[0] += 1
        if place == len(self.drawn):
            self.drawn.append((draw, super().placed(draw)))
        return self.drawn[place][1]

    def again(self) -> None:
        """The next step begins: it draws the same, from the first draw on.

        Raises:
            TrainingError: the step before did not draw as often as the first.
        """
        if self.found[0] not in (0, len(self.drawn)):
            raise TrainingError(f"a recorded step drew {self.found[0]} times, the first of its kind {len(self.drawn)}")
        self.found[0] = 0

    def load(self, batch: TrainingBatch) -> None:
        """Puts the tensors of `batch` and its draws in the place of what is here."""
        for held, new in zip(_tensors(self), _tensors(batch), strict=True):
            held.copy_(new, non_blocking=True)
        for draw, held in self.drawn:
            drawn = draw(batch)
            held.copy_(drawn.pin_memory() if held.is_cuda else drawn, non_blocking=True)


def _recorded(batch: TrainingBatch) -> RecordedBatch:
    """A batch of the shape of `batch`, of copies of its tensors."""
    values = {one.name: getattr(batch, one.name) for one in fields(TrainingBatch)}
    values |= {name: values[name].clone() for name in TENSORS if values[name] is not None}
    if batch.poke is not None:
        values["poke"] = Poke(batch.poke.location.clone(), batch.poke.displacement.clone())
    return RecordedBatch(**values)


def _tensors(batch: TrainingBatch) -> list[Tensor]:
    found = [getattr(batch, name) for name in TENSORS]
    if batch.poke is not None:
        found += [batch.poke.location, batch.poke.displacement]
    return [tensor for tensor in found if tensor is not None]


class GraphedStep:
    """`Training.step` for whole batches on one device; the same kernels in the same order, so the same numbers.

    One recording is kept: a step of another kind, or with clips of another shape, begins a new one.

    Args:
        training: `Recordable`, with optimisers that can be recorded (Adam).
        engine: of the training.
        recorder: None: CUDA graphs.

    Raises:
        TrainingError: the training cannot be recorded.
    """

    def __init__(self, training: Training, engine: FabricEngine, recorder: Recorder | None = None) -> None:
        if not isinstance(training, Recordable):
            raise TrainingError(f"loop.graphs: steps of {training.name} cannot be recorded; leave it out")
        self._training, self._engine, self._kind_of = training, engine, training.kind
        self._recorder = recorder
        self._kind: Hashable = None
        self._warm = 0
        self._held: RecordedBatch | None = None
        self._recording: tuple[Scalars, Callable[[], None]] | None = None

    def __call__(self, batch: TrainingBatch) -> Scalars:
        """One iteration. What it returns holds until the next."""
        if self._recorder is None:
            self._recorder = CudaRecorder()
        place_rates(self._training, batch.frames.device)
        kind = (self._kind_of(self._engine), [tensor.shape for tensor in _tensors(batch)])
        if kind != self._kind:
            self._kind, self._warm, self._held, self._recording = kind, 0, None, None
        if self._held is None:
            self._held = _recorded(batch)
        held = self._held
        held.load(batch)
        held.again()
        if self._warm < WARM:
            self._warm += 1
            return self._recorder.warm(lambda: self._training.step([held], self._engine))
        if self._recording is None:
            with _capturable(self._training):
                self._recording = self._recorder.record(lambda: self._training.step([held], self._engine))
        scalars, replay = self._recording
        replay()
        return scalars


@contextmanager
def _capturable(training: Training) -> Iterator[None]:
    """Tells the optimisers on a GPU that they are recorded; they warn of steps under this mark that are not."""
    groups = [group for optimizer in training.optimizers.values() for group in optimizer.param_groups]
    on_gpu = [group for group in groups if group["lr"].is_cuda]
    for group in on_gpu:
        group["capturable"] = True
    try:
        yield
    finally:
        for group in on_gpu:
            group["capturable"] = False


def place_rates(training: Training, device: torch.device) -> None:
    """Puts rates and counts of steps of all optimisers on `device`, where recorded steps read them.

    Raises:
        TrainingError: an optimiser cannot be recorded.
    """
    for name, optimizer in training.optimizers.items():
        for group in optimizer.param_groups:
            if "capturable" not in group:
                kind = type(optimizer).__name__
                raise TrainingError(f"loop.graphs: steps of {kind} ({name!r}) cannot be recorded; leave it out")
            if isinstance(group["lr"], Tensor):
                continue
            group["rate"] = group["lr"]
            group["lr"] = torch.tensor(group["rate"], device=device)
            for parameter in group["params"]:
                state = optimizer.state.get(parameter, {})
                if "step" in state:
                    state["step"] = state["step"].to(device)
