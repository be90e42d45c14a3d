"""A batch of clips on its way from a data set to a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from methods.interface import Clip, Poke
from metrics.errors import DataError


@dataclass(frozen=True)
class ClipBatch:
    """Clips of one shape.

    Attributes:
        frames: `[B, T, 3, H, W]`, RGB: uint8, or float32 in [0, 1] once augmented.
        clip_ids: the B clip ids.
        flow: float32 `[B, 2, H, W]`: (dx, dy) in px from x0 to the last frame.
        parts: uint8 `[B, H, W]`: part ids of x0, 0 is the background.
        poke: the pokes `[B, 2]`: those that a rule drew, or those that the clips carry.
        tracks: float32 `[B, k, T + 1, 2]`: (x, y) in px of k points in x0..xT.
    """

    frames: Tensor
    clip_ids: tuple[str, ...]
    flow: Tensor | None = None
    parts: Tensor | None = None
    poke: Poke | None = None
    tracks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.clip_ids)

    def to(self, device: torch.device | str) -> ClipBatch:
        """The same on `device`; copied while the program goes on where the memory is pinned."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> ClipBatch:
        """The same in page-locked memory; torch's loader calls it."""
        return self._mapped(Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> ClipBatch:
        poke = self.poke
        if poke is not None:
            poke = replace(poke, location=change(poke.location), displacement=change(poke.displacement))
        return replace(
            self,
            frames=change(self.frames),
            flow=None if self.flow is None else change(self.flow),
            parts=None if self.parts is None else change(self.parts),
            poke=poke,
            tracks=None if self.tracks is None else change(self.tracks),
        )


def sent(values: Sequence[Any], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """`values` as a tensor on `device`; the program goes on while they are sent."""
    return torch.tensor(values, dtype=dtype).to(device, non_blocking=True)


def batch_of(clips: Sequence[Clip], flow: Sequence[Tensor] | None = None, poke: Poke | None = None) -> ClipBatch:
    """A batch of `clips`; what not all of them have is left out.

    Args:
        flow: the flow of each, `[2, H, W]`.
        poke: their pokes; None: those that they carry.

    Raises:
        DataError: clips of different shapes.
    """
    shape = clips[0].frames.shape
    other = next((clip for clip in clips if clip.frames.shape != shape), None)
    if other is not None:
        raise DataError(
            f"clips of one batch must have one shape, found {clips[0].clip_id} {list(shape)} and "
            f"{other.clip_id} {list(other.frames.shape)}"
        )
    parts = [clip.parts for clip in clips if clip.parts is not None]
    true = [clip.poke for clip in clips if clip.poke is not None]
    if poke is None and len(true) == len(clips):
        poke = Poke(torch.cat([p.location for p in true]), torch.cat([p.displacement for p in true]))
    return ClipBatch(
        frames=torch.stack([clip.frames for clip in clips]),
        clip_ids=tuple(clip.clip_id for clip in clips),
        flow=None if flow is None else torch.stack(list(flow)),
        parts=torch.stack(parts) if len(parts) == len(clips) else None,
        poke=poke,
    )
