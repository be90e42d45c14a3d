"""How figures look: colours that survive colour blindness, line styles and markers that survive grey printing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench.output import output_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The palette of Okabe and Ito (2008) without its yellow, which is too light for lines."""
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
PANEL = (3.4, 2.6)
"""Width and height of a panel, inches."""
TEXT: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "legend.fontsize": 9,
    "xtick.labelsize": 8,
}
TEXT |= {"ytick.labelsize": 8, "pdf.fonttype": 42}


class Style(NamedTuple):
    """Of one method or training, the same in all panels of a figure."""

    color: str
    linestyle: Any
    marker: str


def style(number: int) -> Style:
    """The style of the line with this number: no two of 35 agree in colour and line style, none of 7 in marker."""
    return Style(COLOURS[number % len(COLOURS)], LINES[number % len(LINES)], MARKERS[number % len(MARKERS)])


def panels(count: int, columns: int = 3) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, in rows of `columns`."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    with rc_context(TEXT):
        size = (max(PANEL[0] * columns, 5.5), PANEL[1] * rows + 0.9)
        figure = Figure(figsize=size, dpi=200, layout="constrained")
        FigureCanvasAgg(figure)
        axes: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.axis("off")
    for axis in axes[:count]:
        axis.grid(True, color="0.88", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes[:count]


def curve(
    axis: Axes,
    x: Sequence[float],
    values: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    number: int,
    label: str,
    *,
    markers: bool = True,
) -> None:
    """A line with its interval as a band; limits that are NaN leave no band."""
    chosen = style(number)
    marker = chosen.marker if markers else ""
    axis.plot(
        x,
        values,
        color=chosen.color,
        linestyle=chosen.linestyle,
        marker=marker,
        markersize=4.5,
        linewidth=1.5,
        label=label,
    )
    axis.fill_between(x, low, high, color=chosen.color, alpha=0.18, linewidth=0)


def finish(figure: Figure, path: Path, title: str, note: str, axis: Axes) -> list[Path]:
    """Adds title, legend (of `axis`) and note, and writes PATH.png and PATH.pdf.

    Args:
        path: without its ending; its folder is made where it is missing.
        note: what the reader must know, such as counts and what bands mean.
    """
    handles, labels = axis.get_legend_handles_labels()
    width = figure.get_figwidth()
    rows = int(sum(len(label) + 8 for label in labels) // (width * 12)) + 1
    figure.suptitle(title, fontsize=11)
    legend = figure.legend(
        handles, labels, loc="outside lower center", ncols=max(1, -(-len(labels) // rows)), frameon=False, fontsize=9,
        title=_folded(note, int(width * 17)), title_fontsize=7,
    )  # fmt: skip
    legend.get_title().set_color("0.3")
    legend.get_title().set_multialignment("center")
    return save(figure, path)


def save(figure: Figure, path: Path) -> list[Path]:
    """Writes PATH.png and PATH.pdf; the same figure gives the same bytes.

    Raises:
        OutputError: they cannot be written.
    """
    from matplotlib import rc_context

    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it lists every glyph of every font in a PDF
    written = []
    for ending, facts in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):
        target = path.with_name(f"{path.name}.{ending}")
        with output_path(target) as temporary, rc_context(TEXT):
            figure.savefig(temporary, format=ending, metadata=facts)
        written.append(target)
    return written


def _folded(text: str, width: int) -> str:
    from textwrap import fill

    return fill(text, width)
