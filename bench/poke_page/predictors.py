"""The methods of the page, each with a lock: a method predicts one thing at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import cast

import torch

from bench.evaluation.scoring import check_prediction
from bench.pictures import common_size
from bench.poke_page.answers import Answer
from bench.poke_page.scenes import FRAME_RATE, Scene, check_poke
from methods.interface import ChecksClips, Conditioning, Method, MethodCard, Poke
from methods.registry import build_method
from metrics.errors import MethodError, PokeBenchError

HORIZON = 10
"""Frames predicted, as in the paper; a method that cannot predict as many shows the nearest number that it can."""
SIZE = 64
"""Side of the frames in px where the methods leave a choice."""
ALWAYS = "oracle"


@dataclass(frozen=True)
class Predictor:
    """A prepared method.

    Attributes:
        spec: as the user named it.
        label: title of its card, with what tells it apart from others of that title.
        device: where it predicts.
    """

    spec: str
    label: str
    method: Method
    device: torch.device
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def card(self) -> MethodCard:
        """The method's card."""
        return self.method.card

    @property
    def horizon(self) -> int:
        """Frames that it predicts."""
        return min(self.card.horizons or {HORIZON}, key=lambda horizon: (abs(horizon - HORIZON), horizon))

    def refusal(self, scene: Scene) -> str:
        """Why the method cannot answer pokes of `scene`, as far as it knows beforehand; "" when it can."""
        if isinstance(self.method, ChecksClips):
            try:
                self.method.check_clips([scene.clip_id])
            except PokeBenchError as error:
                return str(error)
        return ""

    def answer(self, scene: Scene, location: Sequence[float], displacement: Sequence[float], seed: int) -> Answer:
        """What the method shows for a poke. Calls from several threads wait for each other.

        Args:
            scene: the picture, of the size that the method predicts.
            location: (x, y), px.
            displacement: (dx, dy), px.
            seed: of the sample, for a stochastic method.

        Raises:
            PageError: the poke begins outside the picture, or is longer than its side.
            PokeBenchError: the method refuses, or returned something that is no video.
        """
        check_poke(scene, location, displacement)
        x0 = scene.x0.to(self.device).float() / 255
        poke = Poke(torch.tensor([location], dtype=torch.float32), torch.tensor([displacement], dtype=torch.float32))
        asked = Conditioning(x0[None, None], (scene.clip_id,), self.horizon, FRAME_RATE, poke).to(self.device)
        with self.lock, torch.no_grad():
            began = time.perf_counter()
            found = self.method.predict(asked, 1, seed)
            shape = (1, 1, self.horizon, 3, scene.size, scene.size)
            video = check_prediction(found, self.card.name, [scene.clip_id], shape)[0, 0].clamp(0, 1)
            frames = (video * 255).round().to(torch.uint8).cpu()
            seconds = time.perf_counter() - began
            note = _note(self.method, scene.clip_id)
        everything = torch.cat([scene.x0[None], frames]).permute(0, 2, 3, 1).contiguous().numpy()
        x, y = location
        dx, dy = displacement
        return Answer(self.label, self.card, scene.clip_id, (x, y), (dx, dy), seed, everything, seconds, note)


def build_predictors(specs: Sequence[str], size: int | None, device: torch.device) -> tuple[list[Predictor], int]:
    """Builds and prepares the methods that `specs` name, and the oracle last; and says which size they predict.

    Args:
        specs: as `methods.registry.build_method` takes them.
        size: side of the frames in px; None: SIZE if all can predict it, else the smallest that they can.

    Raises:
        MethodError: a method is given twice, cannot be built, takes no pokes, needs more than one picture and a poke,
            or the methods have no size in common.
    """
    chosen = [*specs, *([] if ALWAYS in specs else [ALWAYS])]
    twice = [spec for spec in chosen if chosen.count(spec) > 1]
    if twice:
        raise MethodError(f"every method may be given once, found {twice[0]} several times")
    methods = [_fitting(spec) for spec in chosen]
    side = common_size([method.card for method in methods], size, SIZE, "the page")
    for method in methods:
        method.prepare(device)
    labels = _labels(chosen, [method.card.title for method in methods])
    built = [
        Predictor(spec, label, method, device) for spec, label, method in zip(chosen, labels, methods, strict=True)
    ]
    return built, side


def _fitting(spec: str) -> Method:
    """A method that can predict from one picture and a poke."""
    method = cast(Method, build_method(spec))
    card = method.card
    if "poke" not in card.inputs:
        raise MethodError(f"{card.name} takes no pokes, so there is nothing to try by hand; choose a method that does")
    if card.inputs & {"tracks", "truth"} or card.min_context > 1:
        wants = ", ".join(sorted(card.inputs)) + f" ({card.min_context} frames of context)"
        raise MethodError(f"{card.name} needs {wants}; the page has one picture and a poke. Choose another method.")
    return method


def _labels(specs: Sequence[str], titles: Sequence[str]) -> list[str]:
    """Titles; those that are alike get what differs in their specs, folder by folder."""
    labels = []
    for spec, title in zip(specs, titles, strict=True):
        alike = [PurePath(other).parts for other, same in zip(specs, titles, strict=True) if same == title]
        parts = list(PurePath(spec).parts)
        if len(alike) > 1:
            while len({other[0] for other in alike}) == 1:
                alike, parts = [other[1:] for other in alike], parts[1:]
            while len({other[-1] for other in alike}) == 1:
                alike, parts = [other[:-1] for other in alike], parts[:-1]
            title = f"{title}: {'/'.join(parts)}"
        labels.append(title)
    return labels


def _note(method: Method, clip_id: str) -> str:
    """What the simulation knows of its last answer."""
    from bench.data.sim.oracle_method import Oracle

    if not isinstance(method, Oracle):
        return ""
    answer = method.answers[clip_id]
    if answer.feasible:
        return ""
    return f"The point cannot get there: this is the nearest response, {answer.residual:.1f} px from the target."
