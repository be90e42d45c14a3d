"""Motion-correlation heatmaps (figure 5 of the paper): which parts of the picture follow a pull at a place.

An image is poked K times at each of some places; the flow from x0 to the last predicted frame says what followed: exact
where the method knows it, as the simulation does, else estimated. The maps are those of `metrics/correlation.py`, in
its three forms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from bench.flow.registry import DEFAULT, FLOWS
from methods.interface import (
    RANGE_SLACK,
    AnswersExactly,
    AnswersManyPokes,
    Conditioning,
    ExactAnswer,
    Method,
    Poke,
    clip_generator,
)
from metrics.control import MOVING
from metrics.correlation import (
    FORMS,
    REFERENCE,
    area_under_curve,
    best_overlap,
    correlation_map,
    moving_foreground,
    variance_map,
)
from metrics.errors import DataError, MethodError
from metrics.features.exact import exact_float32

Lengths = Literal["random", "fixed"]
LONGEST = 1 / 5
"""The longest poke, as a share of the side: the cap of the authors' interface."""
SHORTEST = 0.25
"""The shortest random poke, as a share of the longest. A fixed one is the mean of both."""


@dataclass(frozen=True)
class Settings:
    """How heatmaps are made.

    Attributes:
        pokes: K at each place.
        lengths: of the pokes: "random", uniform in [SHORTEST, 1] times the longest, or "fixed".
        longest: px; None: a fifth of the side.
        horizon: frames to predict; the flow is to the last.
        tracker: estimator of the flow.
        shared_scale: one reference variance for all places of an image, so that their maps can be compared.
        batch: pokes predicted at once.
        seed: of the pokes.
        half: predict in half precision, float16 on a GPU and bfloat16 on a CPU; else in full float32.
    """

    pokes: int = 100
    lengths: Lengths = "random"
    longest: float | None = None
    horizon: int = 10
    tracker: str = DEFAULT
    shared_scale: bool = False
    batch: int = 50
    seed: int = 0
    half: bool = False

    def __post_init__(self) -> None:
        if self.pokes < 2 or self.horizon < 1 or self.batch < 1:
            raise DataError(
                f"heatmap: expected pokes >= 2, horizon >= 1 and batch >= 1, found {self.pokes}, {self.horizon} and "
                f"{self.batch}"
            )
        if self.longest is not None and not (math.isfinite(self.longest) and self.longest > 0):
            raise DataError(f"heatmap: expected a positive length of the longest poke, found {self.longest}")


@dataclass(frozen=True)
class Heatmap:
    """The maps of one place.

    Attributes:
        location: (x, y), px.
        displacements: the pokes, float64 `[K, 2]`, px; those that came true, where the method knows them exactly.
        maps: by form, float64 `[H, W]` in [0, 1]; 0 everywhere where nothing moves.
        variances: by form with a variance, float64 `[H, W]`.
        foreground: bool `[H, W]`: where anything moves, or as the data say.
        mean_length: float64 `[H, W]`, px: of the flow over the pokes.
        exact: whether the flow is exact.
        empty: nothing moves: no pixel by more than MOVING px on average.
        note: what a reader of the map must know: that it is empty, or that a place beside the object moved something.
    """

    location: tuple[float, float]
    displacements: Tensor
    maps: dict[str, Tensor]
    variances: dict[str, Tensor]
    foreground: Tensor
    mean_length: Tensor
    exact: bool = False
    empty: bool = False
    note: str = ""


def drawn_pokes(settings: Settings, side: int, place: str) -> Tensor:
    """K displacements of random direction, float64 `[K, 2]`, px, from (seed, place) alone."""
    generator = clip_generator(settings.seed, f"heatmap/{place}")
    u = torch.rand(2, settings.pokes, generator=generator, dtype=torch.float64)
    longest = settings.longest if settings.longest is not None else LONGEST * side
    share = (
        SHORTEST + (1 - SHORTEST) * u[1] if settings.lengths == "random" else torch.full_like(u[1], (1 + SHORTEST) / 2)
    )
    angle = 2 * torch.pi * u[0]
    return longest * share[:, None] * torch.stack([angle.cos(), angle.sin()], 1)


