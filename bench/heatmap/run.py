"""From what a user names (methods, an image, places) to heatmaps on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from bench import provenance
from bench.evaluation.prediction import told_apart
from bench.heatmap.figure import Row, draw
from bench.heatmap.file import write_heatmaps
from bench.heatmap.maps import Heatmap, Lengths, Settings, heatmaps, part_scores
from bench.heatmap.places import places_of
from bench.output import check_writable
from bench.pictures import clip_and_x0, common_size, image_file, named_clip, resized
from bench.store import slug
from methods.image_io import read_image
from methods.interface import AnswersExactly, Method, MethodCard
from methods.registry import build_method
from metrics.correlation import FORMS, Form
from metrics.errors import DataError

SCENES = (
    "sim-pokes:sim-pokes-00000-ficus@000",
    "sim-pokes:sim-pokes-00001-human@000",
    "sim-pokes:sim-pokes-00008-orchid@000",
    "sim-pokes:sim-pokes-00005-human@000",
)
"""What is drawn unless an image is given: plants and people at rest, of the simulated world."""
PLACES = 4
"""Places that are chosen for a clip, unless they are given."""
CLIP_SIZE = 64
"""Side of the frames of a clip in px, where the methods leave a choice."""
ASKER = "a heatmap"
"""What needs a size that methods can predict."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Picture:
    """x0 float `[3, H, H]` in [0, 1], the places to poke in its px, its name, its parts where they are known, and what
    was done to it, "" when nothing."""

    x0: Tensor
    places: list[tuple[float, float]]
    name: str
    parts: Tensor | None = None
    remark: str = ""


