"""Qualitative strips as in figures 3 and 4 of the paper: the true frames, the answer to the poke of the clip, and to
further pokes; a red arrow is a poke, a red dot its target, the last column the flow from x0 to the last frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bench.data.show import flow_colours, flow_scale
from bench.evaluation.prediction import AnyMethod, told_apart
from bench.figures.asked import Asked
from bench.figures.style import TEXT, save
from bench.heatmap.maps import LONGEST
from bench.pokes import PokeRule, simulate_poke
from bench.store import slug
from methods.interface import Poke, clip_generator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FURTHER = 2
"""Rows of further pokes."""
LATER = 5
"""Frames shown after x0; the last one is among them."""
TILE = 1.15
"""Inches."""
RED = "#E00000"
ARROWS = 8
"""Arrows along a side of a flow tile."""
MOVES = 0.5
"""Flow of fewer px gets no arrow."""


@dataclass(frozen=True)
class Strip:
    """One row: x0 `[3, H, W]` and frames `[T, 3, H, W]` in [0, 1], flow `[2, H, W]`, px, and the poke `[n, 2]`."""

    label: str
    x0: Tensor
    frames: Tensor
    flow: Tensor
    location: Tensor
    displacement: Tensor


def strips(methods: Sequence[AnyMethod], given: Asked, folder: Path) -> list[Path]:
    """Draws a figure for each method, strips-METHOD.

    Methods that take no pokes have one row a clip. Further pokes are at other places that move, of random direction
    and length, from the seed of the protocol.

    Args:
        methods: prepared.
    """
    written = []
    for name, method in told_apart(methods).items():
        blocks = _blocks(method, given)
        title = f"{method.card.title} on {given.protocol.dataset}"
        written += draw(blocks, title, folder / f"strips-{slug(name)}")
    return written


def draw(blocks: Sequence[Sequence[Strip]], title: str, path: Path) -> list[Path]:
    """Writes rows of frames, block by block, as PATH.png and PATH.pdf."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for block in blocks for row in block]
    horizon = len(rows[0].frames)
    steps = sorted({-(-k * horizon // LATER) for k in range(1, LATER + 1)})
    scale = flow_scale([row.flow for row in rows])
    columns = len(steps) + 2
    with rc_context(TEXT):
        height = TILE * len(rows) + 0.15 * (len(blocks) - 1) + 1.5
        figure = Figure(figsize=(TILE * columns + 0.6, height), dpi=200)
        FigureCanvasAgg(figure)
        outer = figure.add_gridspec(
            len(blocks), 1, left=0.5 / figure.get_figwidth(), right=0.995, top=1 - 0.55 / height,
            bottom=0.85 / height, hspace=0.15 * len(blocks) / (TILE * len(rows)),
        )  # fmt: skip
        for number, block in enumerate(blocks):
            axes: Any = outer[number].subgridspec(len(block), columns, wspace=0.04, hspace=0.04).subplots(squeeze=False)
            for line, row in zip(axes, block, strict=True):
                _row(line, row, steps, scale)
                line[0].set_ylabel(row.label, fontsize=8)
            if not number:
                first = "x0 and poke" if len(block[-1].location) else "x0"
                for axis, name in zip(axes[0], [first, *(f"x{step}" for step in steps), "flow"], strict=True):
                    axis.set_title(name, fontsize=8, pad=3)
        figure.suptitle(title, fontsize=11, y=1 - 0.12 / figure.get_figheight(), va="top")
        _legend(figure, scale, bool(len(rows[-1].location)))
    return save(figure, path)


def _blocks(method: AnyMethod, given: Asked) -> list[list[Strip]]:
    """The rows of each clip: the truth, and what the method answers."""
    poke, count = given.shown.poke, len(given.clips)
    truths = list(given.motion(given.target)) if given.flow is None else [given.flow.of(clip) for clip in given.clips]
    blocks = [
        [Strip("ground truth", given.shown.x0[k].cpu(), given.target[k].cpu(), truths[k], *_pokes(None, k))]
        for k in range(count)
    ]
    questions: list[tuple[str, Poke | None]] = [("prediction", None)]
    if poke is not None and "poke" in method.card.inputs:
        rule = given.protocol.poke
        questions = [("true poke" if rule is not None and rule.source == "true" else "simulated poke", poke)]
        if poke.location.ndim == 2:
            questions += [(f"further poke {k}", _further(given, truths, k)) for k in range(1, FURTHER + 1)]
    for label, question in questions:
        shown = given.shown if question is None else replace(given.shown, poke=question)
        video = given.answer(method, shown)
        motion = given.motion(video) if question is None or question is poke else given.from_x0(video)
        for k, block in enumerate(blocks):
            block.append(Strip(label, given.shown.x0[k].cpu(), video[k].cpu(), motion[k], *_pokes(question, k)))
    return blocks


def _pokes(poke: Poke | None, row: int) -> tuple[Tensor, Tensor]:
    """Places and displacements of the pokes of one clip, `[n, 2]` each."""
    if poke is None:
        return torch.zeros(0, 2), torch.zeros(0, 2)
    return poke.location[row].cpu().reshape(-1, 2), poke.displacement[row].cpu().reshape(-1, 2)


def _further(given: Asked, truths: Sequence[Tensor], number: int) -> Poke:
    """Pokes at other places that move, of random direction, half to all as long as the longest that one may ask for."""
    places, moves = [], []
    for clip, flow in zip(given.clips, truths, strict=True):
        name = f"further/{number}/{clip.clip_id}"
        x0 = clip.frames[given.protocol.context - 1]
        places.append(simulate_poke(flow, x0, PokeRule(), given.protocol.seed, name).location[0])
        u = torch.rand(2, generator=clip_generator(given.protocol.seed, name))
        length = LONGEST * given.protocol.size * (1 + u[1]) / 2
        angle = 2 * torch.pi * u[0]
        moves.append(length * torch.stack([angle.cos(), angle.sin()]))
    return Poke(torch.stack(places).to(given.target), torch.stack(moves).to(given.target))


def _row(line: Sequence[Axes], row: Strip, steps: Sequence[int], scale: float) -> None:
    pictures = [row.x0, *(row.frames[step - 1] for step in steps)]
    for axis, picture in zip(line, pictures, strict=False):
        axis.imshow(picture.permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="nearest")
    line[-1].imshow(flow_colours(row.flow, scale), interpolation="nearest")
    side = row.flow.shape[-1]
    _flow_arrows(line[-1], row.flow, scale)
    for axis in line:
        axis.set(xticks=[], yticks=[], xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))
    for place, move in zip(row.location.tolist(), row.displacement.tolist(), strict=True):
        target = (place[0] + move[0], place[1] + move[1])
        for colour, width in (("white", 2.6), (RED, 1.3)):
            arrow = {"arrowstyle": "-|>", "color": colour, "lw": width, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 7}
            line[0].annotate("", target, place, arrowprops=arrow)
        for axis in line[1:-1]:
            axis.plot(*target, marker="o", markersize=3.6, color=RED, markeredgecolor="white", markeredgewidth=0.6)


def _flow_arrows(axis: Axes, flow: Tensor, scale: float) -> None:
    """White arrows where it moves, so that the direction can be read without colours; full length is a spacing."""
    side = flow.shape[-1]
    step = max(1, side // ARROWS)
    at = np.arange(step // 2, side, step)
    dx, dy = flow.numpy()[:, at[:, None], at]
    moving = np.hypot(dx, dy) > MOVES
    x, y = np.meshgrid(at, at)
    axis.quiver(
        x[moving], y[moving], dx[moving], dy[moving], color="white", angles="xy", scale_units="xy",
        scale=scale / (1.4 * step), width=0.012, headwidth=4, headlength=4, headaxislength=3.5,
    )  # fmt: skip


def _legend(figure: Figure, scale: float, poked: bool) -> None:
    """The colour wheel, and what the signs mean."""
    height, width = figure.get_figheight(), figure.get_figwidth()
    side = 96
    ring = torch.linspace(-1, 1, side)
    wheel = torch.stack([ring.expand(side, side), ring[:, None].expand(side, side)])
    colours = flow_colours(wheel * scale, scale)
    colours[(torch.linalg.vector_norm(wheel, dim=0) > 1).numpy()] = 255
    axis = figure.add_axes((0.9 / width, 0.12 / height, 0.6 / width, 0.6 / height))
    axis.imshow(colours)
    axis.axis("off")
    words = "flow from x0 to the last frame: hue is the direction, brightness the root of the length\n"
    words += f"(full at {scale:.1f} px); white arrows show the same" + (
        "\nred arrow: poke; red dot: its target" if poked else ""
    )
    figure.text(1.65 / width, 0.42 / height, words, fontsize=7.5, va="center")
