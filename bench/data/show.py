"""Contact sheets: what is in a data set, at a glance.

One row a clip: x0 with its poke (arrow), later frames with the target of the poke (dot), the flow, the parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.data.clips import kept_clips
from bench.data.interface import DataSet, Settings
from bench.flow.registry import DEFAULT, EXACT
from bench.flow.source import FlowSource
from bench.output import check_writable, output_path
from bench.pokes import Draw, PokeRule, clip_poke
from methods.interface import Clip
from metrics.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

Colours = NDArray[np.uint8]

CONTEXT = 2
"""Frames up to x0, where the data set leaves it open."""
LATER = 4
"""Frames shown after x0; the last one is among them."""
TILE = 192
"""Least side of a tile, px."""
GAP, LINE, WHEEL = 6, 16, 64
"""Space between tiles, height of a line of text, side of the colour wheel, px."""
RED, PAPER, INK = (255, 0, 0), (255, 255, 255), (30, 30, 30)
BRIGHTEST = 0.99
"""Flow at this quantile of what moves on the sheet is drawn at full brightness."""
MOVES = 0.1
"""Flow of fewer px does not count for the scale."""


def contact_sheet(
    dataset: DataSet,
    count: int,
    path: Path | str,
    *,
    flow: FlowSource | None = None,
    rule: PokeRule | None = None,
    seed: int = 0,
) -> Path:
    """Writes a PNG with `count` clips (all, if there are fewer), drawn so as to come from many sources.

    Args:
        path: of the PNG; its folder is made where it is missing.
        flow: None: the exact flow of the data set where it carries one, else the default estimator, for x0 at the
            place that the data set says, else frame CONTEXT.
        rule: None: the true poke of each clip that has one, else the default rule.
        seed: of the draw of clips and of the pokes.

    Returns:
        The path.

    Raises:
        DataError: the data set is empty, or `count` is below 1.
        OutputError: the file cannot be written.
    """
    from PIL import Image, ImageDraw

    path, refs = Path(path), dataset.clips()
    if not refs or count < 1:
        raise DataError(f"{dataset.name} has {len(refs)} clips, {count} are to be shown; both must be at least 1")
    check_writable(path)
    clips = [dataset.load(ref.clip_id) for ref in kept_clips(refs, Settings(max_clips=count, seed=seed))]
    source = flow or _source(dataset, clips[0])
    rows = [_row(clip, source, rule, seed) for clip in clips]
    scale = flow_scale([row.flow for row in rows])
    zoom = -(-TILE // min(rows[0].clip.frames.shape[-2:]))
    names, pictures = zip(*(_tiles(row, source.context, scale, zoom) for row in rows), strict=True)
    columns = max(names, key=len)
    height, width = (side * zoom for side in rows[0].clip.frames.shape[-2:])
    step = height + LINE + GAP
    sheet = Image.new("RGB", (GAP + len(columns) * (width + GAP), 3 * LINE + len(rows) * step + WHEEL + 2 * GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 2), dataset.describe(), fill=INK)
    draw.text((GAP, 2 + LINE), f"flow: {source.name}; pokes: seed {seed}", fill=INK)
    for column, name in enumerate(columns):
        draw.text((GAP + column * (width + GAP), 2 + 2 * LINE), name, fill=INK)
    for k, (row, tiles) in enumerate(zip(rows, pictures, strict=True)):
        top = 3 * LINE + k * step
        draw.text((GAP, top), row.caption(), fill=INK)
        for column, tile in enumerate(tiles):
            sheet.paste(tile, (GAP + column * (width + GAP), top + LINE))
    _legend(sheet, draw, sheet.height - WHEEL - GAP, scale)
    with output_path(path) as temporary:
        sheet.save(temporary, format="PNG")
    return path


def flow_colours(flow: Tensor, scale: float) -> Colours:
    """Flow as colours: hue is the direction, brightness the square root of the length, so that slow parts show.

    Args:
        flow: float `[2, H, W]`, (dx, dy) in px.
        scale: length in px that is drawn at full brightness; longer flow is drawn so too.

    Returns:
        uint8 `[H, W, 3]`. Right is red, down is yellow-green, left is cyan, up is violet; no motion is black.
    """
    import cv2

    dx, dy = flow.double().cpu().numpy()
    hue = np.degrees(np.arctan2(dy, dx)) % 360
    value = np.sqrt(np.clip(np.hypot(dx, dy) / scale, 0, 1))
    hsv = np.stack([hue, np.ones_like(hue), value], axis=-1).astype(np.float32)
    return (cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255).round().astype(np.uint8)


def flow_scale(flows: Sequence[Tensor]) -> float:
    """The length of flow, px, drawn at full brightness on a sheet: a high quantile of what moves, at least 1."""
    lengths = torch.cat([torch.linalg.vector_norm(flow, dim=0).flatten() for flow in flows]).numpy()
    moving = lengths[lengths > MOVES]
    return max(1.0, float(np.quantile(moving, BRIGHTEST))) if len(moving) else 1.0


def part_colours(parts: Tensor) -> Colours:
    """Part ids uint8 `[H, W]` as colours `[H, W, 3]`; the background is black, neighbours in number differ in hue."""
    import cv2

    numbers = np.arange(256)
    hsv = np.stack([numbers * 137.508 % 360, 0.55 + 0.4 * (numbers % 2), 1 - 0.25 * (numbers % 3 == 2)], axis=-1)
    hsv[0] = 0
    palette = (cv2.cvtColor(hsv[None].astype(np.float32), cv2.COLOR_HSV2RGB)[0] * 255).round().astype(np.uint8)
    return palette[parts.cpu().numpy()]


@dataclass(frozen=True)
class _Row:
    clip: Clip
    flow: Tensor
    poke: Draw

    def caption(self) -> str:
        dx, dy = self.poke.displacement[0].tolist()
        return f"{self.clip.clip_id}   {self.poke.kind} poke ({dx:+.1f}, {dy:+.1f}) px"


def _source(dataset: DataSet, clip: Clip) -> FlowSource:
    context = None if getattr(dataset, "context", None) is not None else CONTEXT
    return FlowSource(dataset, DEFAULT if clip.flow is None else EXACT, context=context)


def _row(clip: Clip, source: FlowSource, rule: PokeRule | None, seed: int) -> _Row:
    chosen = rule or (PokeRule() if clip.poke is None else PokeRule(source="true"))
    return _Row(clip, source.of(clip), clip_poke(clip, source, chosen, seed))


def _tiles(row: _Row, context: int, scale: float, zoom: int) -> tuple[list[str], list[Image]]:
    """Names and pictures of the tiles of a row."""
    horizon = len(row.clip.frames) - context
    steps = sorted({-(-k * horizon // LATER) for k in range(1, LATER + 1)})
    names, tiles = ["x0 and poke"], [_tile(_picture(row.clip.frames[context - 1]), zoom)]
    draw_poke(tiles[0], row.poke, zoom)
    for step in steps:
        tile = _tile(_picture(row.clip.frames[context - 1 + step]), zoom)
        _dots(tile, row.poke, zoom)
        names.append(f"x{step}")
        tiles.append(tile)
    names.append(f"flow x0 to x{horizon}")
    tiles.append(_tile(flow_colours(row.flow, scale), zoom))
    if row.clip.parts is not None:
        names.append("parts")
        tiles.append(_tile(part_colours(row.clip.parts), zoom))
    return names, tiles


def _picture(frame: Tensor) -> Colours:
    return frame.permute(1, 2, 0).numpy()


def _tile(picture: Colours, zoom: int) -> Image:
    from PIL import Image

    return Image.fromarray(np.ascontiguousarray(picture.repeat(zoom, axis=0).repeat(zoom, axis=1)))


def _ends(poke: Draw, zoom: int) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Start and target of each poke on a tile."""
    starts = (poke.location + 0.5) * zoom
    targets = starts + poke.displacement * zoom
    return [((a[0], a[1]), (b[0], b[1])) for a, b in zip(starts.tolist(), targets.tolist(), strict=True)]