def run_heatmap(
    methods: Sequence[str],
    image: str | None,
    places: Sequence[str],
    out: Path,
    *,
    forms: Sequence[str] | None,
    size: int | None,
    pokes: int,
    lengths: str,
    longest: float | None,
    shared_scale: bool,
    half: bool,
    insets: bool,
    device: torch.device,
    progress: Progress | None = None,
) -> list[str]:
    """Makes the heatmaps of each method and writes OUT.png, OUT.pdf and, for each method and image, OUT-METHOD.npz.

    A method that knows its answers exactly, as the simulation does, goes first; the others are then given the pokes
    that came true there, so that nothing impossible is asked of them.

    Args:
        methods: specifications; one row of the figure each and form.
        image: a square image file, or "DATASET:CLIP" for x0 of a clip; None: SCENES.
        places: "x,y" in px of the image file as it is given, or of the frames of a clip; none: PLACES are chosen,
            where the clip knows its parts.
        forms: of FORMS; None: all, or "complex" alone for SCENES.
        size: side of the picture, px; None: an image file is taken as it is, and frames of clips at CLIP_SIZE px, where
            the methods can predict that, else at the smallest size that all of them can.
        progress: called with maps done and all maps.

    Returns:
        What was written, what there is to know of a map, and, where the clip knows its parts, how well each map shows
        the poked part.

    Raises:
        DataError: no such image, place, form or length.
        MethodError: a method cannot predict this image from pokes, or the methods have no size in common.
        OutputError: a file cannot be written.
    """
    chosen = [cast(Form, form) for form in (forms or (FORMS if image else ("complex",)))]
    unknown = [form for form in chosen if form not in FORMS]
    if unknown or lengths not in ("random", "fixed"):
        raise DataError(
            f"heatmap: expected forms of {', '.join(FORMS)} and lengths random or fixed, found {unknown or lengths!r}"
        )
    if places and image is None:
        raise DataError("heatmap: --at belongs to an image; give one, or leave --at out")
    check_writable(out.with_name(f"{out.name}.png"))
    at = [_place(text) for text in places]
    settings = Settings(
        pokes=pokes, lengths=cast(Lengths, lengths), longest=longest, shared_scale=shared_scale, half=half
    )
    built = [cast(Method, build_method(spec)) for spec in methods]
    built.sort(key=lambda method: not isinstance(method, AnswersExactly))
    named = told_apart(built)
    cards = [method.card for method in built]
    pictures = [_picture(name, cards, size, at) for name in ([image] if image else SCENES)]
    for method in built:
        method.prepare(device)
    rows: list[Row] = []
    said: list[str] = []
    for picture in pictures:
        said += [picture.remark] if picture.remark else []
        asked: list[Tensor] | None = None
        for name, method in named.items():
            foreground = None if picture.parts is None else picture.parts > 0
            found = heatmaps(
                method,
                picture.x0.to(device),
                picture.places,
                settings,
                clip_id=picture.name,
                foreground=foreground,
                pokes=asked,
            )
            if isinstance(method, AnswersExactly):
                asked = [one.displacements for one in found]
            rows += [Row(picture.x0, method.card.title, form, found) for form in chosen]
            which = f"-{slug(picture.name)}" if len(pictures) > 1 else ""
            path = out.with_name(f"{out.name}{which}-{slug(name)}.npz")
            write_heatmaps(path, picture.x0, found, _facts(method, picture, settings))
            said += [f"{path}", *_remarks(method, picture, found)]
            if progress is not None:
                progress(len(rows) // len(chosen), len(pictures) * len(built))
    draw(out, rows, insets=insets)
    return [*said, f"{out}.png and .pdf"]


def _facts(method: Method, picture: Picture, settings: Settings) -> dict[str, object]:
    return {
        "method": method.card.name,
        "weights": dict(method.card.weights),
        "image": picture.name,
        "pokes": settings.pokes,
        "lengths": settings.lengths,
        "longest": settings.longest,
        "flow": "exact" if isinstance(method, AnswersExactly) else settings.tracker,
        "seed": settings.seed,
        "half": settings.half and not isinstance(method, AnswersExactly),
        "commit": provenance.commit(),
    }


def _remarks(method: Method, picture: Picture, found: Sequence[Heatmap]) -> list[str]:
    said = []
    for one in found:
        where = f"{method.card.name} at ({one.location[0]:g}, {one.location[1]:g})"
        if one.note:
            said.append(f"{where}: {one.note}")
        if picture.parts is not None and not one.note:
            scores = ", ".join(f"{name} {value:.3f}" for name, value in part_scores(one, picture.parts).items())
            said.append(f"{where}: {scores}")
    return said


def _place(text: str) -> tuple[float, float]:
    try:
        x, y = (float(value) for value in text.split(","))
    except ValueError:
        raise DataError(f"--at {text!r}: expected x,y in px, such as --at 20,31") from None
    return x, y


def _picture(image: str, cards: Sequence[MethodCard], size: int | None, places: list[tuple[float, float]]) -> Picture:
    if clip_of := named_clip(image):
        clip, x0 = clip_and_x0(*clip_of, common_size(cards, size, CLIP_SIZE, ASKER))
        return Picture(x0.float() / 255, places or places_of(clip, PLACES), clip.clip_id, clip.parts)
    path = image_file(image)
    if not places:
        raise DataError(f"{path}: nothing says which places to poke; give them with --at x,y")
    pixels = torch.from_numpy(read_image(path).copy()).permute(2, 0, 1).float() / 255
    height, width = pixels.shape[1:]
    if height != width:
        raise DataError(f"{path}: expected a square image, found {width} x {height} px; crop it first")
    for x, y in places:
        if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
            raise DataError(
                f"--at {x:g},{y:g}: expected a place in {path}, 0 <= x, y <= {width - 1}; give px of the file as it is"
            )
    side = common_size(cards, size, width, ASKER)
    if side == width:
        return Picture(pixels, places, path.name)
    moved = [(_scaled(x, width, side), _scaled(y, width, side)) for x, y in places]
    shown = ", ".join(f"({x:g}, {y:g})" for x, y in moved)
    remark = f"{path}: resized from {width} to {side} px, where the places are {shown}"
    return Picture(resized(pixels, side).clamp(0, 1), moved, path.name, remark=remark)


def _scaled(value: float, width: int, side: int) -> float:
    """A coordinate in px of a picture of `width` px in those of its copy of `side` px, to a hundredth; pixel centres
    are whole numbers."""
    return round(min(max((value + 0.5) * side / width - 0.5, 0.0), side - 1.0), 2)
