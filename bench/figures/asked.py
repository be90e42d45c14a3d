"""What figures ask of methods: clips of a suite, their pokes, predictions, and the motion measured in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.data.interface import DataSet
from bench.evaluate import check_fit
from bench.evaluation.prediction import AnyMethod, condition, predict
from bench.flow.registry import DEFAULT
from bench.flow.source import FlowSource
from bench.motion import MotionMeter
from bench.pokes import on_object
from bench.protocol import Protocol
from methods.interface import Clip, Conditioning
from metrics.errors import DataError


@dataclass(frozen=True)
class Asked:
    """Clips of a suite as a method sees them.

    Attributes:
        protocol: of the suite.
        clips: those chosen, spread over the data.
        flow: of the data, for pokes; None where the protocol gives none.
        shown: what methods may see.
        target: the frames to be predicted, float `[B, T, 3, H, W]` in [0, 1].
        meter: of the motion in predictions, as the protocol's metrics of control have it.
    """

    protocol: Protocol
    clips: list[Clip]
    flow: FlowSource | None
    shown: Conditioning
    target: Tensor
    meter: MotionMeter

    def answer(self, method: AnyMethod, shown: Conditioning | None = None) -> Tensor:
        """The first sample of what `method` predicts, float32 `[B, T, 3, H, W]` in [0, 1]."""
        chosen = self.shown if shown is None else shown
        return predict(method, chosen, self.target, self.protocol.samples, self.protocol.seed)[:, 0]

    def beside(self) -> Tensor:
        """Bool `[B]`: whether the poke of a clip is beside the object, as far as the clip knows its parts."""
        return ~on_object(self.clips, self.shown.poke)

    def from_x0(self, video: Tensor) -> Tensor:
        """As `motion`, measured from x0 alone: for pokes of which the data know no true answer."""
        return self.meter.from_x0(self.shown.x0, video).cpu()

    def motion(self, video: Tensor) -> Tensor:
        """The flow from x0 to the last frame of `video` `[B, T, 3, H, W]`, float32 `[B, 2, H, W]`, px, on the CPU."""
        flows = [clip.flow for clip in self.clips if clip.flow is not None]
        if not self.meter.anchored or len(flows) < len(self.clips):
            return self.from_x0(video)
        return self.meter.measure(self.shown.x0, video, self.target[:, -1], torch.stack(flows)).cpu()


def asked(dataset: DataSet, protocol: Protocol, count: int, device: torch.device) -> Asked:
    """Chooses clips, evenly over the data set, and what is shown of them.

    Raises:
        DataError: the data set has no clips, or its pokes cannot be drawn.
    """
    refs = sorted(dataset.clips(), key=lambda ref: ref.clip_id)
    if not refs or count < 1:
        raise DataError(f"{dataset.name} has {len(refs)} clips, {count} are to be shown; both must be at least 1")
    count = min(count, len(refs))
    clips = [dataset.load(refs[(2 * k + 1) * len(refs) // (2 * count)].clip_id) for k in range(count)]
    flow = None if protocol.poke is None else FlowSource(dataset, protocol.flow, context=protocol.context)
    shown, target = condition(clips, protocol, device, flow)
    meter = MotionMeter(protocol.tracker or DEFAULT, anchored=protocol.anchored, device=device)
    return Asked(protocol, clips, flow, shown, target, meter)


def prepared(methods: Sequence[AnyMethod], protocol: Protocol, device: torch.device) -> list[AnyMethod]:
    """The methods, ready to predict.

    Raises:
        MethodError: a method cannot do what the protocol asks.
    """
    for method in methods:
        check_fit(method.card, protocol)
        method.prepare(device)
    return list(methods)