def draw_poke(tile: Image, poke: Draw, zoom: int) -> None:
    """Draws a red arrow into `tile`, x0 enlarged `zoom` times, for each poke of a clip."""
    from PIL import ImageDraw

    draw, width = ImageDraw.Draw(tile), max(1, tile.width // 96)
    for (x, y), (to_x, to_y) in _ends(poke, zoom):
        length = float(np.hypot(to_x - x, to_y - y))
        if length == 0:
            draw.point([x, y], fill=RED)
            continue
        ux, uy = (to_x - x) / length, (to_y - y) / length
        head = min(length, 4.5 * width)
        base_x, base_y = to_x - head * ux, to_y - head * uy
        draw.line([x, y, base_x, base_y], fill=RED, width=width)
        side = 0.5 * head
        corners = [(to_x, to_y), (base_x - side * uy, base_y + side * ux), (base_x + side * uy, base_y - side * ux)]
        draw.polygon(corners, fill=RED)


def _dots(tile: Image, poke: Draw, zoom: int) -> None:
    from PIL import ImageDraw

    radius = max(2.0, 3 * tile.width / TILE)
    for _, (x, y) in _ends(poke, zoom):
        ImageDraw.Draw(tile).ellipse([x - radius, y - radius, x + radius, y + radius], fill=RED)


def _legend(sheet: Image, draw: ImageDraw, top: int, scale: float) -> None:
    """The colour wheel, and what it means."""
    from PIL import Image

    axis = torch.linspace(-1, 1, WHEEL)
    wheel = torch.stack([axis.expand(WHEEL, WHEEL), axis[:, None].expand(WHEEL, WHEEL)])
    colours = flow_colours(wheel, 1.0)
    colours[(torch.linalg.vector_norm(wheel, dim=0) > 1).numpy()] = PAPER
    sheet.paste(Image.fromarray(colours), (GAP, top))
    words = ["flow: hue is the direction,", f"brightness the root of the length (full at {scale:.1f} px)"]
    for k, line in enumerate([*words, "red arrow: poke; red dot: its target"]):
        draw.text((2 * GAP + WHEEL, top + 8 + k * LINE), line, fill=INK)
