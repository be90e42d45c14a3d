"""Scores one batch: every metric of a protocol from one prediction, with the target's features computed once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.evaluation.reference_cache import ReferenceCache
from bench.protocol import Protocol, Quantise
from bench.record import Arrays, MetricFacts
from methods.interface import RANGE_SLACK
from metrics.base import METRICS, FrameMetric, SetMetric
from metrics.eight_bits import rounded, truncated
from metrics.errors import MethodError, ProtocolError


class Scorer:
    """The metrics of a protocol, ready on a device.

    Raises:
        ProtocolError: the frames are too small for a frame metric.
    """

    def __init__(self, protocol: Protocol, device: torch.device) -> None:
        self.protocol = protocol
        self.frame: dict[str, FrameMetric] = {}
        self.sets: dict[str, SetMetric] = {}
        self.refused: dict[str, str] = {}
        for name in protocol.metrics:
            card = METRICS.get(name).card
            if protocol.size < card.min_side:
                raise ProtocolError(
                    f"{name} needs frames of at least {card.min_side} px, the protocol has {protocol.size} px; "
                    "leave it out or score larger frames"
                )
            if card.kind == "set" and protocol.horizon < card.min_frames:
                self.refused[name] = f"needs {card.min_frames} frames, the protocol has {protocol.horizon}"
                continue
            if card.kind == "clip":
                continue
            metric = METRICS.get(name)(device=device, mode=protocol.mode)
            if card.kind == "frame":
                self.frame[name] = metric
            else:
                self.sets[name] = metric
        self._kept = {
            extractor: ReferenceCache(metric, protocol.mode, device) for extractor, metric in self.extractors.items()
        }

    def facts(self) -> dict[str, MetricFacts]:
        """The metrics' cards as records keep them."""
        cards = {name: METRICS.get(name).card for name in self.protocol.metrics}
        return {
            name: MetricFacts(
                title=card.title,
                kind=card.kind,
                version=card.version,
                convention=card.convention,
                higher_is_better=card.higher_is_better,
                unit=card.unit,
                weights=dict(card.weights),
            )
            for name, card in cards.items()
        }

    @property
    def extractors(self) -> dict[str, SetMetric]:
        """One metric for each feature extractor; metrics with the same extractor share its features."""
        return {metric.extractor: metric for metric in self.sets.values()}

    def reference(self, target: Tensor) -> dict[str, Any]:
        """What scoring needs of the target `[B, T, 3, H, W]`, computed once however many methods follow.

        Features of set metrics are kept in the user cache, for methods that are evaluated later.
        """
        found: dict[str, Any] = {f"frame/{name}": metric.reference(target) for name, metric in self.frame.items()}
        for extractor, source in self.extractors.items():
            found[f"features/{extractor}/target"] = self._kept[extractor].features(target, source.features)
        return found

    def score(self, pred: Tensor, reference: dict[str, Any]) -> Arrays:
        """All values of the predictions `[B, S, T, 3, H, W]` against `reference`, as arrays of a record."""
        pred = quantised(pred, self.protocol.quantise)
        arrays: Arrays = {}
        for name, metric in self.frame.items():
            kept = reference[f"frame/{name}"]
            values = torch.stack([metric.score(pred[:, s], kept) for s in range(pred.shape[1])], dim=1)
            arrays[f"frame/{name}"] = values.to(torch.float64).cpu().numpy()
        for extractor, source in self.extractors.items():
            arrays[f"features/{extractor}/pred"] = source.features(pred[:, 0]).float().cpu().numpy()
            arrays[f"features/{extractor}/target"] = reference[f"features/{extractor}/target"].float().cpu().numpy()
        return arrays


def select(reference: Any, keep: list[int], batch: int) -> Any:
    """The rows `keep` of what `Scorer.reference` returned for a batch of `batch` clips."""
    if len(keep) == batch:
        return reference
    if isinstance(reference, Tensor):
        return reference[keep] if reference.ndim and reference.shape[0] == batch else reference
    if isinstance(reference, dict):
        return {name: select(value, keep, batch) for name, value in reference.items()}
    if isinstance(reference, (list, tuple)):
        return type(reference)(select(value, keep, batch) for value in reference)
    raise TypeError(f"a metric's reference holds {type(reference).__name__}; expected tensors, B first")


def quantised(video: Tensor, rule: Quantise) -> Tensor:
    """`video` as it would be after 8-bit storage, in [0, 1]; unchanged for "none"."""
    if rule == "round":
        return rounded(video)
    if rule == "truncate":
        return truncated(video)
    return video


def check_prediction(pred: Any, name: str, clip_ids: list[str], shape: tuple[int, ...]) -> Tensor:
    """Returns a prediction that can be scored.

    Args:
        pred: what the method returned; expected float `[B, S, T, 3, H, W]` in [0, 1] of the given `shape`.

    Raises:
        MethodError: wrong type or shape, NaN, infinite or out of range; names the method and the clips.
    """
    where = f"the method {name} on the clips {clip_ids[0]} .. {clip_ids[-1]}"
    if not isinstance(pred, Tensor) or not pred.is_floating_point():
        kind = f"a tensor of {pred.dtype}" if isinstance(pred, Tensor) else type(pred).__name__
        raise MethodError(f"{where}: expected a float tensor, found {kind}")
    if tuple(pred.shape) != shape:
        raise MethodError(f"{where}: expected shape [B, S, T, 3, H, W] = {list(shape)}, found {list(pred.shape)}")
    flat = pred.detach().flatten(1)
    low, high = flat.amin(1), flat.amax(1)
    bad = ~((low >= -RANGE_SLACK) & (high <= 1 + RANGE_SLACK))
    if bool(bad.any()):
        rows = bad.nonzero().flatten().tolist()
        broken = [row for row in rows if not bool(torch.isfinite(flat[row]).all())]
        what = (
            "NaN or infinite values"
            if broken
            else f"values in [{float(low[rows].min()):.4g}, {float(high[rows].max()):.4g}], expected [0, 1]"
        )
        named = ", ".join(clip_ids[row] for row in (broken or rows)[:5])
        raise MethodError(
            f"the method {name} returned {what} for {len(broken or rows)} clips ({named}). Correct the method and run "
            "again: what was computed before is kept and used."
        )
    return pred.detach().float()


def merge(parts: list[tuple[list[str], Arrays]], clip_ids: list[str]) -> Arrays:
    """Puts the arrays of all parts together, in the order of `clip_ids`.

    Every clip must be in at least one part; where parts overlap, which happens when a run was resumed with another
    batch size, the first counts.
    """
    place: dict[str, tuple[int, int]] = {}
    for number, (ids, _) in enumerate(parts):
        for row, clip_id in enumerate(ids):
            place.setdefault(clip_id, (number, row))
    names = parts[0][1].keys()
    return {
        name: np.stack([parts[number][1][name][row] for number, row in (place[c] for c in clip_ids)]) for name in names
    }