@torch.no_grad()
def heatmaps(
    method: Method,
    image: Tensor,
    places: Sequence[tuple[float, float]],
    settings: Settings,
    *,
    clip_id: str = "image",
    foreground: Tensor | None = None,
    pokes: Sequence[Tensor] | None = None,
) -> list[Heatmap]:
    """The heatmaps of an image, one for each place.

    Args:
        method: prepared; takes pokes. The flow of one that is `AnswersExactly` is exact, and stands beside the pokes
            that came true, since a stem cannot be stretched as far as one may ask.
        image: float `[3, H, W]` in [0, 1], on the method's device.
        places: (x, y) in px.
        clip_id: for methods that need to know the clip, such as the simulation.
        foreground: bool `[H, W]`: the object; None: where the pokes move anything.
        pokes: for each place float `[K, 2]`, px; None: drawn as `settings` say.

    Raises:
        MethodError: the method takes no pokes, cannot predict this image, or returns something else than its contract
            says.
        DataError: a place outside the image.
    """
    if "poke" not in method.card.inputs:
        raise MethodError(f"{method.card.name} takes no pokes, so it has no heatmap; choose a method that does")
    height, width = image.shape[-2:]
    for x, y in places:
        if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
            raise DataError(f"the place ({x:g}, {y:g}) is outside the image of {width} x {height} px")
    if pokes is None:
        pokes = [drawn_pokes(settings, min(height, width), f"{x:g},{y:g}") for x, y in places]
    exact = isinstance(method, AnswersExactly)
    flows, answered = [], []
    for place, asked in zip(places, pokes, strict=True):
        if isinstance(method, AnswersExactly):
            flow, realised = _exact_answer(method, image, place, asked, settings, clip_id)
            flows.append(flow)
            answered.append(realised if bool(realised.ne(0).any()) else asked)
            continue
        last = _last_frames(method, image, place, asked, settings, clip_id)
        tracker = FLOWS.get(settings.tracker)(image.device)
        flows.append(tracker.estimate(image.expand(len(last), -1, -1, -1), last).double().cpu())
        answered.append(asked)
    return _maps(flows, answered, places, settings, foreground, exact)


def _maps(
    flows: Sequence[Tensor],
    pokes: Sequence[Tensor],
    places: Sequence[tuple[float, float]],
    settings: Settings,
    foreground: Tensor | None,
    exact: bool,
) -> list[Heatmap]:
    variances: list[dict[str, Tensor]] = [
        {form: variance_map(f, p, form) for form in FORMS if form != "complex"}
        for f, p in zip(flows, pokes, strict=True)
    ]
    shared: dict[str, float] = {}
    if settings.shared_scale:
        for form in variances[0]:
            together = torch.cat([found[form].flatten() for found in variances])
            shared[form] = float(torch.quantile(together, REFERENCE))
    found = []
    for place, flow, poke, variance in zip(places, flows, pokes, variances, strict=True):
        mean_length = torch.linalg.vector_norm(flow, dim=1).mean(0)
        largest = float(mean_length.max())
        empty = largest <= MOVING
        maps: dict[str, Tensor] = {form: correlation_map(flow, poke, form, shared.get(form)) for form in FORMS}
        if empty:
            maps = {form: torch.zeros_like(values) for form, values in maps.items()}
        found.append(
            Heatmap(
                location=place,
                displacements=poke,
                maps=maps,
                variances=variance,
                foreground=moving_foreground(flow) & (not empty) if foreground is None else foreground.cpu(),
                mean_length=mean_length,
                exact=exact,
                empty=empty,
                note=_note(place, foreground, empty, largest),
            )
        )
    return found


def _note(place: tuple[float, float], foreground: Tensor | None, empty: bool, largest: float) -> str:
    x, y = place
    beside = foreground is not None and not bool(foreground[round(y), round(x)])
    if beside and empty:
        return "beside the object: nothing moves, the map is empty"
    if beside:
        return f"beside the object, yet the picture moves by up to {largest:.1f} px"
    return f"nothing moves by more than {MOVING:g} px, the map is empty" if empty else ""


def _conditioning(
    image: Tensor, place: tuple[float, float], displacement: Tensor, settings: Settings, clip_id: str
) -> Conditioning:
    count = len(displacement)
    poke = Poke(image.new_tensor(place).expand(count, 2), displacement.to(image))
    return Conditioning(image.expand(count, 1, -1, -1, -1), [clip_id] * count, settings.horizon, poke=poke)


