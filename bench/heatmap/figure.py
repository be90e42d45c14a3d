"""The heatmap figure in the layout of the paper: the image, then a map for each place, a cross where it was poked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bench.figures.style import save
from bench.heatmap.maps import Heatmap
from metrics.correlation import Form

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = "inferno"
"""Brightness rises with the value, so that it survives grey printing and colour blindness; the paper's is "jet"."""
TILE = 1.6
"""Inches."""
INSET = 1 / 4
"""Side of the region that an inset enlarges, as a share of the image."""
INSET_WIDTH = 0.42
"""Side of an inset, as a share of its map."""


@dataclass(frozen=True)
class Row:
    """One row of the figure.

    Attributes:
        image: float `[3, H, W]` in [0, 1].
        label: of the row.
        form: of the maps shown.
        found: the maps, one for each place.
    """

    image: Tensor
    label: str
    form: Form
    found: Sequence[Heatmap]


def draw(path: Path, rows: Sequence[Row], *, insets: bool = False, masked: bool = True) -> None:
    """Writes the figure as PATH.png and PATH.pdf.

    Args:
        path: without its ending; its folder is made where it is missing.
        insets: enlarge what is around each place.
        masked: show no correlation outside the foreground.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    columns = 1 + max(len(row.found) for row in rows)
    size = (TILE * columns + 1.0, (TILE + 0.1) * len(rows) + 0.3)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for axis in line:
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].imshow(row.image.permute(1, 2, 0).cpu().numpy(), interpolation="bilinear")
        line[0].set_ylabel(f"{row.label}\n({row.form})", fontsize=8)
        for number, one in enumerate(row.found, 1):
            _cross(line[0], one.location, str(number))
        for axis, one in zip(line[1:], row.found, strict=False):
            values = shown(one, row.form, masked)
            axis.imshow(values, cmap=COLOURS, vmin=0, vmax=1, interpolation="bilinear")
            _cross(axis, one.location)
            if one.note:
                axis.set_xlabel(_folded(one.note), fontsize=6, labelpad=2)
            if insets and not one.empty:
                _inset(axis, values, one.location)
        for axis in line[1 + len(row.found) :]:
            axis.axis("off")
    for column, axis in enumerate(axes[0]):
        axis.set_title(f"place {column}" if column else "x0", fontsize=8, pad=3)
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), COLOURS), ax=axes, fraction=0.03, pad=0.01, aspect=30)
    bar.set_label("per-pixel motion correlation", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    save(figure, path)


def shown(found: Heatmap, form: Form, masked: bool) -> np.ndarray:
    """The map as it is drawn, `[H, W]`: 0 outside the foreground where that is asked for."""
    values = found.maps[form]
    return (torch.where(found.foreground, values, 0.0) if masked else values).numpy()


def _folded(note: str, width: int = 34) -> str:
    from textwrap import fill

    return fill(note, width)


def _cross(axis: Axes, place: tuple[float, float], name: str = "") -> None:
    from matplotlib.patheffects import withStroke

    for colour, width in (("black", 2.2), ("white", 1.1)):
        axis.plot(*place, marker="+", markersize=7, markeredgewidth=width, color=colour, zorder=3)
    if name:
        outline = [withStroke(linewidth=1.6, foreground="black")]
        axis.annotate(
            name, place, (3, 2), textcoords="offset points", fontsize=7, color="white", path_effects=outline, zorder=4
        )


def _inset(axis: Axes, values: np.ndarray, place: tuple[float, float]) -> None:
    """An enlarged square around the place, in the corner that is farthest from it, joined to it by dotted lines."""
    side = values.shape[0]
    half = INSET * side / 2
    x, y = (min(max(value, half), side - 1 - half) for value in place)
    far = 1 - INSET_WIDTH - 0.02
    corner = (0.02 if place[0] > side / 2 else far, far if place[1] > side / 2 else 0.02)
    small = axis.inset_axes((*corner, INSET_WIDTH, INSET_WIDTH))
    small.imshow(values, cmap=COLOURS, vmin=0, vmax=1, interpolation="bilinear")
    small.set(xlim=(x - half, x + half), ylim=(y + half, y - half), xticks=[], yticks=[])
    _cross(small, place)
    for spine in small.spines.values():
        spine.set(color="white", linewidth=0.8)
    indicator = axis.indicate_inset_zoom(small, edgecolor="white", alpha=1, linewidth=0.6)
    for line in indicator.connectors or ():
        line.set(linestyle=":", color="white")
