"""The page that an adapter author reads: what a method is given, what it returns, what it says of itself.

A method is any object with a `card`, a `prepare` and a `predict`; it need not inherit from anything. See
`methods/baselines.py` for complete examples and the README for a walk-through.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

INPUTS = ("context", "poke", "tracks", "truth")
"""What a method may declare that it uses. "truth" is for reference rows that see the answer."""
RANGE_SLACK = 1e-6
"""How far outside [0, 1] rounding may push a predicted value."""
PROMISES = ("zero_stillness", "beside_stillness")
"""What a method may promise: that all stays at rest under a poke of no length, and under one beside the object."""


@dataclass(frozen=True)
class Clip:
    """One clip of a data set, on the CPU.

    Attributes:
        frames: uint8 `[T, 3, H, W]`, RGB: the context frames, then the frames to be predicted.
        clip_id: a name that never changes, made of letters, digits, ".", "_", "-" and "@".
        source: what the clip was cut from (a video, a scene). Clips of one source are not independent.
        frame_rate: frames per second of `frames`.
        flow: float32 `[2, H, W]`: (dx, dy) in pixels from x0, the last context frame, to the last frame.
        parts: uint8 `[H, W]`: part ids of x0, 0 is the background.
        tracks: float32 `[N, T, 2]`: (x, y) in pixels of N points of x0 in every frame.
        poke: the poke that caused the motion, where it is known, as a batch of one.
        visible: bool `[H, W]`: whether what a pixel shows in x0 is still seen in the last frame.
    """

    frames: Tensor
    clip_id: str
    source: str
    frame_rate: float
    flow: Tensor | None = None
    parts: Tensor | None = None
    tracks: Tensor | None = None
    poke: Poke | None = None
    visible: Tensor | None = None


@dataclass(frozen=True)
class Poke:
    """A batch of pokes: the point at `location` of x0 is to be at `location + displacement` in the last frame.

    Attributes:
        location: float32 `[B, 2]`: (x, y) in pixels, x to the right, y down.
        displacement: float32 `[B, 2]`: (dx, dy) in pixels.
    """

    location: Tensor
    displacement: Tensor


@dataclass(frozen=True)
class Conditioning:
    """All that a method may see. There is never a future frame in it.

    Attributes:
        context: float32 `[B, C, 3, H, W]`, RGB in [0, 1]; the last one is x0.
        clip_ids: the B clip ids; randomness is derived from them.
        horizon: number T of frames to predict.
        frame_rate: frames per second.
        poke: the pokes, when the protocol gives them.
        tracks: float32 `[B, k, T + 1, 2]`: (x, y) in pixels of k points in x0..xT, when the protocol gives
            sparse trajectories.
    """

    context: Tensor
    clip_ids: Sequence[str]
    horizon: int
    frame_rate: float = 10.0
    poke: Poke | None = None
    tracks: Tensor | None = None

    @property
    def x0(self) -> Tensor:
        """The last context frame, float32 `[B, 3, H, W]`."""
        return self.context[:, -1]

    def to(self, device: torch.device | str) -> Conditioning:
        """The same with all tensors on `device`."""
        poke = self.poke and Poke(self.poke.location.to(device), self.poke.displacement.to(device))
        tracks = None if self.tracks is None else self.tracks.to(device)
        return replace(self, context=self.context.to(device), poke=poke, tracks=tracks)

    def select(self, rows: Sequence[int]) -> Conditioning:
        """The clips at `rows` alone, in that order."""
        kept = list(rows)
        poke = self.poke and Poke(self.poke.location[kept], self.poke.displacement[kept])
        tracks = None if self.tracks is None else self.tracks[kept]
        ids = tuple(self.clip_ids[row] for row in kept)
        return replace(self, context=self.context[kept], clip_ids=ids, poke=poke, tracks=tracks)

    def generators(self, seed: int) -> list[torch.Generator]:
        """One CPU generator a clip, derived from (seed, clip id) alone.

        Draw all randomness from these, and results depend on neither batch size nor process count.
        """
        return [clip_generator(seed, clip_id) for clip_id in self.clip_ids]


def clip_generator(seed: int, clip_id: str) -> torch.Generator:
    """A CPU generator that depends on `seed` and `clip_id` alone, the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{clip_id}".encode()).digest()
    generator = torch.Generator()
    generator.manual_seed(int.from_bytes(digest[:8], "little") & (2**63 - 1))
    return generator