def _last_frames(
    method: Method, image: Tensor, place: tuple[float, float], displacement: Tensor, settings: Settings, clip_id: str
) -> Tensor:
    """The last predicted frame of each poke, float `[K, 3, H, W]` in [0, 1]."""
    horizon, size, kind = settings.horizon, tuple(image.shape), image.device.type
    half = torch.float16 if kind == "cuda" else torch.bfloat16
    with exact_float32(image.device), torch.autocast(kind, half, enabled=settings.half):
        if isinstance(method, AnswersManyPokes):
            said, count = _said(method, place, "rollout_pokes"), len(displacement)
            poke = Poke(image.new_tensor(place).expand(count, 2), displacement.to(image))
            rolled = method.rollout_pokes(image, poke, horizon, frames=[horizon])
            return _frames(rolled, said, "[K, F, 3, H, W]", (count, 1, *size)).to(image)[:, 0]
        frames, said = [], _said(method, place, "predict")
        for some in displacement.split(settings.batch):
            found = method.predict(_conditioning(image, place, some, settings, clip_id), 1, settings.seed)
            shape = (len(some), 1, horizon, *size)
            frames.append(_frames(found, said, "[B, S, T, 3, H, W]", shape).to(image)[:, 0, -1])
        return torch.cat(frames)


def _exact_answer(
    method: AnswersExactly,
    image: Tensor,
    place: tuple[float, float],
    displacement: Tensor,
    settings: Settings,
    clip_id: str,
) -> tuple[Tensor, Tensor]:
    """The exact flow of each poke and the displacement that came true, px: float64 `[K, 2, H, W]` and `[K, 2]`."""
    found = method.exact_answer(_conditioning(image, place, displacement, settings, clip_id))
    said, count = _said(method, place, "exact_answer"), len(displacement)
    if not isinstance(found, ExactAnswer):
        raise MethodError(f"{said} returned {type(found).__name__}, expected an ExactAnswer; correct the method")
    flow = _finite(found.flow, f"{said}: flow", "[B, 2, H, W]", (count, 2, *image.shape[1:]))
    realised = _finite(found.displacement, f"{said}: displacement", "[B, 2]", (count, 2))
    return flow.double().cpu(), realised.double().cpu()


def _said(method: Method | AnswersExactly, place: tuple[float, float], call: str) -> str:
    return f"{cast(Method, method).card.name}, poked at ({place[0]:g}, {place[1]:g}): {call}"


def _finite(found: Any, said: str, axes: str, shape: tuple[int, ...]) -> Tensor:
    """What a method returned for K pokes, K first.

    Raises:
        MethodError: no float tensor of that shape, or NaN or infinite values.
    """
    if not isinstance(found, Tensor) or not found.is_floating_point() or tuple(found.shape) != shape:
        kind = f"{found.dtype} {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise MethodError(f"{said} returned {kind}, expected a float tensor {axes} = {list(shape)}; correct the method")
    broken = ~torch.isfinite(found).flatten(1).all(1)
    if bool(broken.any()):
        count = f"{int(broken.sum())} of {len(broken)} pokes"
        raise MethodError(f"{said} returned NaN or infinite values for {count}; correct the method")
    return found.detach()


def _frames(found: Any, said: str, axes: str, shape: tuple[int, ...]) -> Tensor:
    """As `_finite`, of frames: MethodError for values outside [0, 1] too."""
    frames = _finite(found, said, axes, shape)
    low, high = float(frames.min()), float(frames.max())
    if low < -RANGE_SLACK or high > 1 + RANGE_SLACK:
        raise MethodError(f"{said} returned values in [{low:.4g}, {high:.4g}], expected [0, 1]; correct the method")
    return frames


def part_scores(found: Heatmap, parts: Tensor, counted: Tensor | None = None) -> dict[str, float]:
    """How well a map shows the part that was poked.

    Args:
        parts: uint8 `[H, W]`: part ids, 0 is the background, as in `Clip.parts`.
        counted: bool `[H, W]`: pixels that are compared; None: the whole object.

    Returns:
        "FORM auc" and "FORM iou" for each form: the poked part against the other parts; NaN where the place is in the
        background, or one part alone is counted.
    """
    x, y = (round(value) for value in found.location)
    poked, inside = parts == parts[y, x], parts > 0
    if not bool(inside[y, x]):
        poked = torch.zeros_like(inside)
    if counted is not None:
        inside = inside & counted
    scores = {}
    for form, values in found.maps.items():
        scores[f"{form} auc"] = area_under_curve(values, poked, inside)
        scores[f"{form} iou"] = best_overlap(values, poked, inside)
    return scores
