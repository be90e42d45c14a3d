"""How methods answer their pokes: motion measured in predictions, beside the truth, for the metrics of control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bench.motion import MotionMeter
from bench.pokes import PokeRule, is_beside, on_object, simulate_poke
from bench.protocol import Protocol
from bench.record import Arrays
from methods.interface import Clip, Conditioning, Poke
from metrics.base import METRICS
from metrics.control import flow_at
from metrics.control_metrics import DOSES, ControlMetric, Response, Retrieval, needed
from metrics.control_retrieval import retrieval_accuracy
from metrics.errors import ProtocolError

Predict = Callable[[Conditioning], Tensor]
"""A checked prediction `[B, S, T, 3, H, W]` for a conditioning."""

RETRIEVAL = Retrieval.card.name


@dataclass(frozen=True)
class Truth:
    """What is known of a batch.

    Attributes:
        flow: `[B, 2, H, W]`, px, from x0 to the last true frame.
        exact: whether it is exact.
        visible: bool `[B, H, W]`: whether what a pixel shows in x0 is still seen in the last frame; None: not known.
        on_object: bool `[B]`: whether the clip's poke is on the object, as its parts say; where it knows none: whether
            it was drawn so.
        beside: a poke beside the object for each clip; None unless a metric needs it.
    """

    flow: Tensor
    exact: bool
    visible: Tensor | None
    on_object: Tensor
    beside: Poke | None

    def select(self, rows: Sequence[int]) -> Truth:
        """The clips at `rows` alone."""
        kept = list(rows)
        beside = self.beside and Poke(self.beside.location[kept], self.beside.displacement[kept])
        visible = None if self.visible is None else self.visible[kept]
        return Truth(self.flow[kept], self.exact, visible, self.on_object[kept], beside)


class ControlScorer:
    """The clip metrics of a protocol.

    Args:
        protocol: with a poke rule and a tracker where it names clip metrics.
        device: where flow estimators that use a GPU work.
    """

    def __init__(self, protocol: Protocol, device: torch.device) -> None:
        self.metrics: dict[str, ControlMetric] = {
            name: METRICS.get(name)(device=device) for name in protocol.metrics if METRICS.get(name).card.kind == "clip"
        }
        self._needs = needed(list(self.metrics.values()))
        self._measures = any(metric.measures_motion() for metric in self.metrics.values())
        self._context, self._seed, self._rule = protocol.context, protocol.seed, protocol.poke
        self._meter = (
            MotionMeter(protocol.tracker, anchored=protocol.anchored, device=device)
            if protocol.tracker is not None
            else None
        )

    def truth(self, clips: Sequence[Clip], conditioning: Conditioning, target: Tensor) -> Truth | None:
        """What is known of a batch; None where the protocol has no clip metrics.

        The flow is exact where every clip of the batch carries it. After a poke beside the object nothing is to move.

        Raises:
            ProtocolError: motion is to be measured from the truth too, and it is not known exactly.
        """
        if not self.metrics:
            return None
        carried = [clip.flow for clip in clips if clip.flow is not None]
        exact = len(carried) == len(clips)
        assert self._meter is not None
        if self._meter.anchored and not exact:
            raise ProtocolError(
                f"anchored: motion is measured from the true last frame too, but clip {clips[0].clip_id} of this data "
                "set knows no exact flow; use --set anchored=false"
            )
        flow = torch.stack(carried) if exact else self._meter.from_x0(conditioning.x0, target)
        beside = self._beside(clips, flow) if "beside" in self._needs else None
        seen = [clip.visible for clip in clips if clip.visible is not None]
        visible = torch.stack(seen) if len(seen) == len(clips) else None
        on = on_object(clips, conditioning.poke)
        rule = self._rule
        still = [row for row, clip in enumerate(clips) if rule and is_beside(rule, self._seed, clip.clip_id)]
        if still:
            flow[still], on[still] = 0, False
            if visible is not None:
                visible[still] = True
        return Truth(flow, exact, visible, on, beside)

    def score(
        self, pred: Tensor, target: Tensor, conditioning: Conditioning, truth: Truth | None, predict: Predict
    ) -> Arrays:
        """The values "clip/NAME", float64 `[B, S]`, of predictions `[B, S, T, 3, H, W]`.

        Args:
            predict: called for further pokes, where a metric needs them.
        """
        if truth is None or conditioning.poke is None:
            return {}
        poke = conditioning.poke
        doses, beside = torch.tensor(DOSES, device=poke.displacement.device), truth.beside
        others = {
            factor: self._repoked(conditioning, poke.displacement * factor, predict) for factor in self._factors()
        }
        aside = None if beside is None else predict(replace(conditioning, poke=beside))
        flow, meter = truth.flow.to(target.device), self._meter
        assert meter is not None
        values: dict[str, list[Tensor]] = {name: [] for name in self.metrics}
        coarse = []
        for sample in range(pred.shape[1]):
            if self._measures:
                # For further pokes the data know no true answer, so they, and what is compared with them, are
                # measured from x0.
                answers = [pred, *others.values(), *([] if aside is None else [aside])]
                found = meter.from_x0_each(conditioning.x0, [answer[:, sample] for answer in answers])
                first, *rest = (motion.to(target.device) for motion in found)
                measured = meter.measure(conditioning.x0, pred[:, sample], target[:, -1], flow, first)
                by_factor = {1.0: first, **dict(zip(others, rest, strict=False))}
            else:
                measured, by_factor, rest = torch.full_like(flow, torch.nan), {}, []
            point = poke.location[:, None]
            response = Response(
                pred=pred[:, sample],
                target=target,
                location=poke.location,
                displacement=poke.displacement,
                flow=measured,
                true_flow=flow,
                exact=truth.exact,
                visible=None if truth.visible is None else truth.visible.to(target.device),
                doses=poke.displacement[:, None] * doses[:, None] if "doses" in self._needs else None,
                dose_responses=(
                    torch.cat([flow_at(by_factor[factor], point) for factor in DOSES], 1)
                    if "doses" in self._needs
                    else None
                ),
                still=by_factor.get(0.0),
                beside=None if aside is None else rest[-1],
                on_object=truth.on_object.to(target.device),
            )
            for name, metric in self.metrics.items():
                values[name].append(metric.score(response))
            coarse.append(Retrieval.coarse(measured))
        arrays: Arrays = {f"clip/{name}": torch.stack(found, 1).cpu().numpy() for name, found in values.items()}
        if RETRIEVAL in self.metrics:
            arrays["response/pred"] = torch.stack(coarse, 1).cpu().numpy()
            arrays["response/truth"] = Retrieval.coarse(flow).cpu().numpy()
        return arrays

    def finish(self, arrays: Arrays, sources: Sequence[str]) -> Arrays:
        """The arrays of all clips, with what only all of them together give."""
        if RETRIEVAL not in self.metrics:
            return arrays
        pred, truth = (torch.from_numpy(arrays[f"response/{kind}"]) for kind in ("pred", "truth"))
        found = [retrieval_accuracy(pred[:, sample], truth, sources) for sample in range(pred.shape[1])]
        return {**arrays, f"clip/{RETRIEVAL}": np.stack([values.numpy() for values in found], 1)}

    def _factors(self) -> list[float]:
        factors = [factor for factor in DOSES if factor != 1] if "doses" in self._needs else []
        return [*factors, 0.0] if "still" in self._needs else factors

    def _repoked(self, conditioning: Conditioning, displacement: Tensor, predict: Predict) -> Tensor:
        assert conditioning.poke is not None
        return predict(replace(conditioning, poke=Poke(conditioning.poke.location, displacement)))

    def _beside(self, clips: Sequence[Clip], flow: Tensor) -> Poke:
        """A place beside the object, with the vector of a pixel that moves."""
        parts = all(clip.parts is not None for clip in clips)
        foreground = self._rule.foreground if self._rule is not None else "none"
        rule = PokeRule(background=1.0, foreground="parts" if parts else foreground)
        draws = [
            simulate_poke(
                flow[row], clip.frames[self._context - 1], rule, self._seed, f"beside/{clip.clip_id}", clip.parts
            )
            for row, clip in enumerate(clips)
        ]
        return Poke(torch.cat([draw.location for draw in draws]), torch.cat([draw.displacement for draw in draws]))
