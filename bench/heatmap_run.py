"""From what a user names (methods, an image, places) to heatmaps on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from bench import provenance
from bench.data.registry import DATASETS, open_dataset
from bench.heatmap import Heatmap, Settings, heatmaps, part_scores, save_arrays
from bench.heatmap_figure import draw
from methods.image_io import read_image
from methods.interface import Method
from methods.registry import build_method
from metrics.correlation import FORMS, Form
from metrics.errors import DataError


def run_heatmap(
    methods: Sequence[str],
    image: str,
    places: Sequence[str],
    out: Path,
    *,
    forms: Sequence[str] | None,
    size: int | None,
    pokes: int,
    lengths: str,
    longest: float | None,
    shared_scale: bool,
    insets: bool,
    device: torch.device,
) -> list[str]:
    """Makes the heatmaps of each method and writes OUT.png, OUT.pdf and, for each method, OUT-METHOD.npz.

    Args:
        methods: specifications; one row of the figure each and form.
        image: a square image file, or "DATASET:CLIP" for x0 of a clip.
        places: "x,y" in px.
        forms: of FORMS; None: all.
        size: side that an image file is resized to; None: it is taken as it is.

    Returns:
        What was written, and, where the clip knows its parts, how well each map shows the poked part.

    Raises:
        DataError: no such image, place, form or length.
        MethodError: a method cannot predict this image from pokes.
    """
    chosen = [cast(Form, form) for form in (forms or FORMS)]
    unknown = [form for form in chosen if form not in FORMS]
    if unknown or lengths not in ("random", "fixed"):
        raise DataError(
            f"heatmap: expected forms of {', '.join(FORMS)} and lengths random or fixed, found {unknown or lengths!r}"
        )
    at = [_place(text) for text in places]
    x0, parts, clip_id = _image(image, size)
    settings = Settings(pokes=pokes, lengths=cast(Any, lengths), longest=longest, shared_scale=shared_scale)
    rows: list[tuple[str, Form, Sequence[Heatmap]]] = []
    said = []
    for spec in methods:
        method = cast(Method, build_method(spec))
        method.prepare(device)
        foreground = None if parts is None else parts > 0
        found = heatmaps(method, x0.to(device), at, settings, clip_id=clip_id, foreground=foreground)
        rows += [(method.card.title, form, found) for form in chosen]
        facts = {
            "method": method.card.name,
            "weights": dict(method.card.weights),
            "image": clip_id,
            "pokes": pokes,
            "lengths": lengths,
            "longest": longest,
            "tracker": settings.tracker,
            "seed": settings.seed,
            "commit": provenance.commit(),
        }
        path = out.with_name(f"{out.name}-{method.card.name}.npz")
        save_arrays(path, x0, found, facts)
        said.append(f"{path}")
        if parts is not None:
            for one in found:
                scores = ", ".join(f"{name} {value:.3f}" for name, value in part_scores(one, parts).items())
                said.append(f"{method.card.name} at ({one.location[0]:g}, {one.location[1]:g}): {scores}")
    draw(out, x0, rows, insets=insets)
    return [*said, f"{out}.png and .pdf"]


def _place(text: str) -> tuple[float, float]:
    try:
        x, y = (float(value) for value in text.split(","))
    except ValueError:
        raise DataError(f"--at {text!r}: expected x,y in px, such as --at 20,31") from None
    return x, y


def _image(image: str, size: int | None) -> tuple[Tensor, Tensor | None, str]:
    """x0 float `[3, H, H]` in [0, 1], its parts where they are known, and its name."""
    name, _, clip_id = image.partition(":")
    if clip_id and name in DATASETS:
        clip = open_dataset(name, size=size or 64, length=11).load(clip_id)
        return clip.frames[0].float() / 255, clip.parts, clip.clip_id
    path = Path(image).expanduser()
    if not path.is_file():
        raise DataError(f"there is no image file {image}, nor is it DATASET:CLIP with a data set of `bench datasets`")
    picture = torch.from_numpy(read_image(path).copy()).permute(2, 0, 1).float() / 255
    if picture.shape[1] != picture.shape[2]:
        raise DataError(
            f"{path}: expected a square image, found {picture.shape[2]} x {picture.shape[1]} px; crop it first"
        )
    if size is not None and picture.shape[-1] != size:
        picture = torch.nn.functional.interpolate(picture[None], size=(size, size), mode="bilinear", antialias=True)[0]
    return picture.clamp(0, 1), None, path.name
