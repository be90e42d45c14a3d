"""Where to poke: places of a clip that stand for its parts, drawn from the seed and the clip alone."""

from __future__ import annotations

import torch

from methods.interface import Clip, clip_generator
from metrics.control import MOVING
from metrics.errors import DataError

SMALLEST = 8
"""Pixels that a part shows at least, if it is to be poked."""


def places_of(clip: Clip, count: int, seed: int = 0) -> list[tuple[float, float]]:
    """Places (x, y) in px on parts of the object that can move, each on another part as far as there are so many.

    The true poke of the clip comes first, where it is on the object. Others are drawn among the pixels that move in
    the clip by more than MOVING px, at most as many as there are.

    Raises:
        DataError: the clip knows no parts or no flow, or nothing of the object moves in it.
    """
    if clip.parts is None or clip.flow is None:
        raise DataError(f"clip {clip.clip_id} knows no parts and flow, so no places can be chosen; give them with --at")
    parts = clip.parts
    free = (torch.linalg.vector_norm(clip.flow, dim=0) > MOVING) & (parts > 0)
    free &= (torch.bincount(parts.flatten().long(), minlength=256) >= SMALLEST)[parts.long()]
    generator = clip_generator(seed, f"places/{clip.clip_id}")
    found: list[tuple[float, float]] = []
    if clip.poke is not None:
        column, row = (int(value) for value in clip.poke.location[0].round().tolist())
        if parts[row, column] > 0:
            found.append((float(column), float(row)))
    used = torch.zeros(256, dtype=torch.bool)
    for x, y in found:
        used[int(parts[int(y), int(x)])] = True
        free[int(y), int(x)] = False
    while len(found) < count and bool(free.any()):
        fresh = free & ~used[parts.long()]
        rows, columns = (fresh if bool(fresh.any()) else free).nonzero(as_tuple=True)
        k = int(torch.randint(len(rows), (1,), generator=generator))
        row, column = int(rows[k]), int(columns[k])
        found.append((float(column), float(row)))
        used[parts[row, column].long()] = True
        free[row, column] = False
    if not found:
        raise DataError(f"nothing of the object moves in clip {clip.clip_id}; choose another clip, or places with --at")
    return found[:count]
