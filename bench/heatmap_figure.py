"""The heatmap figure in the layout of the paper: the image, then a map for each place, a cross where it was poked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bench.heatmap import Heatmap
from metrics.cache import atomic_path
from metrics.correlation import Form

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = "jet"
TILE = 1.6
"""Inches."""
INSET = 1 / 4
"""Side of the region that an inset enlarges, as a share of the image."""


def draw(
    path: Path,
    image: Tensor,
    rows: Sequence[tuple[str, Form, Sequence[Heatmap]]],
    *,
    insets: bool = False,
    masked: bool = True,
) -> None:
    """Writes the figure as PATH.png and PATH.pdf.

    Args:
        path: without its ending; its folder is made where it is missing.
        image: float `[3, H, W]` in [0, 1].
        rows: label, form and heatmaps of each row, all for the same places.
        insets: enlarge what is around each place.
        masked: show no correlation outside the foreground.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    places = [found.location for found in rows[0][2]]
    columns = 1 + len(places)
    figure = Figure(figsize=(TILE * columns + 0.7, (TILE + 0.12) * len(rows) + 0.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(len(rows), columns, squeeze=False)
    picture = image.permute(1, 2, 0).cpu().numpy()
    for line, (label, form, found) in zip(axes, rows, strict=True):
        line[0].imshow(picture, interpolation="bilinear")
        line[0].set_ylabel(f"{label}\n({form})", fontsize=7)
        for place in places:
            _cross(line[0], place)
        for axis, one in zip(line[1:], found, strict=True):
            values = shown(one, form, masked)
            axis.imshow(values, cmap=COLOURS, vmin=0, vmax=1, interpolation="bilinear")
            _cross(axis, one.location)
            if insets:
                _inset(axis, values, one.location)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), COLOURS), ax=axes, fraction=0.03, pad=0.01)
    bar.set_label("per-pixel motion correlation", fontsize=7)
    bar.ax.tick_params(labelsize=6)
    path.parent.mkdir(parents=True, exist_ok=True)
    for ending in ("png", "pdf"):
        with atomic_path(path.with_name(f"{path.name}.{ending}")) as temporary:
            figure.savefig(temporary, format=ending)


def shown(found: Heatmap, form: Form, masked: bool) -> np.ndarray:
    """The map as it is drawn, `[H, W]`: 0 outside the foreground where that is asked for."""
    values = found.maps[form]
    return (torch.where(found.foreground, values, 0.0) if masked else values).numpy()


def _cross(axis: Axes, place: tuple[float, float]) -> None:
    for colour, width in (("black", 2.2), ("white", 1.1)):
        axis.plot(*place, marker="+", markersize=7, markeredgewidth=width, color=colour, zorder=3)


def _inset(axis: Axes, values: np.ndarray, place: tuple[float, float]) -> None:
    """An enlarged square around the place, in the corner that is farthest from it, joined to it by dotted lines."""
    side = values.shape[0]
    half = INSET * side / 2
    x, y = (min(max(value, half), side - 1 - half) for value in place)
    corner = (0.02 if place[0] > side / 2 else 0.56, 0.56 if place[1] > side / 2 else 0.02)
    small = axis.inset_axes((*corner, 0.42, 0.42))
    small.imshow(values, cmap=COLOURS, vmin=0, vmax=1, interpolation="bilinear")
    small.set(xlim=(x - half, x + half), ylim=(y + half, y - half), xticks=[], yticks=[])
    _cross(small, place)
    for spine in small.spines.values():
        spine.set(color="white", linewidth=0.8)
    indicator = axis.indicate_inset_zoom(small, edgecolor="white", alpha=1, linewidth=0.6)
    for line in indicator.connectors or ():
        line.set(linestyle=":", color="white")
