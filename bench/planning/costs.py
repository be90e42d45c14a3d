"""The cost model: seconds are amounts of work, fixed before anything runs, times coefficients fitted to measurements.

    seconds = overhead * calls + sum over columns of coefficient * amount

A column is a piece of work that many runs share: the predictions of a method, a metric, the measuring of motion. Its
amount is in units of one clip of 10 frames at 64 x 64 px. Coefficients are fitted by non-negative least squares on
relative errors, so that short stages count as much as long ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.flow.registry import FLOWS
from bench.protocol import Protocol
from metrics.base import METRICS
from metrics.control_metrics import DOSES, ControlMetric

CALL = "overhead of a call"
CLIP = "reading into tensors, pokes, tracks"
WRITE = "keeping the results"
OTHER_CLIP = "other metrics of control"
UNTRAINED = ", untrained"
"""How the names end of methods that are measured with the weights that their training begins with."""
FURTHER = {"doses": len(DOSES) - 1, "still": 1, "beside": 1}
"""Predictions for further pokes that metrics ask for, of methods that take pokes."""
LEAST_SPREAD = 0.1
"""Relative error below which none is believed: machines differ by that from hour to hour."""

ONE_MEASUREMENT = 0.3
"""Relative error of what a single measurement says: nothing shows how much the next one would differ."""

Amounts = dict[str, float]


@dataclass(frozen=True)
class Answerer:
    """What the cost of scoring a method depends on.

    Attributes:
        name: of its card.
        samples: predictions of each clip.
        takes_poke: whether it answers pokes; otherwise all its answers are the same, predicted and measured once.
    """

    name: str
    samples: int
    takes_poke: bool


@dataclass(frozen=True)
class Equation:
    """One measurement.

    Attributes:
        amounts: of each column.
        seconds: that they took together.
        origin: "record" or "calibration".
        shape: side in px and number of predicted frames.
    """

    amounts: Amounts
    seconds: float
    origin: str
    shape: tuple[int, int]


@dataclass(frozen=True)
class Coefficient:
    """A column as fitted.

    Attributes:
        seconds: of one unit.
        spread: root mean square of the relative errors of the measurements that it is in.
        origins: of these measurements.
        shapes: at which it was measured.
    """

    seconds: float
    spread: float
    origins: frozenset[str]
    shapes: frozenset[tuple[int, int]]


@dataclass(frozen=True)
class CostModel:
    """Fitted coefficients.

    Attributes:
        coefficients: by column.
        error: sum of the absolute errors of all measurements, as a share of all their seconds.
        equations: number of measurements.
    """

    coefficients: Mapping[str, Coefficient] = field(default_factory=dict)
    error: float = 0.0
    equations: int = 0


def predict_column(name: str) -> str:
    """The column of a method's predictions."""
    return f"predict {name}"


def clip_units(protocol: Protocol) -> float:
    """Size of a clip in units of 10 frames of 64 x 64 px."""
    return (protocol.size / 64) ** 2 * protocol.horizon / 10


def predict_amounts(protocol: Protocol, method: Answerer) -> Amounts:
    """Work of predicting one clip."""
    return {predict_column(method.name): method.samples * clip_units(protocol)}


def score_amounts(protocol: Protocol, method: Answerer, shared: int) -> Amounts:
    """Work of scoring one clip of a method, further predictions included.

    Args:
        shared: number of methods among which the work on the truth is divided.
    """
    units, found = clip_units(protocol), dict[str, float]()
    clip_metrics: list[type[ControlMetric]] = []
    for name in protocol.metrics:
        metric = METRICS.get(name)
        if metric.card.kind == "frame":
            found[name] = units * (method.samples + 1 / shared)
        elif metric.card.kind == "set" and protocol.horizon >= metric.card.min_frames:
            found[f"features {metric.extractor}"] = protocol.horizon / 10 * (1 + 1 / shared)
        elif metric.card.kind == "clip":
            clip_metrics.append(metric)
    needs = frozenset[str]().union(*(metric.needs for metric in clip_metrics))
    further = sum(FURTHER[need] for need in needs) if method.takes_poke else 0
    if further:
        found[predict_column(method.name)] = further * method.samples * units
    for metric in clip_metrics:
        if metric.measures_motion():
            found[OTHER_CLIP] = found.get(OTHER_CLIP, 0.0) + units * method.samples
        else:
            found[metric.card.name] = units * method.samples
    if OTHER_CLIP in found and protocol.tracker is not None:
        videos = method.samples * (1 + further) + (0 if protocol.anchored else 1 / shared)
        found[f"motion {protocol.tracker}"] = (
            videos * _enlarged(protocol.tracker, protocol.size) * protocol.horizon / 10
        )
    return found


def _enlarged(estimator: str, size: int) -> float:
    """Pixels that a flow estimator works on, in units of 128 x 128."""
    least = getattr(FLOWS.get(estimator), "least_side", 1)
    return (size * max(1, math.ceil(least / size)) / 128) ** 2


def score_parts(protocol: Protocol) -> list[tuple[str, ...]]:
    """The metrics of a protocol in groups that are computed, and can be timed, apart from each other."""
    frames, sets, motion = list[tuple[str, ...]](), dict[str, list[str]](), list[str]()
    for name in protocol.metrics:
        metric = METRICS.get(name)
        if metric.card.kind == "set":
            sets.setdefault(metric.extractor, []).append(name)
        elif metric.card.kind == "clip" and metric.measures_motion():
            motion.append(name)
        else:
            frames.append((name,))
    return [*frames, *map(tuple, sets.values()), *([tuple(motion)] if motion else [])]


def times(amounts: Amounts, factor: float) -> Amounts:
    """All amounts multiplied."""
    return {column: factor * amount for column, amount in amounts.items()}


def added(*several: Amounts) -> Amounts:
    """The sums over several."""
    total: Amounts = {}
    for amounts in several:
        for column, amount in amounts.items():
            total[column] = total.get(column, 0.0) + amount
    return total


def fit(equations: Sequence[Equation]) -> CostModel:
    """Non-negative least squares on relative errors (Lawson and Hanson, 1974, as `scipy.optimize.nnls`)."""
    from scipy.optimize import nnls

    known = [equation for equation in equations if equation.seconds > 0]
    columns = sorted({column for equation in known for column in equation.amounts})
    if not columns:
        return CostModel()
    matrix = np.array([[e.amounts.get(column, 0.0) / e.seconds for column in columns] for e in known])
    scale = np.linalg.norm(matrix, axis=0)
    solution, _ = nnls(matrix / scale, np.ones(len(known)))
    errors = matrix @ (solution / scale) - 1

    def coefficient(place: int) -> Coefficient:
        rows = [row for row in range(len(known)) if matrix[row, place] > 0]
        return Coefficient(
            float(solution[place] / scale[place]),
            max(LEAST_SPREAD if len(rows) > 1 else ONE_MEASUREMENT, _rms(errors[rows])),
            frozenset(known[row].origin for row in rows),
            frozenset(known[row].shape for row in rows),
        )

    found = {column: coefficient(place) for place, column in enumerate(columns)}
    seconds = np.array([equation.seconds for equation in known])
    return CostModel(found, float(np.abs(errors * seconds).sum() / seconds.sum()), len(known))


def _rms(errors: np.ndarray) -> float:
    return float(np.sqrt(np.mean(errors**2)))
