"""The method under test: called on copies, with the global random generators watched, whatever it raises caught."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from methods.conformance.clips import ClipSource, Shown, shown
from methods.conformance.outcome import Caught, Outcome, checked, named
from methods.conformance.random import global_random
from methods.interface import AnswersManyPokes, ChecksClips, Conditioning, Method, Poke, TruthMethod
from metrics.errors import DataError, MethodError
from metrics.features.exact import exact_float32

AnyMethod = Method | TruthMethod
Build = Callable[[], AnyMethod]

HORIZON = 10
AROUND = 977
"""Seed of the global random generators around a call; no seed that a prediction is asked for."""
SIZE = 64
SAMPLES = 2
"""Samples drawn from a stochastic method."""
TOLERANCE = 1e-4
"""Largest difference of a predicted value that rounding may make, a fortieth of a grey level of 8 bits. A GPU, which
takes other algorithms for other batch sizes, computes in full float32 as a CPU does. The networks of this repository,
trained or not, stay below 1e-5 when a CPU takes other algorithms, and tests hold them on a GPU to 1e-4 of a CPU."""


class Subject:
    """The method under test, and the clips that it is shown.

    Args:
        build: builds the method; called again where another process would build its own.
        device: where it predicts.
        size: side of the frames, px; None: 64, or the side next to it that the card admits.
        source: of the clips.

    Raises:
        MethodError: the method cannot be built, does not predict that size, or knows only other clips.
        DataError: the clips have no poke, or no tracks, for a method that takes them.
    """

    def __init__(self, build: Build, device: torch.device, size: int | None, source: ClipSource) -> None:
        self.build, self.device, self._source = build, device, source
        self._alone: dict[int, Tensor] = {}
        self._clips: dict[tuple[int, int, int], Shown] = {}
        self.method = build()
        self.card = card = self.method.card
        if size is not None and card.sizes is not None and size not in card.sizes:
            raise MethodError(
                f"{card.name}: expected a size of {named(card.sizes)} px, found {size}; choose one of these"
            )
        self.size = size or min(card.sizes or {SIZE}, key=lambda side: (abs(side - SIZE), side))
        self.horizon = min(card.horizons or {HORIZON}, key=lambda count: (abs(count - HORIZON), count))
        self.context = max(1, card.min_context)
        self.goes_by_id = isinstance(self.method, ChecksClips)
        """Whether what it shows is found by clip id, on disk or in a simulation."""
        if isinstance(self.method, ChecksClips):
            _check_known(self.method, self.usual.conditioning.clip_ids)
        for name in ("poke", "tracks"):
            if name in card.inputs and getattr(self.usual.conditioning, name) is None:
                raise DataError(f"{card.name} takes {name}, and these clips have none; choose other clips")

    @property
    def samples(self) -> int:
        """How many samples are asked for, as the harness does."""
        return SAMPLES if self.card.stochastic else 1

    @cached_property
    def usual(self) -> Shown:
        """All clips at the usual size, with the fewest context frames and the usual horizon."""
        return self.shown()

    @cached_property
    def first(self) -> Outcome:
        """What became of the first call, which is shown all clips."""
        return self.call(self.usual)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the prediction of `usual`."""
        batch, _, _, height, width = self.usual.conditioning.context.shape
        return (batch, self.samples, self.horizon, 3, height, width)

    @cached_property
    def prediction(self) -> Tensor:
        """Of `usual`, float32 `[B, S, T, 3, H, W]` in [0, 1]."""
        return checked(self.first, self.shape)

    def one(self, row: int = 0) -> Shown:
        """One clip of `usual`."""
        return self.usual.select([row])

    def alone(self, row: int = 0) -> Tensor:
        """The prediction of one clip of `usual` by itself, `[1, S, T, 3, H, W]`; made once."""
        if row not in self._alone:
            self._alone[row] = self.predict(self.one(row))
        return self._alone[row]

    def shown(self, size: int | None = None, context: int | None = None, horizon: int | None = None) -> Shown:
        """Clips, with the inputs that the card declares."""
        return self.everything(size, context, horizon).given_to(self.card)

    def everything(self, size: int | None = None, context: int | None = None, horizon: int | None = None) -> Shown:
        """The same with all inputs that there are."""
        key = (size or self.size, context or self.context, horizon or self.horizon)
        if key not in self._clips:
            self._clips[key] = shown(self._source(*key), key[1])
        return self._clips[key]

    def call(
        self,
        given: Shown,
        *,
        samples: int | None = None,
        seed: int = 0,
        method: AnyMethod | None = None,
        device: torch.device | None = None,
        around: int = AROUND,
        bait: bool = False,
    ) -> Outcome:
        """Calls the method on copies of what is given, in full float32 and without gradients, as an evaluation does.

        Args:
            samples: None: as many as `samples` says.
            method, device: another one, and where it is prepared.
            around: seed of the global random generators, which are put back afterwards.
            bait: the context lies in one piece of memory with the frames that follow.
        """
        used, count = method or self.method, self.samples if samples is None else samples

        def predicted(conditioning: Conditioning, truth: Tensor) -> Any:
            if "truth" in used.card.inputs:
                return cast(TruthMethod, used).predict_from_truth(conditioning, truth, count, seed)
            return cast(Method, used).predict(conditioning, count, seed)

        return self._watched(predicted, given, device or self.device, around, bait)

    def rollout(self, given: Shown, frames: Sequence[int] | None) -> Outcome:
        """As `call`, of the `rollout_pokes` of a method that has it: the pokes of `given` on its first x0."""

        def rolled(conditioning: Conditioning, truth: Tensor) -> Any:
            assert conditioning.poke is not None
            method = cast(AnswersManyPokes, self.method)
            return method.rollout_pokes(conditioning.x0[0], conditioning.poke, conditioning.horizon, frames=frames)

        return self._watched(rolled, given, self.device, AROUND)

    def _watched(
        self,
        work: Callable[[Conditioning, Tensor], Any],
        given: Shown,
        device: torch.device,
        around: int,
        bait: bool = False,
    ) -> Outcome:
        """What became of `work` on copies of what is given: the conditioning and the truth, on `device`."""
        conditioning, truth = _copied(given.conditioning).to(device), given.truth.clone().to(device)
        if bait:
            frames = torch.cat([conditioning.context, truth], 1)
            conditioning = replace(conditioning, context=frames[:, : conditioning.context.shape[1]])
        before = _copied(conditioning)
        value: Any = None
        with global_random(around) as states, exact_float32(device), Caught() as caught:
            value = work(conditioning, truth)
        return Outcome(value, caught.error, tuple(states), _differing(before, conditioning))

    def predict(self, given: Shown, **options: Any) -> Tensor:
        """As `call`; a prediction on the CPU, float32 `[B, S, T, 3, H, W]` in [0, 1].

        Raises:
            PredictionFault: it raised, or returned something else, or values that are not finite and in [0, 1].
        """
        outcome = self.call(given, **options)
        context, count = given.conditioning.context, options.get("samples")
        wanted = (self.samples if count is None else count) if self.card.stochastic else 1
        batch, _, _, height, width = context.shape
        return checked(outcome, (batch, wanted, given.conditioning.horizon, 3, height, width))


def _check_known(method: ChecksClips, clip_ids: Sequence[str]) -> None:
    try:
        method.check_clips(clip_ids)
    except MethodError as error:
        raise MethodError(
            f"{error}. A method that knows certain clips alone is checked on these: name their data set with --data."
        ) from error


def _copied(conditioning: Conditioning) -> Conditioning:
    poke, tracks = conditioning.poke, conditioning.tracks
    return Conditioning(
        conditioning.context.clone(),
        tuple(conditioning.clip_ids),
        conditioning.horizon,
        conditioning.frame_rate,
        None if poke is None else Poke(poke.location.clone(), poke.displacement.clone()),
        None if tracks is None else tracks.clone(),
    )


def _differing(before: Conditioning, after: Conditioning) -> tuple[str, ...]:
    """The inputs that are no longer what they were."""
    pairs = {"context": (before.context, after.context)}
    if before.poke is not None and after.poke is not None:
        pairs["poke.location"] = (before.poke.location, after.poke.location)
        pairs["poke.displacement"] = (before.poke.displacement, after.poke.displacement)
    if before.tracks is not None and after.tracks is not None:
        pairs["tracks"] = (before.tracks, after.tracks)
    return tuple(name for name, (one, other) in pairs.items() if not torch.equal(one, other))
