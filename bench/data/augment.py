"""Augmentation on the device, in batches: the same change for all frames of a clip, its flow, parts and poke.

Colour, with probability 0.8: brightness, contrast, saturation and hue, in this order, each as torchvision defines it
(on every frame by itself). Geometry, with probability 0.8: rotation about the centre, then a translation by whole
pixels; what comes in from outside is the picture mirrored at its border. These are the ranges of the authors' program;
the order of the colour steps and bilinear sampling are choices of this one.

The authors' program moves flow maps with the picture but leaves the vectors as they were. Here vectors turn with the
picture, and are mirrored where it is; `rotate_vectors=False` gives the original behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import cos, pi, sin

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from bench.data.batch import ClipBatch, sent
from bench.pokes import PokeRule, draw_pokes, still_targets
from methods.interface import Poke, clip_generator
from metrics.errors import DataError

GREY_WEIGHTS = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in torchvision's grey."""


class Augmentation(BaseModel):
    """Ranges from which the changes of each clip are drawn, uniformly.

    Attributes:
        colour, geometry: probability that a clip is changed so.
        brightness, contrast, saturation: factors lie in 1 -+ this.
        hue: lowest and highest shift, in turns of the colour circle.
        rotation: largest angle, degrees.
        translation: largest shift each way, share of the side; m = int(share * side) gives whole shifts -m .. m - 1.
        rotate_vectors: whether flow vectors turn with the picture.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    colour: float = Field(default=0.8, ge=0, le=1)
    geometry: float = Field(default=0.8, ge=0, le=1)
    brightness: float = Field(default=0.4, ge=0, le=1)
    contrast: float = Field(default=0.5, ge=0, le=1)
    saturation: float = Field(default=0.4, ge=0, le=1)
    hue: tuple[float, float] = (-0.15, 0.30)
    rotation: float = Field(default=15.0, ge=0, le=45)
    translation: float = Field(default=0.05, ge=0, le=0.25)
    rotate_vectors: bool = True


@dataclass(frozen=True)
class Changes:
    """What is done to one clip.

    Attributes:
        colour: brightness, contrast and saturation factor, hue shift; None: unchanged.
        geometry: angle in radians (from x towards y: clockwise as seen), shift (x, y) in px; None: unchanged.
    """

    colour: tuple[float, float, float, float] | None
    geometry: tuple[float, int, int] | None


def draw_changes(settings: Augmentation, seed: int, clip_id: str, height: int, width: int) -> Changes:
    """The changes of one clip, from (seed, clip id) alone."""
    u = torch.rand(9, generator=clip_generator(seed, f"augment/{clip_id}"), dtype=torch.float64).tolist()
    low, high = settings.hue
    factors = [1 + spread * (2 * v - 1) for spread, v in zip(_spreads(settings), u[1:4], strict=True)]
    colour = (factors[0], factors[1], factors[2], low + (high - low) * u[4])
    most = [int(settings.translation * side) for side in (width, height)]
    shift = [int(v * 2 * m) - m for v, m in zip(u[7:9], most, strict=True)]
    geometry = (settings.rotation * (2 * u[6] - 1) * pi / 180, shift[0], shift[1])
    return Changes(colour if u[0] < settings.colour else None, geometry if u[5] < settings.geometry else None)


def augment(batch: ClipBatch, settings: Augmentation, seed: int) -> ClipBatch:
    """The batch with changes drawn for each clip, on its device; frames become float32 in [0, 1].

    A clip whose poke would leave the picture keeps its geometry.

    Args:
        seed: give another one in each epoch, such as `ClipLoader.epoch_seed`.
    """
    frames = batch.frames.float() / 255 if batch.frames.dtype == torch.uint8 else batch.frames.float()
    height, width = frames.shape[-2:]
    changes = [draw_changes(settings, seed, clip_id, height, width) for clip_id in batch.clip_ids]
    coloured = [row for row, change in enumerate(changes) if change.colour is not None]
    if coloured:
        factors = sent([changes[row].colour for row in coloured], frames.device)
        places = sent(coloured, frames.device, torch.long)
        frames = frames.index_copy(0, places, adjust_colour(frames[places], *factors.unbind(1)))
    changed = replace(batch, frames=frames)
    moved = [row for row, change in enumerate(changes) if change.geometry is not None]
    motions = [change.geometry for change in changes if change.geometry is not None]
    return _moved(changed, moved, motions, settings.rotate_vectors) if moved else changed


def training_batch(
    batch: ClipBatch, device: torch.device | str, rule: PokeRule, seed: int, context: int, settings: Augmentation | None
) -> ClipBatch:
    """A batch as training takes it: on the device, augmented, with pokes drawn from the flow as it is then; the frames
    after a background poke show x0.

    Frames are augmented on the device, flow, parts and pokes on the CPU, where pokes are drawn: nothing waits for the
    device.

    Args:
        batch: on the CPU, from a `ClipLoader` without a poke rule, with flow.
        seed: `ClipLoader.epoch_seed`.
        context: number of frames up to x0.
        settings: None: no augmentation; frames become float in [0, 1] all the same.

    Raises:
        DataError: the batch has no flow, or what the rule needs is missing.
    """
    if batch.flow is None:
        raise DataError("pokes are drawn from flow, and the batch has none; give the loader a flow source")
    settings = settings or Augmentation(colour=0, geometry=0)
    shown = augment(replace(batch, frames=batch.frames[:, context - 1 : context]), settings, seed)
    assert shown.flow is not None
    poke = draw_pokes(shown.flow, shown.frames[:, 0], shown.clip_ids, rule, seed, parts=shown.parts, true=shown.poke)
    known = replace(shown, frames=shown.frames[:, :0], poke=poke)
    if torch.device(device).type == "cuda":
        known = known.pin_memory()
    frames = batch.frames.to(device, non_blocking=True)
    frames = augment(replace(batch, frames=frames, flow=None, parts=None, tracks=None), settings, seed).frames
    return replace(known.to(device), frames=still_targets(frames, poke, context))


def adjust_colour(frames: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue, in this order.

    Args:
        frames: float `[B, T, 3, H, W]` in [0, 1].
        brightness, contrast, saturation: float `[B]`: factors, 1 leaves as it is.
        hue: float `[B]`: shift in turns of the colour circle.

    Returns:
        Float `[B, T, 3, H, W]` in [0, 1].
    """
    b, c, s, h = (value[:, None, None, None, None] for value in (brightness, contrast, saturation, hue))
    frames = (frames * b).clamp(0, 1)
    frames = (frames * c + _grey(frames).mean(dim=(-2, -1), keepdim=True) * (1 - c)).clamp(0, 1)
    frames = (frames * s + _grey(frames) * (1 - s)).clamp(0, 1)
    return _turned_hue(frames, h)


