"""How good a flow is: against the truth where it is known, by its own consistency where it is not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bench.data.interface import DataSet, Progress
from bench.flow.registry import FLOWS, flow_between
from bench.flow.source import FlowSource
from methods.baselines import backward_warp
from metrics.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

MOVING = 0.5
"""Pixels whose exact flow is longer than this (px) count as moving; static are those whose exact flow is 0."""
COUNTED = 1.0
"""The table gives the share of pixels whose end-point error is larger than this, px."""


def endpoint_error(flow: Tensor, truth: Tensor) -> Tensor:
    """Length of the difference of two flows `[..., 2, H, W]`, `[..., H, W]`, px."""
    return torch.linalg.vector_norm(flow - truth, dim=-3)


def forward_backward_residual(forward: Tensor, backward: Tensor) -> Tensor:
    """How far a point ends from where it began when it goes there and back: |f(p) + b(p + f(p))|.

    Args:
        forward: float `[B, 2, H, W]`: flow from the first frame to the second, px.
        backward: the flow from the second to the first.

    Returns:
        Float `[B, H, W]`, px. It is large where a point is hidden in the second frame, whatever the estimator.
    """
    return torch.linalg.vector_norm(forward + backward_warp(backward, forward), dim=1)


def leaves_picture(flow: Tensor) -> Tensor:
    """Bool `[B, H, W]`: whether p + flow(p) lies outside the picture. `flow` is `[B, 2, H, W]`, px."""
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device) + flow[:, 0]
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1]
    return (x < 0) | (x > width - 1) | (y < 0) | (y > height - 1)


def warp_error(first: Tensor, second: Tensor, flow: Tensor) -> Tensor:
    """Mean absolute difference between `first` and `second` fetched back along `flow`, for each pixel.

    Args:
        first, second: float `[B, 3, H, W]` in [0, 1].
        flow: float `[B, 2, H, W]`, px, from first to second. With zeros it is the error of copying.

    Returns:
        Float `[B, H, W]`, mean over the colours.
    """
    return (backward_warp(second, flow) - first).abs().mean(dim=1)


def flow_error_table(
    dataset: DataSet,
    estimators: Sequence[str] | None = None,
    *,
    context: int | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> pd.DataFrame:
    """End-point error of each estimator against the exact flow of `dataset`, over all pixels of all clips.

    Nothing is read from the cache, since the time is measured; each clip is estimated alone.

    Args:
        dataset: one whose clips carry exact flow.
        estimators: names of FLOWS; None: those that need no weights. A row "no motion" is always there.
        context: see `FlowSource`.
        progress: called with estimates done, all, and the estimator.

    Returns:
        Index: estimator. Columns: "mean", "median" over all pixels, "moving" (mean over pixels that move by more than
        MOVING px), "static" (mean over those whose exact flow is 0), "over 1 px" (share of all pixels), all in px at
        the size of the data set, "seconds" (wall time per clip) and "clips". Pixels that are hidden in the last frame
        count as well. NaN where there is no such pixel.

    Raises:
        DataError: the clips carry no exact flow.
    """
    import pandas as pd

    names = [name for name in FLOWS if not name.startswith("raft")] if estimators is None else list(estimators)
    source = FlowSource(dataset, "exact", context=context)
    ids = [ref.clip_id for ref in dataset.clips()]
    if not ids:
        raise DataError(f"{dataset.name} has no clips")
    built = {name: FLOWS.get(name)(device) for name in names}
    errors: dict[str, list[Tensor]] = {name: [] for name in ["no motion", *names]}
    seconds = dict.fromkeys(errors, 0.0)
    truths: list[Tensor] = []
    for done, clip_id in enumerate(ids):
        clip = dataset.load(clip_id)
        truth = source.exact_flow(clip)
        truths.append(torch.linalg.vector_norm(truth, dim=0))
        errors["no motion"].append(truths[-1])
        for name, estimator in built.items():
            started = time.perf_counter()
            flow = flow_between(estimator, clip.frames[None, source.context - 1 :])
            seconds[name] += time.perf_counter() - started
            errors[name].append(endpoint_error(flow[0], truth))
        if progress is not None:
            progress(done + 1, len(ids), f"flow of {dataset.name}")
    length = torch.stack(truths)
    moving, static = length > MOVING, length == 0
    rows = {}
    for name, found in errors.items():
        error = torch.stack(found)
        rows[name] = {
            "mean": float(error.mean()),
            "median": float(error.median()),
            "moving": float(error[moving].mean()),
            "static": float(error[static].mean()),
            "over 1 px": float((error > COUNTED).float().mean()),
            "seconds": seconds[name] / len(ids),
            "clips": len(ids),
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "estimator"
    return table
