"""The kinds of metric as the harness sees them, and the registry that lists them.

The third kind, "clip", is in `metrics/control_metrics.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from metrics.card import MetricCard
from metrics.registry import Registry


@runtime_checkable
class FrameMetric(Protocol):
    """One value for every frame of a prediction.

    `reference` is computed once for a target and reused for every prediction that is compared with it.
    """

    card: MetricCard

    def reference(self, target: Tensor) -> Any:
        """What `score` needs of the target `[B, T, 3, H, W]`: a tensor, or a sequence of tensors, B first."""

    def score(self, pred: Tensor, reference: Any) -> Tensor:
        """Values `[B, T]`, float64, of `pred` `[B, T, 3, H, W]` against what `reference` returned."""


@dataclass(frozen=True)
class SetScore:
    """A distance between two sets of clips, with its uncertainty.

    Attributes:
        value: the distance as the literature defines it.
        standard_error: from a group jackknife; NaN when there are too few clips for one.
        bias_corrected: the jackknife's first-order bias-corrected value; NaN likewise.
        n_pred, n_target: clips in each set.
        groups: number of jackknife groups; 0 when there was no jackknife.
        frames: frames per clip, 0 when computed from features alone.
        mode: "exact" or "fast"; values of different modes never share a table.
    """

    value: float
    standard_error: float
    bias_corrected: float
    n_pred: int
    n_target: int
    groups: int
    frames: int = 0
    mode: str = "exact"


@runtime_checkable
class SetMetric(Protocol):
    """A distance between the features of two sets of clips.

    Metrics with equal `extractor` share one pass through the network.
    """

    card: MetricCard
    extractor: str

    def features(self, video: Tensor) -> Tensor:
        """Features `[B, D]`, float32, of `video` `[B, T, 3, H, W]`."""

    def value(self, pred: Tensor, target: Tensor, clusters: list[str] | None = None) -> SetScore:
        """Distance of two feature sets `[N, D]` and `[M, D]`.

        Args:
            clusters: the source of each clip (such as its video); N = M = len(clusters), row i of both sets
                belonging to one clip. The jackknife leaves out whole sources. None: every clip is its own.
        """


def _fault(found: Any) -> str:
    if not isinstance(getattr(found, "card", None), MetricCard):
        return "it has no attribute `card` of type MetricCard"
    wanted = {"frame": ("reference", "score"), "clip": ("score",), "set": ("features", "value")}[found.card.kind]
    missing = [name for name in wanted if not callable(getattr(found, name, None))]
    return f"it lacks {', '.join(missing)}" if missing else ""


METRICS: Registry[Any] = Registry("metric", "pokebench.metrics", _fault)
"""Metric classes by name. A class is built as `cls(device=..., mode=...)`."""

METRICS.register("psnr", "metrics.psnr:PSNR", "peak signal-to-noise ratio per frame, dB")
METRICS.register("ssim", "metrics.ssim:SSIM", "structural similarity per frame (Wang et al.)")
METRICS.register("lpips_alex", "metrics.lpips:LPIPSAlex", "LPIPS v0.1, AlexNet, per frame")
METRICS.register("lpips_vgg", "metrics.lpips:LPIPSVGG", "LPIPS v0.1, VGG16, per frame")
METRICS.register("fvd", "metrics.fvd:FVD", "Frechet video distance, I3D Kinetics-400 logits")
METRICS.register("kvd", "metrics.kvd:KVD", "kernel video distance, unbiased polynomial MMD on the same features")
METRICS.register("endpoint_error", "metrics.control_metrics:EndpointError", "poked point to its target, px")
METRICS.register(
    "direction_error",
    "metrics.control_metrics:DirectionError",
    "motion of the poked point to the poke, degrees",
)
METRICS.register("poke_share", "metrics.control_metrics:PokeShare", "share of the poke that the poked point follows")
METRICS.register("dose_slope", "metrics.control_metrics:DoseSlope", "growth of the response with the poke's length")
METRICS.register("leakage", "metrics.control_metrics:Leakage", "motion of pixels that truly stay still, px")
METRICS.register("flow_error", "metrics.control_metrics:FlowError", "end-point error of the motion over all pixels, px")
METRICS.register("zero_stillness", "metrics.control_metrics:ZeroStillness", "share still under a poke of no length")
METRICS.register(
    "beside_stillness",
    "metrics.control_metrics:BesideStillness",
    "share still under a poke beside the object",
)
METRICS.register("moving_lpips", "metrics.control_metrics:MovingLPIPS", "LPIPS (Alex) of the moving region")
METRICS.register("moving_psnr", "metrics.control_metrics:MovingPSNR", "PSNR of the moving region, dB")
METRICS.register("retrieval", "metrics.control_metrics:Retrieval", "response nearest to the truth of its own poke")
