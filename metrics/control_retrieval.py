"""Whether responses to different pokes of one scene can be told apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metrics.errors import VideoError


def retrieval_accuracy(pred: Tensor, truth: Tensor, scenes: Sequence[str]) -> Tensor:
    """Whether the response to a poke is nearer to the truth of this poke than to those of the scene's other pokes.

    Nearness is the Euclidean distance over all values. A method that takes no notice of the poke is right by chance
    alone: once in K, for K pokes of a scene. Where the truths of several pokes are equally near, they share the credit.

    Args:
        pred, truth: float `[N, ...]`: flows, tracks or videos of N pokes.
        scenes: the scene of each poke.

    Returns:
        float64 `[N]`: 1 right, 0 wrong, 1 / n for n truths equally near, of which one is right. NaN for the only poke
        of a scene.

    Raises:
        VideoError: other shapes, or another number of scenes.
    """
    if pred.shape != truth.shape or len(scenes) != len(pred) or pred.ndim < 2:
        raise VideoError(
            f"expected pred and truth [N, ...] of one shape and N scenes, found {list(pred.shape)}, "
            f"{list(truth.shape)} and {len(scenes)} scenes"
        )
    score = torch.full((len(pred),), torch.nan, dtype=torch.float64, device=pred.device)
    for scene in dict.fromkeys(scenes):
        rows = [row for row, name in enumerate(scenes) if name == scene]
        if len(rows) < 2:
            continue
        one, other = (values[rows].flatten(1).double() for values in (pred, truth))
        apart = torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = apart == apart.min(1, keepdim=True).values
        score[rows] = nearest.diagonal().double() / nearest.sum(1)
    return score
