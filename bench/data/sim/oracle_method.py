"""The oracle as a method: the ceiling row of the tables for true pokes.

It sees the poke and, by the clip id, the scene; it searches the force that realises the poke and draws what follows.
It never sees a future frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from bench.data.sim.clips import CONTEXT, HORIZON, LENGTH, rounded
from bench.data.sim.flow import Surface, dense_flow, surface
from bench.data.sim.oracle import Answer, answer
from bench.data.sim.poking import Stage
from bench.data.sim.render import LARGEST, SMALLEST, render
from bench.data.sim.splits import SPLITS, Split, stage_of
from methods.interface import Conditioning, ExactAnswer, MethodCard
from metrics.errors import DataError, MethodError

STAGES_KEPT = 4


class Oracle:
    """The true response to any poke of a simulated scene.

    Attributes:
        answers: what was found for each clip id of the last `predict`, with the residual of infeasible pokes.
    """

    def __init__(self) -> None:
        self.card = MethodCard(
            name="oracle",
            title="Simulation (oracle)",
            revision="1",
            inputs=frozenset({"context", "poke"}),
            horizons=frozenset({HORIZON}),
            sizes=frozenset(range(SMALLEST, LARGEST + 1)),
            notes="Knows the scene and simulates the poke asked for. Only for the simulated splits of true pokes.",
        )
        self.answers: dict[str, Answer] = {}

    def prepare(self, device: torch.device) -> None:
        """Nothing to load."""

    def check_clips(self, clip_ids: Sequence[str]) -> None:
        """Raises MethodError unless all clips are of simulated splits of pokes."""
        for clip_id in clip_ids:
            _scene_of(clip_id)

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        """The simulated response to the pokes, `[B, 1, 10, 3, S, S]`.

        Raises:
            MethodError: there is no single poke per clip, the horizon is not 10, or a clip is not of a simulated
                split of pokes.
        """
        size = int(conditioning.context.shape[-1])
        films = []
        for stage, found in self._found(conditioning):
            frames = render(stage.world.scene, found.pose[CONTEXT:], size)
            films.append(torch.from_numpy(frames).to(torch.float32) / 255)
        return torch.stack(films)[:, None].to(conditioning.context.device)

    def exact_answer(self, conditioning: Conditioning) -> ExactAnswer:
        """The exact flow of what `predict` would show, and where each poked point went; nothing is drawn.

        The flow is rounded as that of the clips is, so that what stands still has none.

        Raises:
            MethodError: as `predict`.
        """
        size = int(conditioning.context.shape[-1])
        flows, displacements = [], []
        seen: dict[int, Surface] = {}
        for stage, found in self._found(conditioning):
            scene = stage.world.scene
            if id(stage) not in seen:
                seen[id(stage)] = surface(scene, stage.before[CONTEXT - 1 :], size)
            flows.append(rounded(dense_flow(scene, seen[id(stage)], found.pose[LENGTH - 1 :])[0]).astype(np.float64))
            displacements.append(found.displacement)
        return ExactAnswer(torch.from_numpy(np.stack(displacements)), torch.from_numpy(np.stack(flows)))

    def _found(self, conditioning: Conditioning) -> Iterator[tuple[Stage, Answer]]:
        """For each clip its stage, and what follows its poke there."""
        poke = conditioning.poke
        if poke is None or poke.location.shape != (len(conditioning.clip_ids), 2):
            raise MethodError("the oracle needs one poke for each clip; use a protocol that gives it")
        if conditioning.horizon != HORIZON:
            raise MethodError(f"the oracle predicts {HORIZON} frames, found a horizon of {conditioning.horizon}")
        size = int(conditioning.context.shape[-1])
        if not SMALLEST <= size <= LARGEST:
            raise MethodError(
                f"the oracle draws frames of {SMALLEST} to {LARGEST} px, found {size} px; use such a size"
            )
        self.answers = {}
        for clip_id, location, displacement in zip(
            conditioning.clip_ids, poke.location.tolist(), poke.displacement.tolist(), strict=True
        ):
            split, scene = _scene_of(clip_id)
            stage = _stage(split.name, scene)
            mode = "impulse" if split.content == "impulse" else "pull"
            self.answers[clip_id] = answer(stage, (location[0], location[1]), np.array(displacement), size, mode)
            yield stage, self.answers[clip_id]


def _scene_of(clip_id: str) -> tuple[Split, int]:
    for split in SPLITS.values():
        if split.content != "natural":
            try:
                return split, split.locate(clip_id)[0]
            except DataError:
                continue
    names = ", ".join(name for name, split in SPLITS.items() if split.content != "natural")
    raise MethodError(f"the oracle answers pokes of {names}; it knows no scene of clip {clip_id!r}")


@lru_cache(maxsize=STAGES_KEPT)
def _stage(name: str, scene: int) -> Stage:
    return stage_of(SPLITS[name], scene)
