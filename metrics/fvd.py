"""Frechet video distance: the Frechet distance between the I3D logits of two sets of clips.

T. Unterthiner et al.: Towards accurate generative models of video: a new metric and challenges.
arXiv:1812.01717; preprocessing and network are those of the original program.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from metrics.base import SetScore
from metrics.card import MetricCard
from metrics.errors import VideoError
from metrics.features.i3d import MIN_FRAMES, i3d_logits
from metrics.frechet import distance_of_moments, feature_matrices, moments
from metrics.jackknife import GROUPS, Indices, jackknife, two_set_groups
from metrics.tfhub import tfhub_logits
from metrics.video import check_video
from metrics.weights import weight_hash

MIN_CLIPS = 2
FEW_CLIPS = 400


class BiasWarning(UserWarning):
    """FVD was computed from so few clips that its bias outweighs most differences between methods."""


def fvd(
    pred: Tensor,
    target: Tensor,
    *,
    mode: str = "exact",
    backend: str = "torch",
    module: str | Path | None = None,
    batch_size: int = 8,
    groups: int = GROUPS,
    clusters: Sequence[str] | None = None,
) -> SetScore:
    """FVD of two sets of clips, with standard error and bias-corrected value.

    Args:
        pred, target: float `[N, T, 3, H, W]` and `[M, T, 3, H, W]`, RGB, in [0, 1], T at least 9. N and M may
            differ; T, H and W may not, as each moves the value. With N = M, row i of both must belong to one
            clip, or the rows be in random order.
        mode: "exact" (float32) or "fast" (half precision on a GPU, see `i3d_logits`).
        backend: "torch", or "tfhub" to run the original TF-Hub module in a process of its own.
        module: folder or handle of that module; for "tfhub" alone.
        batch_size: clips in one pass of the network.
        groups: most jackknife groups.
        clusters: the source of each clip, when several clips were cut from one; needs N = M.

    Returns:
        The score. Below three jackknife groups its standard error is NaN.

    Raises:
        VideoError: as `check_video`; T below 9; fewer than two clips; T, H or W differ; an unknown mode or backend.
        WeightsError: the network's weights, or the TF-Hub module, are not found.
        PokeBenchError: the TF-Hub process failed, or lacks a package.

    Warns:
        BiasWarning: fewer than 400 clips in a set.
    """
    check_sets(pred, target)
    two_set_groups(len(pred), len(target), groups, clusters)  # refuses what does not fit before the network runs
    if backend == "torch" and module is None:
        features = [i3d_logits(video, mode=mode, batch_size=batch_size) for video in (pred, target)]
    elif backend == "tfhub" and mode == "exact":
        features = [tfhub_logits(video, module, batch_size=batch_size) for video in (pred, target)]
    else:
        raise VideoError(
            'expected backend="torch" without module, or backend="tfhub" with mode="exact", found '
            f"backend={backend!r}, mode={mode!r}, module={module!r}"
        )
    return fvd_from_features(*features, groups=groups, clusters=clusters, frames=pred.shape[1], mode=mode)


def check_sets(pred: Tensor, target: Tensor) -> None:
    """Raises VideoError unless both are sets of clips that the I3D metrics can compare."""
    for video, name in ((pred, "pred"), (target, "target")):
        check_video(video, name, min_frames=MIN_FRAMES)
        if len(video) < MIN_CLIPS:
            raise VideoError(
                f"{name}: expected at least {MIN_CLIPS} clips, found {len(video)}. The distance is one of two sets, "
                "and compares their covariances: one clip has none."
            )
    if pred.shape[1:] != target.shape[1:]:
        raise VideoError(
            f"clips of both sets must have one length and size, found {list(pred.shape)} and {list(target.shape)}. "
            "Cut or resize them yourself: a metric never does."
        )


def fvd_from_features(
    pred: Tensor,
    target: Tensor,
    *,
    groups: int = GROUPS,
    clusters: Sequence[str] | None = None,
    frames: int = 0,
    mode: str = "exact",
) -> SetScore:
    """FVD of logits `[N, 400]` and `[M, 400]`; other arguments, errors and warning as `fvd`."""
    x, y = feature_matrices(pred, target)
    _warn_if_few(len(x), len(y))
    whole_x, whole_y = moments(x), moments(y)
    value = distance_of_moments(whole_x, whole_y)

    def without(first: Indices, second: Indices) -> float:
        return distance_of_moments(
            moments(_left(x, first)) if len(first) else whole_x,
            moments(_left(y, second)) if len(second) else whole_y,
        )

    found = jackknife(without, value, len(x), len(y), groups, clusters)
    return SetScore(value, found.standard_error, found.bias_corrected, len(x), len(y), found.groups, frames, mode)


def _left(matrix: Tensor, indices: Indices) -> Tensor:
    keep = torch.ones(len(matrix), dtype=torch.bool)
    keep[torch.from_numpy(indices)] = False
    return matrix[keep]


def _warn_if_few(n: int, m: int) -> None:
    if min(n, m) < FEW_CLIPS:
        warnings.warn(
            f"FVD of {n} predicted and {m} target clips: it is biased upwards, and the more so the fewer clips. Use at "
            f"least {FEW_CLIPS}, compare only values of equal counts, and quote the count with the value.",
            BiasWarning,
            stacklevel=3,
        )


class I3DMetric:
    """What set metrics of the harness share that compare I3D logits; they share one pass through the network as well.

    Args:
        device: where the network runs.
        mode: "exact" or "fast".
    """

    extractor = "i3d"

    def __init__(self, device: torch.device | str = "cpu", mode: str = "exact") -> None:
        self.device = torch.device(device)
        self.mode = mode

    def features(self, video: Tensor) -> Tensor:
        """I3D logits, float32 `[B, 400]`."""
        return i3d_logits(video.to(self.device), mode=self.mode)


class FVD(I3DMetric):
    """FVD as a set metric of the harness; see `fvd`."""

    card = MetricCard(
        name="fvd",
        title="FVD",
        kind="set",
        version=1,
        convention="I3D Kinetics-400 logits, TF1 bilinear resize to 224, unbiased covariances, float64 "
        "Frechet distance (Unterthiner et al. 2018)",
        higher_is_better=False,
        bounds=(0.0, None),
        reference="TF-Hub module i3d-kinetics-400/1 with TF-GAN's distance",
        tolerance="1e-5 relative",
        weights={"i3d-kinetics-400": weight_hash("i3d-kinetics-400")},
        min_frames=MIN_FRAMES,
        min_clips=MIN_CLIPS,
    )

    def value(self, pred: Tensor, target: Tensor, clusters: list[str] | None = None) -> SetScore:
        """FVD of logits `[N, 400]` and `[M, 400]`."""
        return fvd_from_features(pred, target, clusters=clusters, mode=self.mode)
