"""Sparse trajectories: a few points of x0 that move, and where they are in every frame.

The condition of Hao et al. in Table 2 of the poke paper: k = 5 flow vectors between x0 and x1, whose points are carried
on along the flow from each frame to the next. The paper does not say how the points are drawn, nor how flow is read
between pixels. Here:

1. Points are pixels of x0 that stand out by their motion from x0 to x1, as pokes do (see `bench.pokes`): first those
   with amplitude > mean + 2 std, in random order; where these are fewer than k, then those > mean + std, then > mean,
   then all others.
2. A point moves by the flow at its place, bilinear between pixels. It is kept inside the picture: one that would leave
   it stays at the border.

Or the exact motion of points that the data set knows. Everything is drawn from (seed, clip id) alone, and k points are
the first k of more.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional

from bench.flow.registry import DEFAULT, FLOWS, FlowEstimator
from bench.pokes import PokeRule, foreground_mask
from methods.interface import Clip, clip_generator
from metrics.cache import hash_of
from metrics.errors import DataError

DEVIATIONS = (2.0, 1.0, 0.0)
"""Points are drawn from those whose amplitude exceeds the mean by this many standard deviations, in that order."""


class TrackRule(BaseModel):
    """How sparse trajectories are chosen; part of a protocol.

    Attributes:
        source: "flow": points carried along the flow from frame to frame; "exact": points whose motion the data know.
        count: number k of points in each clip.
        estimator: of the flow, a name of FLOWS.
        foreground, margin: where points may be, as in `PokeRule`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["flow", "exact"] = "flow"
    count: int = Field(default=5, ge=1)
    estimator: str = DEFAULT
    foreground: Literal["none", "grabcut", "parts"] = "none"
    margin: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _options_have_a_meaning(self) -> Self:
        if self.source == "exact":
            if (self.estimator, self.foreground, self.margin) != (DEFAULT, "none", None):
                raise ValueError("exact tracks are as the data have them: leave out estimator, foreground and margin")
        elif self.estimator not in FLOWS:
            FLOWS.get(self.estimator)  # raises with near matches
        return self

    @property
    def hash(self) -> str:
        """Hex sha256 of the rule."""
        return hash_of(self.model_dump(mode="json"))


def tracks_of(
    clips: Sequence[Clip], rule: TrackRule, seed: int, context: int, device: torch.device | str = "cpu"
) -> Tensor:
    """The trajectories of clips.

    Args:
        clips: of one shape.
        seed: points are drawn from it and the clip id.
        context: number of frames up to x0.
        device: where estimators that use a GPU work.

    Returns:
        Float32 `[B, k, T + 1, 2]` on the CPU: (x, y) in px of k points in x0..xT, inside the picture.

    Raises:
        DataError: there is no frame after x0, fewer than k points to choose from, or exact tracks or the foreground
            are asked for and the clips do not have them.
    """
    if rule.source == "exact":
        return torch.stack([_exact_tracks(clip, rule, seed, context) for clip in clips])
    frames = torch.stack([clip.frames[context - 1 :] for clip in clips])
    if frames.shape[1] < 2:
        raise DataError(f"clip {clips[0].clip_id} has no frame after {context} context frames; open longer clips")
    estimator = _estimator(rule.estimator, str(device))
    flows = torch.stack([estimator.estimate(frames[:, t], frames[:, t + 1]) for t in range(frames.shape[1] - 1)], 1)
    start = [_moving_pixels(flow[0], clip, rule, seed, context) for flow, clip in zip(flows, clips, strict=True)]
    return follow(torch.stack(start), flows)


