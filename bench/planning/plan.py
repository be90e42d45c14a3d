"""Hours, memory and disk of a suite before it is started, with what each figure rests on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bench.flow.source import CLIPS_PER_FILE
from bench.planning.calibration import Calibration
from bench.planning.costs import (
    CALL,
    CLIP,
    UNTRAINED,
    WRITE,
    Amounts,
    Answerer,
    CostModel,
    added,
    clip_units,
    predict_amounts,
    score_amounts,
    score_parts,
    times,
)
from bench.planning.storage import Storage
from bench.planning.wording import aligned, duration, size_of
from bench.protocol import Protocol
from methods.interface import MethodCard

EXTRAPOLATED = 0.5
"""Relative error of a figure measured at another size or horizon."""


@dataclass(frozen=True)
class Line:
    """One piece of the work.

    Attributes:
        what: column of the cost model.
        seconds: of the process that has most to do; None: not known.
        spread: relative error.
        basis: "measured", "extrapolated" or "not measured".
    """

    what: str
    seconds: float | None
    spread: float
    basis: str


@dataclass(frozen=True)
class Plan:
    """What an evaluation will cost.

    Attributes:
        title, methods, clips, size, context, horizon, samples, batch_size, processes, device: what is planned.
        seconds, low, high: of the whole, and the range in which it is expected; without what is not measured.
        lines: of what the seconds are made, longest first.
        unknown: what is not in the seconds, with the reason.
        fit_error: of the fit, as a share of the measured seconds; 0 without measurements.
        measurements: number of equations fitted.
        bytes: what is written; see `Storage`.
        memory: peak of a process, bytes, and of its GPU; 0: not measured.
        gpu_memory: likewise.
        assumptions: sentences.
    """

    title: str
    methods: tuple[str, ...]
    clips: int
    size: int
    context: int
    horizon: int
    samples: int
    batch_size: int
    processes: int
    device: str
    seconds: float
    low: float
    high: float
    lines: tuple[Line, ...]
    unknown: tuple[str, ...]
    fit_error: float
    measurements: int
    bytes: Storage
    memory: int
    gpu_memory: int
    assumptions: tuple[str, ...]

    def json(self) -> str:
        """Everything, as JSON."""
        return json.dumps(asdict(self), indent=1)

    def text(self) -> str:
        """Aligned lines for people."""
        shape = f"{self.size} px, {self.context} + {self.horizon} frames, K = {self.samples}"
        many = "process" if self.processes == 1 else "processes"
        head = [
            f"{self.title}: {len(self.methods)} methods, {self.clips} clips, {shape}",
            f"{self.processes} {many} on {self.device}, batches of {self.batch_size}",
            "",
        ]
        at_least = "at least " if any(line.seconds is None for line in self.lines) else ""
        rows = [
            ("time", f"{at_least}{duration(self.seconds)}", f"{duration(self.low)} to {duration(self.high)}"),
            ("memory of a process", size_of(self.memory) if self.memory else "not measured", _measured(self.memory)),
        ]
        if self.gpu_memory:
            rows.append(("memory of a GPU", size_of(self.gpu_memory), "measured"))
        stored = self.bytes
        rows += [
            ("records on disk", size_of(stored.records), f"of which features {size_of(stored.features)}; counted"),
            ("unfinished results", size_of(stored.unfinished), "while it runs; counted"),
            ("flow in the cache", size_of(stored.flow), "counted"),
            ("frames of the clips", size_of(stored.frames), "uncompressed; counted"),
        ]
        table = [("", "seconds", "+-", "rests on")]
        for line in self.lines:
            seconds = "?" if line.seconds is None else f"{line.seconds:.2f}"
            table.append((line.what, seconds, "" if line.seconds is None else f"{line.spread:.0%}", line.basis))
        fitted = f"fit: {self.measurements} measurements, off by {self.fit_error:.0%} of their seconds"
        notes = [fitted if self.measurements else "fit: nothing was measured", *self.assumptions]
        notes += [f"not counted: {reason}" for reason in self.unknown]
        return "\n".join([*head, *aligned(rows), "", *aligned(table, right=(1, 2)), "", *notes])


def busiest_share(clips: int, batch_size: int, processes: int) -> tuple[int, int]:
    """Clips and batches of the process that has most: batch i belongs to process i modulo their number."""
    batches = [min(batch_size, clips - start) for start in range(0, clips, batch_size)]
    shares = [batches[rank::processes] for rank in range(processes)]
    return max((sum(share), len(share)) for share in shares)


def flow_share(clips: int, processes: int) -> int:
    """Clips whose flow the process with most files of flow estimates."""
    files = -(-clips // CLIPS_PER_FILE)
    return min(clips, -(-files // processes) * CLIPS_PER_FILE)


def plan(
    title: str,
    cards: Sequence[MethodCard],
    protocol: Protocol,
    clips: int,
    model: CostModel,
    stored: Storage,
    *,
    batch_size: int,
    processes: int,
    device: str,
    calibration: Calibration | None = None,
    unknown: Sequence[str] = (),
) -> Plan:
    """Puts the plan of an evaluation together.

    Args:
        cards: of the methods that are planned for.
        unknown: what is left out, with the reason.
    """
    share, batches = busiest_share(clips, batch_size, processes)
    answerers = [
        Answerer(card.name, protocol.samples if card.stochastic else 1, "poke" in card.inputs) for card in cards
    ]
    each: list[Amounts] = [{CLIP: clip_units(protocol)}]
    for method in answerers:
        each += [predict_amounts(protocol, method), score_amounts(protocol, method, len(answerers)), {WRITE: 1}]
    calls = batches * (1 + len(answerers) * (2 + len(score_parts(protocol))))
    amounts = added(times(added(*each), share), {CALL: calls})
    if stored.flow:  # estimated once for each clip, files of clips shared out among the processes
        amounts[f"flow {protocol.flow}"] = flow_share(clips, processes) * clip_units(protocol)
    lines = [_line(what, amount, model, (protocol.size, protocol.horizon)) for what, amount in amounts.items()]
    left_out = list(unknown)
    if calibration is not None:
        prepared = sum(calibration.prepare_seconds.get(card.name, 0.0) for card in cards)
        lines.append(Line("preparing the methods", prepared, 0.5, "measured"))
        for name, seconds in calibration.set_seconds.items():
            lines.append(Line(f"{name} of all clips", seconds * len(cards), 0.5, "measured"))
    else:
        left_out.append("preparing the methods, and set metrics once their features are there; --calibrate times them")
    left_out.append("the start of Python, and the download or preparation of data")
    lines.sort(key=lambda line: float("-inf") if line.seconds is None else -line.seconds)
    known = [(line.seconds, line.spread) for line in lines if line.seconds is not None]
    total = sum(seconds for seconds, _ in known)
    # Spreads are one relative error of a machine that is faster or slower as a whole: they add, and count twice.
    off = sum(seconds * 2 * spread for seconds, spread in known)
    return Plan(
        title=title,
        methods=tuple(card.name for card in cards),
        clips=clips,
        size=protocol.size,
        context=protocol.context,
        horizon=protocol.horizon,
        samples=protocol.samples,
        batch_size=batch_size,
        processes=processes,
        device=device,
        seconds=total,
        low=total / (1 + off / total) if total else 0.0,
        high=total + off,
        lines=tuple(lines),
        unknown=tuple(left_out),
        fit_error=model.error,
        measurements=model.equations,
        bytes=stored,
        memory=calibration.peak_bytes + stored.growth if calibration is not None else 0,
        gpu_memory=calibration.device_bytes if calibration is not None else 0,
        assumptions=_assumptions(processes, device, any(card.name.endswith(UNTRAINED) for card in cards)),
    )


def _line(what: str, amount: float, model: CostModel, shape: tuple[int, int]) -> Line:
    found = model.coefficients.get(what)
    if found is None:
        return Line(what, None, 0.0, "not measured")
    where = " and ".join(sorted({"record": "records", "calibration": "calibration"}[name] for name in found.origins))
    if not found.seconds:
        return Line(what, 0.0, found.spread, f"measured together with others ({where})")
    if shape in found.shapes:
        return Line(what, amount * found.seconds, found.spread, f"measured ({where})")
    nearest = ", ".join(f"{size} px x {frames}" for size, frames in sorted(found.shapes))
    spread = max(EXTRAPOLATED, found.spread)
    return Line(what, amount * found.seconds, spread, f"extrapolated from {nearest} ({where})")


def _assumptions(processes: int, device: str, untrained: bool) -> tuple[str, ...]:
    said = ["clips are read from disk while others are scored, and cost no time of their own"]
    if processes > 1:
        what = "a GPU of this kind" if device.startswith("cuda") else "as many cores as this one was measured on"
        said.append(f"every process has {what}, and all share one folder of records")
    if untrained:
        said.append("untrained methods were built with all that their training needs: their memory is an upper bound")
    return tuple(said)


def _measured(memory: int) -> str:
    return "measured, with what grows with the clips" if memory else "--calibrate measures it"