@dataclass(frozen=True)
class MethodCard:
    """What a method says of itself; tables print it.

    Attributes:
        name: identifier on the command line and in records, with its tag ("poking-paper-64").
        title: row header.
        paper: citation, empty for a baseline.
        licence: of code and weights.
        revision: rises with every change that moves its predictions.
        inputs: which of INPUTS it uses.
        stochastic: whether samples differ.
        min_context: fewest context frames.
        horizons: the horizons that it can predict, None: any.
        sizes: the sides in px that it can predict, None: any.
        parameters: number of trained parameters.
        weights: weight file name -> sha256.
        notes: anything that a reader of the row must know (such as lossy inputs).
        promises: which of PROMISES it keeps; `bench check` measures them.
    """

    name: str
    title: str
    revision: str
    inputs: frozenset[str] = frozenset({"context"})
    stochastic: bool = False
    paper: str = ""
    licence: str = ""
    min_context: int = 1
    horizons: frozenset[int] | None = None
    sizes: frozenset[int] | None = None
    parameters: int = 0
    weights: dict[str, str] = field(default_factory=dict)
    notes: str = ""
    promises: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        unknown = self.inputs - set(INPUTS)
        if unknown:
            raise ValueError(f"card of {self.name}: unknown inputs {sorted(unknown)}; there are {INPUTS}")


@runtime_checkable
class Method(Protocol):
    """A predictor. Built by the registry as `factory(**options)`; options come from "name:key=value,..."."""

    card: MethodCard

    def prepare(self, device: torch.device) -> None:
        """Loads weights and moves to `device`. Called once, before the first `predict`.

        Raises:
            MethodError: weights are missing, or do not fit.
        """

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        """Predicts the frames x1..xT.

        Args:
            conditioning: on the device given to `prepare`.
            samples: number S of predictions for each clip; deterministic methods return S = 1.
            seed: draw from `conditioning.generators(seed)`.

        Returns:
            Float `[B, S, T, 3, H, W]` in [0, 1].

        Raises:
            MethodError: the conditioning lacks what the method declares, or has another size.
        """


@runtime_checkable
class TruthMethod(Protocol):
    """A reference row: its card lists "truth" among the inputs, and it is shown the frames to be predicted."""

    card: MethodCard

    def prepare(self, device: torch.device) -> None:
        """As `Method.prepare`."""

    def predict_from_truth(self, conditioning: Conditioning, truth: Tensor, samples: int, seed: int) -> Tensor:
        """As `Method.predict`, given `truth`, float `[B, T, 3, H, W]` in [0, 1]."""


@runtime_checkable
class ChecksClips(Protocol):
    """What a method may have besides, to refuse a run before it starts."""

    def check_clips(self, clip_ids: Sequence[str]) -> None:
        """Raises MethodError unless the method can predict these clips, as when predictions on disk lack some."""


@runtime_checkable
class AnswersManyPokes(Protocol):
    """What a method may have besides, to encode an image once for all its pokes."""

    def rollout_pokes(self, x0: Tensor, pokes: Poke, horizon: int, frames: Sequence[int] | None = None) -> Tensor:
        """The videos that follow K pokes on one image.

        Args:
            x0: float `[3, H, W]` in [0, 1].
            pokes: location and displacement `[K, 2]`, px.
            horizon: T.
            frames: numbers of the frames wanted, from 1 to T; None: all.

        Returns:
            Float `[K, F, 3, H, W]` in [0, 1], F the number of frames wanted.
        """


@dataclass(frozen=True)
class ExactAnswer:
    """What truly follows pokes.

    Attributes:
        displacement: float64 `[B, 2]`, (dx, dy) in px: where each poked point went; that of the poke, unless nothing
            could take it there.
        flow: float64 `[B, 2, H, W]`, (dx, dy) in px, from x0 to the last frame.
    """

    displacement: Tensor
    flow: Tensor


@runtime_checkable
class AnswersExactly(Protocol):
    """What a method may have besides, where it knows the motion that it shows, as a simulation does."""

    def exact_answer(self, conditioning: Conditioning) -> ExactAnswer:
        """What follows the pokes of `conditioning`; errors as `predict`."""


def method_fault(found: Any) -> str:
    """What keeps a built method from being one; "" when it is one."""
    card = getattr(found, "card", None)
    if not isinstance(card, MethodCard):
        return "it has no attribute `card` of type MethodCard"
    wanted = ("prepare", "predict_from_truth" if "truth" in card.inputs else "predict")
    missing = [name for name in wanted if not callable(getattr(found, name, None))]
    return f"it lacks {', '.join(missing)}" if missing else ""
