"""Small clips from a formula, of which everything is known: textured discs that move over a textured ground."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from methods.interface import Clip, Conditioning, MethodCard, Poke

CLIPS = 3
POINTS = 5
"""Points in the tracks of a clip."""

ClipSource = Callable[[int, int, int], Sequence[Clip]]
"""CLIPS clips of (size, context frames, horizon), with pokes and tracks; raises DataError where there are none such."""

RADIUS = 0.22
"""Of a disc; all lengths are in sides of the picture."""
CENTRES = ((0.46, 0.55), (0.54, 0.47), (0.5, 0.52))
"""(x, y) of each clip's disc in x0."""
VELOCITIES = ((0.011, -0.007), (-0.009, 0.006), (0.008, 0.010))
"""(dx, dy) of each clip's disc, a frame."""
LIGHT = (0.5, 0.75, 1.0)
"""What each clip's values are multiplied by: clips differ in brightness and contrast, so that statistics of a batch are
not those of a clip."""
OFFSETS = ((0.0, 0.0), (0.5, 0.1), (-0.4, 0.4), (0.1, -0.6), (-0.3, -0.3))
"""Where the followed points are in the disc, in radii from its centre."""


@dataclass(frozen=True)
class Shown:
    """What a method is shown, and what truly follows.

    Attributes:
        conditioning: on the CPU.
        truth: float32 `[B, T, 3, H, W]` in [0, 1].
        parts: uint8 `[B, H, W]`, 0 is the background of x0; None where it is not known.
    """

    conditioning: Conditioning
    truth: Tensor
    parts: Tensor | None = None

    def select(self, rows: Sequence[int]) -> Shown:
        """The clips at `rows` alone, in that order."""
        kept = list(rows)
        parts = None if self.parts is None else self.parts[kept]
        return Shown(self.conditioning.select(kept), self.truth[kept], parts)

    def but(self, **changes: object) -> Shown:
        """The same with other fields of the conditioning."""
        return replace(self, conditioning=replace(self.conditioning, **changes))  # type: ignore[arg-type]

    def given_to(self, card: MethodCard) -> Shown:
        """Without the poke and the tracks that a method does not declare."""
        kept = {name: getattr(self.conditioning, name) for name in ("poke", "tracks")}
        return self.but(**{name: value if name in card.inputs else None for name, value in kept.items()})


def generated_clips(size: int, context: int, horizon: int) -> list[Clip]:
    """Three clips: `context` frames, the last of which is x0, then `horizon` more.

    Each disc moves at constant velocity, 0.6 to 0.9 px a frame at 64 px, and its texture with it; the ground stays. The
    poke is at a point of the disc and says where that is in the last frame. Flow, parts and tracks are exact.

    Args:
        size: side of the square frames, px.
    """
    return [_clip(number, size, context, horizon) for number in range(CLIPS)]


def shown(clips: Sequence[Clip], context: int) -> Shown:
    """What a method may see of clips, each given poke and tracks that it has.

    Args:
        context: frames up to x0.
    """
    frames = torch.stack([clip.frames for clip in clips]).float() / 255
    pokes = [clip.poke for clip in clips if clip.poke is not None]
    poke = None
    if len(pokes) == len(clips):
        poke = Poke(torch.cat([p.location for p in pokes]), torch.cat([p.displacement for p in pokes]))
    tracks = [clip.tracks[:POINTS, context - 1 :] for clip in clips if clip.tracks is not None]
    parts = [clip.parts for clip in clips if clip.parts is not None]
    conditioning = Conditioning(
        frames[:, :context].clone(),
        tuple(clip.clip_id for clip in clips),
        frames.shape[1] - context,
        clips[0].frame_rate,
        poke,
        torch.stack(tracks) if len(tracks) == len(clips) else None,
    )
    return Shown(conditioning, frames[:, context:].clone(), torch.stack(parts) if len(parts) == len(clips) else None)


def _clip(number: int, size: int, context: int, horizon: int) -> Clip:
    times = torch.arange(1 - context, horizon + 1, dtype=torch.float64)[:, None]
    centre, velocity = torch.tensor(CENTRES[number]).double(), torch.tensor(VELOCITIES[number]).double()
    centres = centre + times * velocity  # [L, 2]
    pixels = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    ground = _texture(pixels[None, :], pixels[:, None], 11 + number)
    frames, masks = [], []
    for cx, cy in centres.tolist():
        x, y = pixels[None, :] - cx, pixels[:, None] - cy
        inside = torch.sigmoid((RADIUS - torch.hypot(x, y)) * 2 * size)  # an edge one pixel wide
        frames.append(inside * _texture(x, y, 3 * number) + (1 - inside) * (0.25 + 0.5 * ground))
        masks.append(inside > 0.5)
    disc = masks[context - 1]
    motion = velocity * horizon * size
    places = (centres[None] + torch.tensor(OFFSETS)[:, None] * RADIUS) * size - 0.5  # [k, L, 2], px
    start = places[0, context - 1].round()
    return Clip(
        frames=(torch.stack(frames) * LIGHT[number] * 255).round().byte(),
        clip_id=f"check-{number}",
        source=f"check-{number}",
        frame_rate=10.0,
        flow=(disc * motion[:, None, None]).float(),
        parts=disc.byte(),
        tracks=places.clamp(0, size - 1).float(),
        poke=Poke(start[None].float(), motion[None].float()),
    )


def _texture(x: Tensor, y: Tensor, seed: int) -> Tensor:
    """Waves over x and y, which broadcast to `[H, W]`: float64 `[3, H, W]` in [0, 1]."""
    channels = []
    for channel in range(3):
        total = torch.zeros(())
        for wave in range(4):
            angle = 2.4 * (seed + 1) + 1.7 * wave + 0.9 * channel
            cycles = 2 + 1.6 * wave
            along = x * math.cos(angle) + y * math.sin(angle)
            total = total + torch.sin(2 * math.pi * cycles * along + angle) / (1 + 0.5 * wave)
        channels.append(0.5 + total / 5.4)
    return torch.stack(channels).clamp(0, 1)
