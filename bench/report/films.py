"""The videos of a report: the few clips that are shown are predicted again, as they were when they were scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.data.interface import DataSet, Progress
from bench.evaluation.prediction import AnyMethod, condition, predict
from bench.evaluation.scoring import quantised
from bench.flow.source import FlowSource
from bench.protocol import Protocol
from bench.record import LoadedRecord
from bench.report.choose import Roles, clip_metrics
from bench.report.media import Sheet, sheet
from bench.report.numbers import number
from bench.tables import clip_values
from metrics.base import METRICS, FrameMetric
from metrics.errors import PokeBenchError
from metrics.psnr import PSNR_CAP

SAME = 1e-3
"""Largest relative difference between a frame's value now and in its record, if the frames are to count as the same."""
WITNESSES = ("psnr", "ssim")
"""Metrics that are asked first whether the frames are the same, since they are quick."""


@dataclass(frozen=True)
class Tile:
    """One video.

    Attributes:
        title: the method's; "Ground truth".
        truth: whether it is the ground truth, whose sheet holds the context frames too.
        sheet: its frames.
        values: metric -> value of the sample shown, as text; empty for the truth.
    """

    title: str
    truth: bool
    sheet: Sheet
    values: dict[str, str]


@dataclass(frozen=True)
class ShownClip:
    """One clip with the videos of all methods.

    Attributes:
        clip_id, source: its names.
        roles: why it is shown.
        tiles: ground truth first.
        pokes: (x, y, dx, dy), px.
    """

    clip_id: str
    source: str
    roles: Roles
    tiles: tuple[Tile, ...]
    pokes: tuple[tuple[float, float, float, float], ...]


@dataclass
class Filmed:
    """Videos of all chosen clips.

    Attributes:
        clips: in the given order.
        frame_rates: frames per second at which they were recorded, each once, fastest first.
        sentences: what a reader must know: methods without videos, frames that are not those that were scored.
    """

    clips: list[ShownClip]
    frame_rates: tuple[float, ...]
    sentences: list[str]


class _Projector:
    """A method, ready to predict; what it cannot do it says in a sentence and is left out from then on."""

    def __init__(self, method: AnyMethod, record: LoadedRecord, device: torch.device) -> None:
        self.method, self.record, self.fault, self.drift = method, record, "", 0.0
        self.title = record.facts.method.title
        try:
            method.prepare(device)
        except PokeBenchError as error:
            self.fault = str(error)

    def sentence(self, witness: str) -> str:
        if self.fault:
            return f"There are no videos of {self.title}: {self.fault}"
        if self.drift > SAME:
            return (
                f"The frames of {self.title} are not quite those that were scored: predicted again, {witness} differs "
                f"by up to {self.drift:.1%} on a frame."
            )
        return ""


def film(
    methods: Sequence[AnyMethod | None],
    records: Sequence[LoadedRecord],
    dataset: DataSet,
    chosen: Mapping[int, Roles],
    device: torch.device,
    progress: Progress | None = None,
) -> Filmed:
    """Predicts the chosen clips again, with the protocol's seed and sample count; sample 1 of each is shown.

    The frames are compared with the records by a metric that has a value a frame. A method that fails is left out.

    Args:
        methods: one a record; None where it cannot be built, and is left out.
        chosen: row of the records -> roles.
    """
    protocol, facts = records[0].facts.protocol, records[0].facts
    projectors = [_Projector(m, r, device) for m, r in zip(methods, records, strict=True) if m is not None]
    witness = _witness(protocol, device)
    flow = None if protocol.poke is None else FlowSource(dataset, protocol.flow, context=protocol.context)
    clips: list[ShownClip] = []
    rates: set[float] = set()
    for done, (row, roles) in enumerate(chosen.items()):
        if progress is not None:
            progress(done, len(chosen), "videos")
        clip = dataset.load(facts.clip_ids[row])
        rates.add(round(clip.frame_rate, 3))
        shown, target = condition([clip], protocol, device, flow)
        tiles = [Tile("Ground truth", True, sheet(torch.cat([shown.context[0], target[0]])), {})]
        for projector in projectors:
            if projector.fault:
                continue
            try:
                video = predict(projector.method, shown, target, protocol.samples, protocol.seed)[:, 0]
            except PokeBenchError as error:
                projector.fault = str(error)
                continue
            video = quantised(video, protocol.quantise)
            projector.drift = max(projector.drift, _drift(witness, video, target, projector.record, row))
            tiles.append(Tile(projector.title, False, sheet(video[0]), _values(projector.record, row)))
        pokes: list[tuple[float, float, float, float]] = []
        if shown.poke is not None:
            both = torch.cat([shown.poke.location.reshape(-1, 2), shown.poke.displacement.reshape(-1, 2)], 1)
            pokes = [(x, y, dx, dy) for x, y, dx, dy in both.cpu().tolist()]
        clips.append(ShownClip(facts.clip_ids[row], facts.sources[row], dict(roles), tuple(tiles), tuple(pokes)))
    sentences = [projector.sentence(witness[0] if witness else "") for projector in projectors]
    if witness is None:
        sentences.append(
            "No metric of this suite has a value a frame, so the frames shown could not be compared with those scored."
        )
    return Filmed(clips, tuple(sorted(rates, reverse=True)), [sentence for sentence in sentences if sentence])


def _witness(protocol: Protocol, device: torch.device) -> tuple[str, FrameMetric] | None:
    """The metric that tells whether frames are those that were scored; None where there is none a frame."""
    frame = [name for name in protocol.metrics if METRICS.get(name).card.kind == "frame"]
    if not frame:
        return None
    name = next((name for name in WITNESSES if name in frame), frame[0])
    return name, METRICS.get(name)(device=device, mode=protocol.mode)


def _drift(
    witness: tuple[str, FrameMetric] | None, video: Tensor, target: Tensor, record: LoadedRecord, row: int
) -> float:
    """Largest relative difference of a frame's value from that of the record; PSNR counts up to PSNR_CAP."""
    if witness is None:
        return 0.0
    name, metric = witness
    with torch.inference_mode():
        now = metric.score(video, metric.reference(target))[0].cpu().double().numpy()
    then = record.frame_values(name)[row, 0]
    if metric.card.unit == "dB":
        now, then = (np.minimum(values, PSNR_CAP) for values in (now, then))
    return float(np.max(np.abs(now - then) / np.maximum(1.0, np.abs(then))))


def _values(record: LoadedRecord, row: int) -> dict[str, str]:
    """The values of the sample that is shown."""
    found = {}
    for name in clip_metrics(record):
        value = float(clip_values(record, name)[row, 0])
        unit = record.facts.metrics[name].unit
        found[name] = number(name, value) if np.isnan(value) else f"{number(name, value)} {unit}".rstrip()
    return found