def follow(start: Tensor, flows: Tensor) -> Tensor:
    """Carries points along the flow from each frame to the next.

    Args:
        start: float `[B, k, 2]`: (x, y) in px.
        flows: float `[B, T, 2, H, W]`: (dx, dy) in px from frame t to frame t + 1.

    Returns:
        `[B, k, T + 1, 2]`, in the type of `flows`. Points outside the picture are moved to its border.
    """
    height, width = flows.shape[-2:]
    last = flows.new_tensor([width - 1, height - 1])
    places = [start.to(flows).clamp(min=0).minimum(last)]
    for flow in flows.unbind(1):
        grid = places[-1][:, None] * (2 / last) - 1
        step = functional.grid_sample(flow, grid, mode="bilinear", padding_mode="border", align_corners=True)
        places.append((places[-1] + step[:, :, 0].transpose(1, 2)).clamp(min=0).minimum(last))
    return torch.stack(places, 2)


@lru_cache(maxsize=4)
def _estimator(name: str, device: str) -> FlowEstimator:
    return FLOWS.get(name)(device)


def _moving_pixels(flow: Tensor, clip: Clip, rule: TrackRule, seed: int, context: int) -> Tensor:
    """The points of one clip, float32 `[k, 2]`, from its flow x0 -> x1 `[2, H, W]`."""
    height, width = flow.shape[-2:]
    pokes = PokeRule(margin=rule.margin, foreground=rule.foreground)
    margin = pokes.margin_at(min(height, width))
    if rule.count > (height - 2 * margin) * (width - 2 * margin) or 2 * margin >= min(height, width):
        raise DataError(
            f"a margin of {margin} px leaves fewer than {rule.count} of {height} x {width} px; "
            "give a smaller one, or ask for fewer points"
        )
    inside = (slice(margin, height - margin), slice(margin, width - margin))
    vectors = flow.double().numpy()
    amplitude = np.hypot(vectors[0], vectors[1])[inside]
    within = amplitude
    if rule.foreground != "none":
        object_ = foreground_mask(pokes, clip.frames[context - 1], clip.parts, clip.clip_id, margin)[inside]
        within = np.where(object_, amplitude, 0.0)
    chosen = _by_motion(amplitude.ravel(), within.ravel(), rule.count, seed, clip.clip_id)
    columns = width - 2 * margin
    return torch.from_numpy(np.stack([chosen % columns, chosen // columns], -1) + margin).float()


def _exact_tracks(clip: Clip, rule: TrackRule, seed: int, context: int) -> Tensor:
    """The tracks of one clip, float32 `[k, T + 1, 2]`, among those that it carries."""
    if clip.tracks is None:
        raise DataError(f"clip {clip.clip_id} knows no exact tracks; use a rule with source 'flow'")
    tracks = clip.tracks[:, context - 1 :].double().numpy()
    if tracks.shape[1] < 2:
        raise DataError(f"clip {clip.clip_id} has no frame after {context} context frames; open longer clips")
    _, different = np.unique(tracks[:, 0], axis=0, return_index=True)
    tracks = tracks[np.sort(different)]
    if len(tracks) < rule.count:
        raise DataError(f"clip {clip.clip_id} knows the tracks of {len(tracks)} points; ask for no more than these")
    step = tracks[:, 1] - tracks[:, 0]
    amplitude = np.hypot(step[:, 0], step[:, 1])
    chosen = _by_motion(amplitude, amplitude, rule.count, seed, clip.clip_id)
    height, width = clip.frames.shape[-2:]
    return torch.from_numpy(np.clip(tracks[chosen], 0, [width - 1, height - 1])).float()


def _by_motion(
    amplitude: NDArray[np.float64], within: NDArray[np.float64], count: int, seed: int, clip_id: str
) -> NDArray[np.intp]:
    """`count` places of `amplitude`, those that stand out first, in random order.

    Args:
        within: the amplitude with 0 outside the foreground, in which the first must stand out.
    """
    generator = clip_generator(seed, f"tracks/{clip_id}")
    order = torch.randperm(len(amplitude), generator=generator).numpy()
    rank = np.full(len(amplitude), len(DEVIATIONS))
    for number, deviations in reversed(list(enumerate(DEVIATIONS))):
        values = within if number == 0 else amplitude
        rank[values > values.mean() + deviations * values.std()] = number
    return order[np.argsort(rank[order], kind="stable")][:count]
