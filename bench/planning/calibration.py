"""A short run on generated clips of a suite's shape, stage by stage, on this machine; no data are needed."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bench.evaluate import check_fit
from bench.evaluation.prediction import AnyMethod, condition, predict
from bench.evaluation.response import ControlScorer
from bench.evaluation.scoring import Scorer
from bench.flow.registry import EXACT, FLOWS, flow_between
from bench.flow.source import FlowSource
from bench.planning.costs import (
    CALL,
    CLIP,
    WRITE,
    Answerer,
    Equation,
    added,
    clip_units,
    predict_amounts,
    score_amounts,
    score_parts,
    times,
)
from bench.planning.generated import GeneratedClips
from bench.planning.storage import FEATURES
from bench.protocol import Protocol
from bench.record import Arrays
from bench.store import RunKey, Store
from methods.interface import Clip, Conditioning
from metrics.base import SetMetric
from metrics.errors import PokeBenchError
from metrics.fvd import BiasWarning

Progress = Callable[[int, int], None]
"""Called with (stages done, stages to do)."""


@dataclass
class Calibration:
    """What a calibration found.

    Attributes:
        equations: one for each stage, method and number of clips.
        prepare_seconds: of each method, once in each process.
        set_seconds: of each set metric, once for each method, from as many features as the evaluation will have.
        refused: methods that cannot be measured on generated clips, with the reason.
        peak_bytes: largest resident memory of this process.
        device_bytes: largest memory of the GPU; 0 on a CPU.
        clips: numbers of clips in the runs.
    """

    equations: list[Equation] = field(default_factory=list)
    prepare_seconds: dict[str, float] = field(default_factory=dict)
    set_seconds: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    peak_bytes: int = 0
    device_bytes: int = 0
    clips: tuple[int, ...] = ()


def calibrate(
    methods: Sequence[AnyMethod],
    protocol: Protocol,
    clips: int,
    *,
    device: torch.device,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> Calibration:
    """Measures every stage of an evaluation on half a batch and on a whole one.

    Args:
        clips: of the evaluation that is planned; set metrics are timed with as many.
    """
    counts = tuple(sorted({max(1, batch_size // 2), batch_size}))
    found = Calibration(clips=counts)
    bench = _Stages(protocol, device, found.equations)
    ready = []
    for method in methods:
        name = method.card.name
        try:
            check_fit(method.card, protocol)
            found.prepare_seconds[name] = bench.seconds(partial(method.prepare, device))
            bench.warm(method)
        except PokeBenchError as error:
            found.refused[name] = str(error)
            continue
        ready.append(method)
    total, done = len(counts) * max(1, len(ready)), 0
    for count in counts:
        bench.open(count)
        for place, method in enumerate(ready):
            bench.measure(method, whole=place == 0)
            done += 1
            if progress is not None:
                progress(done, total)
    for name, metric in bench.scorer.sets.items():
        found.set_seconds[name] = bench.seconds(partial(_valued, metric, max(clips, 2)))
    unit = 1 if sys.platform == "darwin" else 1024
    found.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    found.device_bytes = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return found


class _Stages:
    """The stages of `bench.evaluate`, timed one by one on one batch."""

    def __init__(self, protocol: Protocol, device: torch.device, equations: list[Equation]) -> None:
        self.protocol, self.device, self.equations = protocol, device, equations
        self.scorer = Scorer(protocol, device)
        self.shape = (protocol.size, protocol.horizon)
        self.parts = [protocol.model_copy(update={"metrics": part}) for part in score_parts(protocol)]
        self.scorers = [(part, Scorer(part, device), ControlScorer(part, device)) for part in self.parts]

    def seconds(self, work: Callable[[], object]) -> float:
        self._wait()
        started = time.perf_counter()
        with torch.inference_mode():
            work()
        self._wait()
        return time.perf_counter() - started

    def open(self, count: int) -> None:
        """Makes a batch of `count` clips."""
        data = GeneratedClips(count, self.protocol.size, self.protocol.context, self.protocol.horizon)
        self.clips = [data.load(ref.clip_id) for ref in data.clips()]
        flow = None if self.protocol.poke is None else FlowSource(data, EXACT, context=self.protocol.context)
        self.shown: tuple[Conditioning, Tensor]

        def conditioned() -> None:
            self.shown = condition(self.clips, self.protocol, self.device, flow)

        self._timed({CLIP: count * clip_units(self.protocol), CALL: 1}, conditioned)
        rule = self.protocol.poke
        if rule is not None and rule.source == "flow" and self.protocol.flow != EXACT:
            estimator = FLOWS.get(self.protocol.flow)(self.device)
            frames = torch.stack([clip.frames[self.protocol.context - 1 :] for clip in self.clips])
            amounts = {f"flow {self.protocol.flow}": count * clip_units(self.protocol)}
            self._timed(amounts, lambda: flow_between(estimator, frames))

    def warm(self, method: AnyMethod) -> None:
        """Predicts and scores one clip, so that networks are built and memory is had."""
        kept, self.equations = self.equations, []
        self.open(1)
        self.measure(method, whole=True)
        self.equations = kept

    def measure(self, method: AnyMethod, whole: bool) -> None:
        """Times predictions and scores of the batch.

        Args:
            whole: every group of metrics; else those of control alone, as the time of the others is that of any method.
        """
        conditioning, target = self.shown
        count = len(self.clips)
        card = method.card
        samples = self.protocol.samples if card.stochastic else 1
        answerer = Answerer(card.name, samples, "poke" in card.inputs)
        pred = torch.empty(0)

        def answered() -> None:
            nonlocal pred
            pred = predict(method, conditioning, target, self.protocol.samples, self.protocol.seed)

        self._timed(added(times(predict_amounts(self.protocol, answerer), count), {CALL: 1}), answered)
        arrays: Arrays = {}
        for part, scorer, control in self.scorers:
            if not whole and not control.metrics:
                continue

            def scored(scorer: Scorer = scorer, control: ControlScorer = control) -> None:
                nonlocal arrays
                arrays |= scorer.score(pred, scorer.reference(target))
                truth = control.truth(self._as_known(), conditioning, target)
                again = self._again(method, target) if answerer.takes_poke else lambda _: pred
                arrays |= control.score(pred, target, conditioning, truth, again)

            self._timed(added(times(score_amounts(part, answerer, 1), count), {CALL: 1}), scored)
        if whole:
            self._timed({WRITE: count, CALL: 1}, lambda: _written(list(conditioning.clip_ids), arrays))

    def _again(self, method: AnyMethod, target: Tensor) -> Callable[[Conditioning], Tensor]:
        return lambda shown: predict(method, shown, target, self.protocol.samples, self.protocol.seed)

    def _as_known(self) -> list[Clip]:
        """The clips as the data set knows them: without exact flow where the protocol does without."""
        exact = self.protocol.anchored or self.protocol.flow == EXACT
        return self.clips if exact else [replace(clip, flow=None) for clip in self.clips]

    def _timed(self, amounts: dict[str, float], work: Callable[[], object]) -> None:
        self.equations.append(Equation(amounts, self.seconds(work), "calibration", self.shape))

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _valued(metric: SetMetric, clips: int) -> None:
    features = torch.randn(2, clips, FEATURES, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BiasWarning)  # nobody reads this value
        metric.value(features[0], features[1], clusters=[str(number) for number in range(clips)])


def _written(clip_ids: list[str], arrays: Arrays) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Store(Path(folder)).write_part(RunKey({}, "", "", ""), clip_ids, arrays, {})