def sampling(angle: Tensor, shift: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Where each pixel comes from when a picture is turned about its centre by `angle`, then moved by `shift`.

    Args:
        angle: float `[B]`, radians, from x towards y.
        shift: float `[B, 2]`: (x, y), px.

    Returns:
        A grid `[B, H, W, 2]` for `grid_sample` with reflection and align_corners=True, and signs `[B, 2, H, W]`, -1
        where the picture is mirrored along x or y.
    """
    half = sent([(width - 1) / 2, (height - 1) / 2], shift.device, shift.dtype)
    rows = torch.arange(height, device=shift.device, dtype=shift.dtype)
    columns = torch.arange(width, device=shift.device, dtype=shift.dtype)
    x = (columns - half[0])[None, None, :] - shift[:, 0, None, None]
    y = (rows - half[1])[None, :, None] - shift[:, 1, None, None]
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
    source = torch.stack([c * x + s * y, c * y - s * x], dim=-1) / half
    signs = torch.where(source.abs() > 1 + 1e-6, -1.0, 1.0).to(source.dtype)
    return source, signs.permute(0, 3, 1, 2)


def _moved(batch: ClipBatch, rows: list[int], motions: list[tuple[float, int, int]], rotate_vectors: bool) -> ClipBatch:
    poke = batch.poke
    height, width = batch.frames.shape[-2:]
    if poke is not None:
        poke, kept = _moved_poke(poke, rows, motions, height, width)
        rows, motions = [rows[k] for k in kept], [motions[k] for k in kept]
    if not rows:
        return batch
    device, frames = batch.frames.device, batch.frames
    values, places = sent(motions, device), sent(rows, device, torch.long)
    grid, signs = sampling(values[:, 0], values[:, 1:], height, width)
    moved = _sampled(frames[places].flatten(1, 2), grid, "bilinear").unflatten(1, frames.shape[1:3])
    frames = frames.index_copy(0, places, moved)
    flow, parts = batch.flow, batch.parts
    if flow is not None:
        vectors = _sampled(flow[places], grid, "bilinear")
        vectors = _turned(vectors * signs, values[:, 0]) if rotate_vectors else vectors
        flow = flow.index_copy(0, places, vectors)
    if parts is not None:
        turned = _sampled(parts[places][:, None].float(), grid, "nearest")[:, 0].to(parts.dtype)
        parts = parts.index_copy(0, places, turned)
    tracks = batch.tracks
    if tracks is not None:
        points = _moved_points(tracks[places], values[:, 0], values[:, 1:], height, width)
        tracks = tracks.index_copy(0, places, points)
    return replace(batch, frames=frames, flow=flow, parts=parts, poke=poke, tracks=tracks)


def _moved_points(points: Tensor, angle: Tensor, shift: Tensor, height: int, width: int) -> Tensor:
    """Where the content at `points` `[B, k, T, 2]`, (x, y) in px, is after the motion; perhaps outside the picture."""
    centre = sent([(width - 1) / 2, (height - 1) / 2], points.device, points.dtype)
    turned = _turned((points - centre).movedim(-1, 1), angle).movedim(1, -1)
    return turned + centre + shift[:, None, None, :]


def _sampled(image: Tensor, grid: Tensor, mode: str) -> Tensor:
    return functional.grid_sample(image, grid, mode=mode, padding_mode="reflection", align_corners=True)


def _turned(vectors: Tensor, angle: Tensor) -> Tensor:
    """Vectors `[B, 2, ...]` turned by `angle` `[B]`."""
    shape = (-1,) + (1,) * (vectors.ndim - 2)
    c, s = angle.cos().view(shape), angle.sin().view(shape)
    return torch.stack([c * vectors[:, 0] - s * vectors[:, 1], s * vectors[:, 0] + c * vectors[:, 1]], dim=1)


def _moved_poke(
    poke: Poke, rows: list[int], motions: list[tuple[float, int, int]], height: int, width: int
) -> tuple[Poke, list[int]]:
    """The pokes after the motions of `rows`, at the nearest pixel, and which of `rows` keep their poke in the picture;
    the pokes of the others are as they were."""
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2])
    limit = torch.tensor([width - 1, height - 1])
    location, displacement, kept = poke.location.clone(), poke.displacement.clone(), []
    for k, (row, (angle, dx, dy)) in enumerate(zip(rows, motions, strict=True)):
        turn = torch.tensor([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]])
        place = (poke.location[row].cpu() - centre) @ turn.T + centre + torch.tensor([dx, dy])
        place = place.round()
        if bool(((place >= 0) & (place <= limit)).all()):
            kept.append(k)
            location[row] = place.to(location.device)
            displacement[row] = (poke.displacement[row].cpu() @ turn.T).to(location.device)
    return replace(poke, location=location, displacement=displacement), kept


def _spreads(settings: Augmentation) -> tuple[float, float, float]:
    return settings.brightness, settings.contrast, settings.saturation


def _grey(frames: Tensor) -> Tensor:
    red, green, blue = frames.unbind(dim=-3)
    return (GREY_WEIGHTS[0] * red + GREY_WEIGHTS[1] * green + GREY_WEIGHTS[2] * blue).unsqueeze(-3)


def _turned_hue(frames: Tensor, shift: Tensor) -> Tensor:
    """Frames `[..., 3, H, W]` with the hue of HSV moved by `shift` turns; saturation and value stay."""
    value, low = frames.amax(dim=-3, keepdim=True), frames.amin(dim=-3, keepdim=True)
    chroma = value - low
    red, green, blue = ((value - channel) / chroma.clamp_min(1e-12) for channel in frames.split(1, dim=-3))
    r, g, _ = (channel == value for channel in frames.split(1, dim=-3))
    sixths = torch.where(r, blue - green, torch.where(g, 2 + red - blue, 4 + green - red))
    turned = sixths + 6 * shift
    channels = []
    for offset in (5, 3, 1):
        k = (offset + turned) % 6
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.cat(channels, dim=-3)
