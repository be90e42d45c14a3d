"""What a method is shown, and what it answers, checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import TypeVar, cast

import torch
from torch import Tensor

from bench.evaluation.memory import out_of_memory
from bench.evaluation.scoring import check_prediction
from bench.flow.source import FlowSource
from bench.foreign import Reported, described
from bench.pokes import pokes_of, still_targets
from bench.protocol import Protocol
from bench.text import weights_mark
from bench.tracks import tracks_of
from methods.interface import Clip, Conditioning, Method, TruthMethod
from metrics.errors import DataError, MethodError
from metrics.features.exact import exact_float32

AnyMethod = Method | TruthMethod
SomeMethod = TypeVar("SomeMethod", Method, TruthMethod, Method | TruthMethod)

SHOWN = 8
"""Clip ids that a message names at most."""


def told_apart(methods: Sequence[SomeMethod]) -> dict[str, SomeMethod]:
    """`methods` by name, in the given order; those that share a name have their weights' file and the start of its
    sha256 behind it.

    Raises:
        MethodError: two are the same, with the same weights.
    """
    cards = [method.card for method in methods]
    shared = {name for name, count in Counter(card.name for card in cards).items() if count > 1}
    names = [f"{card.name}{weights_mark(card.weights)}" if card.name in shared else card.name for card in cards]
    if len(set(names)) < len(names):
        raise MethodError(f"every method may be given once, found {', '.join(names)}")
    return dict(zip(names, methods, strict=True))


def condition(
    clips: Sequence[Clip], protocol: Protocol, device: torch.device, flow: FlowSource | None = None
) -> tuple[Conditioning, Tensor]:
    """Splits clips into what a method may see and the frames to be predicted, float `[B, T, 3, H, W]` in [0, 1].

    Args:
        flow: of the data set; needed when the protocol has pokes. After a poke beside the object the frames to be
            predicted are x0: nothing is to move.

    Raises:
        DataError: a clip has another shape than the protocol says, or no poke or tracks can be drawn.
    """
    wanted = (protocol.length, 3, protocol.size, protocol.size)
    for clip in clips:
        if tuple(clip.frames.shape) != wanted or clip.frames.dtype != torch.uint8:
            raise DataError(
                f"clip {clip.clip_id}: expected uint8 {list(wanted)}, "
                f"found {clip.frames.dtype} {list(clip.frames.shape)}"
            )
    frames, poke = torch.stack([clip.frames for clip in clips]), None
    if protocol.poke is not None and flow is not None:
        poke = pokes_of(clips, flow, protocol.poke, protocol.seed)
        frames = still_targets(frames, poke, protocol.context)
    tracks = None
    if protocol.tracks is not None:
        tracks = tracks_of(clips, protocol.tracks, protocol.seed, protocol.context, device)
    frames = frames.to(device).float() / 255
    # Copies: not even in memory does a future frame lie behind the context.
    context, target = frames[:, : protocol.context].clone(), frames[:, protocol.context :].clone()
    ids = tuple(clip.clip_id for clip in clips)
    shown = Conditioning(context, ids, protocol.horizon, clips[0].frame_rate, poke, tracks)
    return shown.to(device), target


def predict(method: AnyMethod, conditioning: Conditioning, truth: Tensor, samples: int, seed: int) -> Tensor:
    """One checked prediction, float32 `[B, S, T, 3, H, W]`; `truth` goes to reference methods alone.

    The method computes in full float32, so that a GPU and a CPU give the same numbers to rounding: without TF32 and
    autocast, unless it asks for them itself.

    Raises:
        MethodError: the method raised an exception, or returned something that cannot be scored.
        RuntimeError, MemoryError: memory ran out; see `bench.evaluation.memory.out_of_memory`.
    """
    count = samples if method.card.stochastic else 1
    with exact_float32(conditioning.context.device), Reported(partial(_raised, method, conditioning.clip_ids)):
        if "truth" in method.card.inputs:
            found = cast(TruthMethod, method).predict_from_truth(conditioning, truth, count, seed)
        else:
            found = cast(Method, method).predict(conditioning, count, seed)
    batch, _, _, height, width = conditioning.context.shape
    shape = (batch, count, conditioning.horizon, 3, height, width)
    return check_prediction(found, method.card.name, list(conditioning.clip_ids), shape).to(truth.device)


def _raised(method: AnyMethod, clip_ids: Sequence[str], error: Exception) -> MethodError | None:
    """What a method's exception is for the user; None for a lack of memory, which a smaller batch may cure."""
    if out_of_memory(error):
        return None
    named = ", ".join(clip_ids[:SHOWN]) + (f" and {len(clip_ids) - SHOWN} more" if len(clip_ids) > SHOWN else "")
    return MethodError(
        f"the method {method.card.name} raised {described(error, method)} on a batch of {len(clip_ids)} clips "
        f"({named}). Correct the method and run the same command again: what was computed before is kept and used."
    )
