"""Validation: the predictor on clips held out of the training split, scored as the tables score."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.data.interface import DataSet
from bench.data.show import draw_poke
from bench.evaluation.prediction import condition, predict
from bench.evaluation.scoring import Scorer, merge
from bench.flow.source import FlowSource
from bench.pokes import Draw
from bench.protocol import Protocol
from bench.record import Arrays
from bench.training.plan import Plan
from methods.interface import Conditioning, Method

BATCH = 8
STRIPS = 4


class Validator:
    """Scores predictions for a fixed set of clips; what depends on the truth alone is computed once.

    Args:
        dataset: the clips held out.
        plan: of the training.
        inputs: of the training.
        device: where to predict and score.
    """

    def __init__(self, dataset: DataSet, plan: Plan, inputs: frozenset[str], device: torch.device) -> None:
        data = plan.data
        self._protocol = Protocol(
            dataset=data.dataset,
            size=data.size,
            context=data.context,
            horizon=data.horizon,
            frame_rate=data.frame_rate,
            metrics=plan.loop.validation_metrics,
            min_clips=2,
            clips=None,
            clips_per_source=None,
            samples=1,
            poke=data.poke.model_copy(update={"background": 0.0}) if "poke" in inputs else None,
            tracks=data.tracks if "tracks" in inputs else None,
            flow=data.flow,
            seed=data.seed,
        )
        flow = FlowSource(dataset, data.flow, context=data.context) if "poke" in inputs else None
        self._scorer = Scorer(self._protocol, device)
        self._ids = [ref.clip_id for ref in dataset.clips()]
        self._batches: list[tuple[Conditioning, Tensor, dict[str, Any]]] = []
        for start in range(0, len(self._ids), BATCH):
            clips = [dataset.load(clip_id) for clip_id in self._ids[start : start + BATCH]]
            conditioning, target = condition(clips, self._protocol, device, flow)
            with torch.inference_mode():
                self._batches.append((conditioning, target, self._scorer.reference(target)))

    def __call__(self, method: Method) -> tuple[dict[str, float], Tensor]:
        """Means of the frame metrics, values of the set metrics, and a picture of the first clips.

        Returns:
            The values by metric, and float `[3, h, w]` in [0, 1]: for each clip x0 and its true frames above x0 and
            the predicted ones; the poke is drawn into x0.
        """
        parts: list[tuple[list[str], Arrays]] = []
        shown: list[Tensor] = []
        for conditioning, target, reference in self._batches:
            pred = predict(method, conditioning, target, 1, self._protocol.seed)
            with torch.inference_mode():
                parts.append((list(conditioning.clip_ids), self._scorer.score(pred, reference)))
            if not shown:
                shown = [strip(conditioning, target, pred[:, 0], row) for row in range(min(STRIPS, len(pred)))]
        arrays = merge(parts, self._ids)
        values = {name: float(arrays[f"frame/{name}"].mean()) for name in self._scorer.frame}
        for name, metric in self._scorer.sets.items():
            pred, truth = (torch.from_numpy(arrays[f"features/{metric.extractor}/{k}"]) for k in ("pred", "target"))
            values[name] = float(metric.value(pred, truth).value)
        return values, torch.cat(shown, dim=1)


def strip(conditioning: Conditioning, target: Tensor, pred: Tensor, row: int) -> Tensor:
    """Truth above prediction of one clip, float `[3, 2 H, (T + 1) W]` in [0, 1], the poke drawn into x0."""
    x0 = conditioning.x0[row]
    if conditioning.poke is not None:
        x0 = with_poke(x0, conditioning.poke.location[row], conditioning.poke.displacement[row])
    rows = [torch.cat([x0, *frames], dim=-1) for frames in (target[row], pred[row])]
    return torch.cat(rows, dim=-2).float().cpu()


def with_poke(image: Tensor, location: Tensor, displacement: Tensor) -> Tensor:
    """`image` float `[3, H, W]` in [0, 1] with a red arrow for the poke; both vectors `[2]`, px."""
    from PIL import Image

    picture = Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().cpu().numpy())
    draw_poke(picture, Draw(location[None].cpu(), displacement[None].cpu(), "strong"), zoom=1)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).to(image) / 255
