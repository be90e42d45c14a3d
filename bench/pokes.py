"""Pokes simulated from flow (paper section 3.2): a pixel that moves much, and where it moves to.

A pixel of x0 is drawn among those whose flow stands out, and the poke is the flow there. Which pixels stand out:

1. The amplitude is |flow| inside a window that leaves out `margin` pixels at the left and top and as many at the right
   and bottom, scaled to [0, 1] by its smallest and largest value there. Outside the object it is set to 0, where the
   rule asks for a foreground.
2. Candidates are pixels with amplitude > mean + 2 std ("strong"). If there are none: amplitude without regard to the
   foreground > mean + std ("moderate"); if none: > mean ("weak"). The std is that of the population.
3. If there are none still, all pixels of the window move alike. The clip keeps its place in the set, its poke is the
   first pixel of largest flow, and it is marked "still"; the caller decides what to do with such clips.

Everything is drawn from (seed, clip id) alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from bench.data.batch import sent
from bench.data.interface import DataSet
from bench.flow.source import FlowSource
from bench.foreground import Mask, grabcut
from methods.interface import Clip, Poke, clip_generator
from metrics.cache import hash_of
from metrics.errors import DataError

Kind = Literal["strong", "moderate", "weak", "still", "background", "true"]
KINDS: tuple[Kind, ...] = ("strong", "moderate", "weak", "still", "background", "true")

TRUE: Kind = "true"
STILL_SHARE = 0.05
"""Background pokes, where no foreground is known, are put among this share of the window, that of least flow."""

Amplitude = NDArray[np.float64]


class PokeRule(BaseModel):
    """How pokes are chosen; part of a protocol.

    Attributes:
        source: "flow": simulated from flow; "true": what was done to the object, for data that know it.
        margin: pixels left out at each border; None: 3 at 64 px, 5 at 128 px, in general 2 (side // 64) + 1 and at
            least 3.
        foreground: "none"; "grabcut": OpenCV's GrabCut on x0, five rounds, from the rectangle of the middle 3/5 of the
            width and all of the height but the margins; "parts": the data set's own parts.
        background: share of clips that get a background poke: a place beside the object (without a foreground: in
            the 5 % of the window that move least), with the vector of a pixel that moves. Nothing is to happen then.
        count: pokes per clip, drawn independently; the first k of them are those that count = k gives.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["flow", "true"] = "flow"
    margin: int | None = Field(default=None, ge=0)
    foreground: Literal["none", "grabcut", "parts"] = "none"
    background: float = Field(default=0.0, ge=0, le=1)
    count: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _true_pokes_are_single(self) -> Self:
        if self.source == "true" and (self.count > 1 or self.background > 0 or self.foreground != "none"):
            raise ValueError("true pokes are as the data have them: leave out count, background and foreground")
        return self

    @property
    def hash(self) -> str:
        """Hex sha256 of the rule."""
        return hash_of(self.model_dump(mode="json"))

    def margin_at(self, side: int) -> int:
        """The margin for frames of `side` px."""
        return self.margin if self.margin is not None else 2 * max(1, side // 64) + 1


class Draw(NamedTuple):
    """The pokes of one clip: location and displacement float32 `[n, 2]`, (x, y) and (dx, dy) in px, and their kind."""

    location: Tensor
    displacement: Tensor
    kind: Kind


@dataclass(frozen=True)
class DrawnPoke(Poke):
    """Pokes of a batch, `[B, 2]`, or `[B, n, 2]` for a rule with n > 1, and how each clip's were found.

    Attributes:
        kinds: of each clip, see KINDS.
    """

    kinds: tuple[Kind, ...]

    def rows(self, kind: Kind) -> list[int]:
        """The rows of that kind."""
        return [row for row, found in enumerate(self.kinds) if found == kind]


def simulate_poke(
    flow: Tensor, x0: Tensor | None, rule: PokeRule, seed: int, clip_id: str, parts: Tensor | None = None
) -> Draw:
    """Draws the pokes of one clip from its flow.

    Args:
        flow: float `[2, H, W]`: (dx, dy) in px from x0 to the last frame.
        x0: uint8, or float in [0, 1], `[3, H, W]`; needed for foreground "grabcut".
        parts: uint8 `[H, W]`, 0 is the background; needed for foreground "parts".

    Raises:
        DataError: flow of another shape or not finite, a window without pixels, or x0 or parts missing.
    """
    if flow.ndim != 3 or len(flow) != 2 or not bool(torch.isfinite(flow).all()):
        raise DataError(f"clip {clip_id}: expected finite flow [2, H, W], found {list(flow.shape)}")
    height, width = flow.shape[-2:]
    margin = rule.margin_at(min(height, width))
    if 2 * margin >= min(height, width):
        raise DataError(f"a poke margin of {margin} px leaves nothing of {height} x {width} px; give a smaller one")
    inside = (slice(margin, height - margin), slice(margin, width - margin))
    vectors = flow.detach().cpu().double().numpy()
    bare = _scaled(np.hypot(vectors[0], vectors[1])[inside])
    mask = None if rule.foreground == "none" else foreground_mask(rule, x0, parts, clip_id, margin)[inside]
    generator = _generator(seed, clip_id)
    beside = _drawn_beside(rule, generator)
    places, kind = candidates(bare, mask)
    sources = places
    if beside:
        places, sources, kind = _still_places(bare, mask), _moving_places(bare, places), "background"
    chosen = []
    for _ in range(rule.count):
        place = _one(places, generator)
        chosen.append((place, _one(sources, generator) if beside else place))
    at, source = np.array(chosen).T
    columns = width - 2 * margin
    location = torch.from_numpy(np.stack([at % columns, at // columns], -1) + margin)
    rows = torch.from_numpy(source // columns + margin)
    displacement = flow.detach().cpu()[:, rows, torch.from_numpy(source % columns + margin)].T
    return Draw(location.float(), displacement.float().contiguous(), kind)


def is_beside(rule: PokeRule, seed: int, clip_id: str) -> bool:
    """Whether the poke that `simulate_poke` draws for a clip is beside the object: nothing is to move after it."""
    return rule.source == "flow" and _drawn_beside(rule, _generator(seed, clip_id))


def _generator(seed: int, clip_id: str) -> torch.Generator:
    return clip_generator(seed, f"poke/{clip_id}")


def _drawn_beside(rule: PokeRule, generator: torch.Generator) -> bool:
    return float(torch.rand(1, generator=generator)) < rule.background


def candidates(amplitude: Amplitude, foreground: Mask | None) -> tuple[NDArray[np.intp], Kind]:
    """Flat indices of the pixels from which a poke is drawn, and how much they stand out.

    Args:
        amplitude: `[h, w]` in [0, 1], in the window.
        foreground: `[h, w]`; None: no restriction.
    """
    kept = amplitude if foreground is None else np.where(foreground, amplitude, 0.0)
    steps: tuple[tuple[Kind, Amplitude, float], ...] = (
        ("strong", kept, 2.0),
        ("moderate", amplitude, 1.0),
        ("weak", amplitude, 0.0),
    )
    for kind, values, deviations in steps:
        places = np.flatnonzero(values > values.mean() + deviations * values.std())
        if len(places):
            return places, kind
    return np.array([amplitude.argmax()]), "still"


def draw_pokes(
    flow: Tensor,
    x0: Tensor,
    clip_ids: Sequence[str],
    rule: PokeRule,
    seed: int,
    *,
    parts: Tensor | None = None,
    true: Poke | None = None,
) -> DrawnPoke:
    """The pokes of a batch, as `simulate_poke` gives them for each clip; on the device of `flow`.

    Args:
        flow: float `[B, 2, H, W]`, px.
        x0: `[B, 3, H, W]`, uint8 or float in [0, 1].
        parts: uint8 `[B, H, W]`.
        true: the true pokes `[B, 2]`; needed for source "true".

    Raises:
        DataError: as `simulate_poke`, or true pokes are asked for and not there.
    """
    if rule.source == "true":
        if true is None:
            raise DataError("the data set has no true pokes; use a poke rule with source 'flow'")
        return DrawnPoke(true.location, true.displacement, tuple(TRUE for _ in clip_ids))
    fields, pictures = flow.cpu(), x0.cpu() if rule.foreground == "grabcut" else x0
    masks = None if parts is None else parts.cpu()
    draws = [
        simulate_poke(fields[row], pictures[row], rule, seed, clip_id, None if masks is None else masks[row])
        for row, clip_id in enumerate(clip_ids)
    ]
    poke = joined(draws)
    return DrawnPoke(poke.location.to(flow.device), poke.displacement.to(flow.device), poke.kinds)


def pokes_for(dataset: DataSet, clip_ids: Sequence[str], flow: FlowSource, rule: PokeRule, seed: int) -> DrawnPoke:
    """The pokes of clips of a data set, on the CPU.

    Args:
        flow: of that data set.

    Raises:
        DataError: as `clip_poke`, or a clip cannot be read.
    """
    return pokes_of([dataset.load(clip_id) for clip_id in clip_ids], flow, rule, seed)


def pokes_of(clips: Sequence[Clip], flow: FlowSource, rule: PokeRule, seed: int) -> DrawnPoke:
    """The same for clips that are loaded already."""
    return joined([clip_poke(clip, flow, rule, seed) for clip in clips])


def clip_poke(clip: Clip, flow: FlowSource, rule: PokeRule, seed: int) -> Draw:
    """The pokes of one clip.

    Raises:
        DataError: as `simulate_poke`, or a true poke is asked for and the clip has none.
    """
    if rule.source == "true":
        if clip.poke is None:
            raise DataError(f"clip {clip.clip_id} has no true poke; use a poke rule with source 'flow'")
        return Draw(clip.poke.location, clip.poke.displacement, "true")
    return simulate_poke(flow.of(clip), clip.frames[flow.context - 1], rule, seed, clip.clip_id, clip.parts)


def joined(draws: Sequence[Draw]) -> DrawnPoke:
    """The pokes of several clips as a batch: `[B, 2]`, or `[B, n, 2]` where clips have n > 1 each."""
    location = torch.stack([draw.location for draw in draws])
    displacement = torch.stack([draw.displacement for draw in draws])
    if location.shape[1] == 1:
        location, displacement = location[:, 0], displacement[:, 0]
    return DrawnPoke(location, displacement, tuple(draw.kind for draw in draws))


def still_targets(frames: Tensor, poke: DrawnPoke, context: int) -> Tensor:
    """`frames` `[B, T, 3, H, W]` as they are to be after `poke`: for background pokes, x0 in every frame after it."""
    rows = poke.rows("background")
    if not rows:
        return frames
    places = sent(rows, frames.device, torch.long)
    still = frames[places].clone()
    still[:, context:] = still[:, context - 1 : context].clone()
    return frames.index_copy(0, places, still)


def foreground_mask(rule: PokeRule, x0: Tensor | None, parts: Tensor | None, clip_id: str, margin: int) -> Mask:
    """The object in x0 as `rule` looks for it, bool `[H, W]`; for a rule with a foreground.

    Raises:
        DataError: x0 or parts are missing.
    """
    if rule.foreground == "parts":
        if parts is None:
            raise DataError(f"clip {clip_id} has no parts; use the foreground 'grabcut' or 'none'")
        return parts.cpu().numpy() > 0
    if x0 is None:
        raise DataError(f"clip {clip_id}: the foreground 'grabcut' needs x0")
    return grabcut(x0, margin)


def _scaled(amplitude: Amplitude) -> Amplitude:
    low, high = amplitude.min(), amplitude.max()
    return (amplitude - low) / (high - low) if high > low else np.zeros_like(amplitude)


def _still_places(amplitude: Amplitude, foreground: Mask | None) -> NDArray[np.intp]:
    """Where a background poke may be: beside the object, else in the share of the window that moves least."""
    if foreground is not None and not foreground.all():
        return np.flatnonzero(~foreground)
    return np.flatnonzero(amplitude <= np.quantile(amplitude, STILL_SHARE, method="lower"))


def _moving_places(amplitude: Amplitude, fallback: NDArray[np.intp]) -> NDArray[np.intp]:
    """Where the vector of a background poke comes from."""
    places = np.flatnonzero(amplitude > amplitude.mean() + amplitude.std())
    return places if len(places) else fallback


def _one(places: NDArray[np.intp], generator: torch.Generator) -> int:
    return int(places[int(torch.randint(len(places), (1,), generator=generator))])


def on_object(clips: Sequence[Clip], poke: Poke | None) -> Tensor:
    """Whether the poke of each clip is on a part of the object, bool `[B]`; True where the clip knows no parts."""
    if poke is None:
        return torch.ones(len(clips), dtype=torch.bool)
    found = []
    for clip, (x, y) in zip(clips, poke.location.round().long().tolist(), strict=True):
        found.append(clip.parts is None or bool(clip.parts[y, x] > 0))
    return torch.tensor(found)
