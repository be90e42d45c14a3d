"""Pokes as arrows over a video."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

RADIUS = (1 / 100, 1 / 40)
"""Of the circle at the poked place, least and most, as shares of the side; a third of the poke in between."""
HEAD = 1 / 14
"""Longest side of the head, as a share of the side; half of a short poke."""
SPREAD = math.radians(28)


@dataclass(frozen=True)
class Arrow:
    """An arrow in the units of the frame, px: a circle where the poke is, a shaft and a head.

    Attributes:
        x, y: middle of the poked pixel.
        radius: of the circle.
        path: of shaft and head, as SVG writes it; "" for a poke of no length.
    """

    x: float
    y: float
    radius: float
    path: str


def arrows(pokes: Sequence[tuple[float, float, float, float]], side: int) -> list[Arrow]:
    """Arrows of pokes (x, y, dx, dy), px, on frames of `side` px. The middle of pixel (0, 0) is at (0.5, 0.5)."""
    return [_arrow(x + 0.5, y + 0.5, dx, dy, side) for x, y, dx, dy in pokes]


def _arrow(x: float, y: float, dx: float, dy: float, side: int) -> Arrow:
    length, path = math.hypot(dx, dy), ""
    if length > 0:
        angle, head = math.atan2(dy, dx), min(HEAD * side, length / 2)
        tip_x, tip_y = x + dx, y + dy
        wings = [(tip_x - head * math.cos(angle + s), tip_y - head * math.sin(angle + s)) for s in (SPREAD, -SPREAD)]
        (ax, ay), (bx, by) = wings
        path = f"M{x:.2f} {y:.2f}L{tip_x:.2f} {tip_y:.2f}M{ax:.2f} {ay:.2f}L{tip_x:.2f} {tip_y:.2f}L{bx:.2f} {by:.2f}"
    least, most = (share * side for share in RADIUS)
    return Arrow(round(x, 2), round(y, 2), round(min(max(length / 3, least), most), 2), path)
