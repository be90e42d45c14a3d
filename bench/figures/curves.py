"""Curves from stored records: metrics over time, FVD against the number of clips, best of K against K."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from pathlib import Path

import numpy as np
import torch

from bench.figures.style import curve, finish, panels, style
from bench.record import LoadedRecord, MetricFacts
from bench.statistics import LEVEL, Interval, mean_interval
from bench.tables import clip_values
from metrics.errors import ProtocolError
from metrics.frechet import distance_of_moments, feature_matrices, moments
from metrics.psnr import PSNR_CAP

SUBSETS = 8
"""Random subsets of each size from which FVD is computed."""
SMALLEST_SET = 8
"""Clips of the smallest subset."""
FEATURES = "features/i3d"
BAND = f"bands: {LEVEL:.0%} intervals, bootstrap-t over sources"


def over_time(records: Sequence[LoadedRecord], path: Path) -> list[Path]:
    """Each frame metric against the frame: mean over samples, then over clips; PSNR counts up to PSNR_CAP.

    Raises:
        ProtocolError: the protocol has no frame metric.
    """
    facts = records[0].facts
    names = [name for name, metric in facts.metrics.items() if metric.kind == "frame"]
    if not names:
        raise ProtocolError("no metric of this protocol is one of frames, so there is none to show over time")
    figure, axes = panels(len(names))
    frames = list(range(1, facts.protocol.horizon + 1))
    for axis, name in zip(axes, names, strict=True):
        metric = facts.metrics[name]
        for number, record in enumerate(records):
            values = record.frame_values(name).mean(1)
            if metric.unit == "dB":
                values = np.minimum(record.frame_values(name), PSNR_CAP).mean(1)
            found = [mean_interval(values[:, t], record.facts.sources) for t in range(len(frames))]
            curve(axis, frames, *columns(found), number, record.facts.method.title)
        axis.set_xlabel("predicted frame")
        axis.set_xticks(frames if len(frames) <= 12 else frames[:: -(-len(frames) // 8)])
        axis.set_ylabel(axis_label(metric))
    return finish(figure, path, "Metrics over time", f"{described(records)}; {BAND}", axes[0])


def fvd_against_clips(records: Sequence[LoadedRecord], path: Path, seed: int = 0) -> list[Path]:
    """FVD of random subsets against their size: how much of a value is the bias of small sets.

    Whole sources are drawn, without replacement, until there are enough clips.

    Raises:
        ProtocolError: the records hold no features of FVD, or too few clips.
    """
    facts = records[0].facts
    if f"{FEATURES}/pred" not in records[0].arrays or "fvd" not in facts.metrics:
        raise ProtocolError("FVD is not among the metrics of this protocol, so it cannot be shown against the count")
    count = len(facts.clip_ids)
    sizes = sorted({size for size in (count // 8, count // 4, count // 2, count) if size >= SMALLEST_SET})
    if len(sizes) < 2:
        raise ProtocolError(f"FVD against the count needs at least {2 * SMALLEST_SET} clips, there are {count}")
    figure, [axis] = panels(1)
    figure.set_size_inches(6.2, 4.2)
    for number, record in enumerate(records):
        chosen = style(number)
        values = [fvd_of_subsets(record, size, seed) for size in sizes]
        means, spreads = np.array([v.mean() for v in values]), np.array([v.std() for v in values])
        axis.errorbar(
            sizes, means, spreads, color=chosen.color, linestyle=chosen.linestyle, marker=chosen.marker, markersize=5,
            linewidth=1.5, capsize=3, label=record.facts.method.title,
        )  # fmt: skip
        result = record.facts.set_results["fvd"]
        if result.bias_corrected is not None:
            axis.errorbar(
                [count * 1.08], [result.bias_corrected], [result.standard_error or 0.0], color=chosen.color, capsize=3,
                marker=chosen.marker, markersize=6, markerfacecolor="white",
            )  # fmt: skip
    axis.set_xscale("log")
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.minorticks_off()
    axis.set_xlabel("number of clips N")
    axis.set_ylabel("FVD ↓")
    note = (
        f"{described(records)}; mean and standard deviation of {SUBSETS} random subsets; open markers: bias-corrected "
        f"value of all clips, with its standard error"
    )
    return finish(figure, path, "FVD against the number of clips", note, axis)


def fvd_of_subsets(record: LoadedRecord, size: int, seed: int = 0) -> np.ndarray:
    """FVD of SUBSETS random subsets of `size` clips, float64 `[SUBSETS]`; one value where the subset is everything."""
    arrays = record.arrays
    pred, target = feature_matrices(arrays[f"{FEATURES}/pred"], arrays[f"{FEATURES}/target"])
    sources = np.asarray(record.facts.sources)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(SUBSETS if size < len(pred) else 1):
        order = {name: place for place, name in enumerate(rng.permutation(np.unique(sources)))}
        rows = torch.from_numpy(np.argsort([order[name] for name in sources], kind="stable")[:size].copy())
        values.append(distance_of_moments(moments(pred[rows]), moments(target[rows])))
    return np.array(values)


def best_of_samples(records: Sequence[LoadedRecord], path: Path) -> list[Path]:
    """The best of k samples of each clip against k, for each metric that has a value a clip.

    The mean over all choices of k of the K samples, exactly. A deterministic method is a level line.

    Raises:
        ProtocolError: no record has several samples.
    """
    most = max(record.facts.samples for record in records)
    if most < 2:
        raise ProtocolError(
            "no record has several samples for each clip; evaluate with --set samples=10, and again here"
        )
    facts = records[0].facts
    names = [name for name, metric in facts.metrics.items() if metric.kind != "set"]
    figure, axes = panels(len(names))
    counts = list(range(1, most + 1))
    for axis, name in zip(axes, names, strict=True):
        metric = facts.metrics[name]
        for number, record in enumerate(records):
            values = expected_best(clip_values(record, name), metric.higher_is_better)
            defined = ~np.isnan(values).any(1)
            sources = [source for source, kept in zip(record.facts.sources, defined, strict=True) if kept]
            found = [mean_interval(values[defined, k], sources) for k in range(values.shape[1])]
            shown = found if len(found) == most else found * most
            curve(axis, counts, *columns(shown), number, record.facts.method.title, markers=len(found) == most)
        axis.set_xlabel("samples k")
        axis.set_xticks(counts if most <= 10 else counts[:: -(-most // 8)])
        axis.set_ylabel(axis_label(metric))
    note = f"{described(records)}; mean over all choices of k of {most} samples; {BAND}"
    return finish(figure, path, "Best of k samples", note, axes[0])


def expected_best(values: np.ndarray, higher_is_better: bool) -> np.ndarray:
    """The mean, over all choices of k of S samples, of the best one.

    Args:
        values: float `[N, S]`.

    Returns:
        float64 `[N, S]`, for k = 1..S; column 1 is the mean, column S the best of all.
    """
    ordered = np.sort(values.astype(np.float64), axis=1)
    if not higher_is_better:
        ordered = ordered[:, ::-1]  # the best comes last
    samples = ordered.shape[1]
    # The i-th of the sorted samples (from 1) is the best of C(i - 1, k - 1) of the C(S, k) choices.
    shares = [[comb(i - 1, k - 1) / comb(samples, k) for k in range(1, samples + 1)] for i in range(1, samples + 1)]
    return ordered @ np.array(shares)


def axis_label(metric: MetricFacts) -> str:
    """Title, unit and direction."""
    unit = f" ({metric.unit})" if metric.unit and f"({metric.unit})" not in metric.title else ""
    return f"{metric.title}{unit} {'↑' if metric.higher_is_better else '↓'}"


def described(records: Sequence[LoadedRecord]) -> str:
    """Data, counts and protocol, for the note of a figure."""
    facts = records[0].facts
    return (
        f"{facts.data.name}, {facts.protocol.size} px, N = {len(facts.clip_ids)} clips of {len(set(facts.sources))} "
        f"sources, protocol {facts.protocol_hash}"
    )


def columns(found: Sequence[Interval]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, lower and upper ends of intervals, float64 `[N]` each."""
    values, low, high = np.array([[one.value, one.low, one.high] for one in found]).T
    return values, low, high
