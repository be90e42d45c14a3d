"""All that one page holds: methods, pictures, and the latest answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bench.data.interface import Progress
from bench.poke_page.answers import Answer, Shelf
from bench.poke_page.errors import PageError
from bench.poke_page.predictors import Predictor, build_predictors
from bench.poke_page.scenes import FRAME_RATE, Scene, default_scenes, named_scenes, uploaded_scene

MOST_UPLOAD = 16 * 2**20
"""Largest file that may be uploaded, bytes."""
ANSWERS_KEPT, UPLOADS_KEPT = 32, 16


class Session:
    """What one page serves.

    Args:
        predictors: the methods, at least one.
        scenes: the pictures, at least one, all of `size` px.
        size: side of all frames, px.
    """

    def __init__(self, predictors: Sequence[Predictor], scenes: Sequence[Scene], size: int) -> None:
        self.size = size
        self.predictors = {f"method-{number}": predictor for number, predictor in enumerate(predictors)}
        self.scenes = {f"scene-{number}": scene for number, scene in enumerate(scenes)}
        self.uploads: Shelf[Scene] = Shelf("picture", UPLOADS_KEPT)
        self.answers: Shelf[Answer] = Shelf("answer", ANSWERS_KEPT)

    def describe(self) -> dict[str, Any]:
        """What the page needs to know when it opens, for JSON."""
        return {
            "size": self.size,
            "rate": FRAME_RATE,
            "upload_bytes": MOST_UPLOAD,
            "methods": [
                {
                    "key": key,
                    "label": predictor.label,
                    "notes": predictor.card.notes,
                    "stochastic": predictor.card.stochastic,
                }
                for key, predictor in self.predictors.items()
            ],
            "scenes": [self.describe_scene(key, scene) for key, scene in self.scenes.items()],
        }

    def describe_scene(self, key: str, scene: Scene) -> dict[str, Any]:
        """A picture, for JSON: its names, the poke known for it, and why methods refuse it."""
        refused = {name: predictor.refusal(scene) for name, predictor in self.predictors.items()}
        return {
            "key": key,
            "label": scene.label,
            "origin": scene.origin,
            "remark": scene.remark,
            "poke": scene.poke and {"location": scene.poke[0], "displacement": scene.poke[1]},
            "refused": {name: reason for name, reason in refused.items() if reason},
        }

    def scene(self, key: str) -> Scene:
        """The picture of that name.

        Raises:
            PageError: there is none.
        """
        return self.scenes[key] if key in self.scenes else self.uploads.get(key)

    def upload(self, data: bytes, crop: bool) -> dict[str, Any]:
        """Takes a picture of the user's own; describes it as `describe_scene`.

        Raises:
            PokeBenchError: see `uploaded_scene`.
        """
        scene = uploaded_scene(data, self.size, crop)
        return self.describe_scene(self.uploads.put(scene), scene)

    def ask(
        self, method: str, scene: str, location: Sequence[float], displacement: Sequence[float], seed: int
    ) -> dict[str, Any]:
        """Predicts once; describes the answer, for JSON. Arguments as `Predictor.answer`.

        Raises:
            PokeBenchError: no such method or picture, or the method cannot answer.
        """
        if method not in self.predictors:
            raise PageError(f"There is no method {method!r} on this page; reload it.", 404)
        answer = self.predictors[method].answer(self.scene(scene), location, displacement, seed)
        return {
            "key": self.answers.put(answer),
            "frames": len(answer.frames),
            "seconds": answer.seconds,
            "note": answer.note,
        }


def open_session(
    methods: Sequence[str],
    images: Sequence[str],
    *,
    size: int | None,
    device: torch.device,
    progress: Progress | None = None,
) -> Session:
    """Prepares methods and pictures.

    Args:
        methods: specifications; the oracle is added.
        images: files or "DATASET:CLIP"; none: some simulated scenes.
        size: side of the frames in px; None: what the methods predict.

    Raises:
        MethodError: see `build_predictors`.
        DataError: see `named_scenes`.
    """
    predictors, side = build_predictors(methods, size, device)
    scenes = named_scenes(images, side) if images else default_scenes(side, progress)
    return Session(predictors, scenes, side)
