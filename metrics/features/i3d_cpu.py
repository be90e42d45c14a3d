"""The I3D network arranged for a CPU: few clips at a time, rows first, 3 x 3 x 3 convolutions by short transforms.

Equal to `metrics.features.i3d.I3D` to float32 rounding. Clips are kept as `[H, N, T, W, C]`. One clip at a time
goes through the large early layers, so that what passes between layers stays in the processor's cache and no
layer has to touch fresh memory; a few go together through the small late layers, whose weights outweigh them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.features.i3d_layers import EARLY, LATE, MIXED_POOL, POOLS, Folded, Pool, merged, same_padding, tail
from metrics.features.winograd import RowConv, channels_last, conv2d
from metrics.threads import split_by_clip

LATE_CLIPS = 4
"""Clips that go through the late layers at a time."""

_AXES = (2, 0, 3)
"""Where time, height and width are in `[H, N, T, W, C]`."""


class I3DForCPU(nn.Module):
    """Video `[B, T, 3, 224, 224]` in [0, 1] -> logits `[B, 400]`, float32; B clips on as many threads.

    Args:
        folded: weights and biases with batch norm folded in.
    """

    def __init__(self, folded: Folded) -> None:
        super().__init__()
        self.first = FirstConv(*folded["Conv3d_1a_7x7"])
        self.second = PointConv(*folded["Conv3d_2b_1x1"])
        self.third = RowConv(*folded["Conv3d_2c_3x3"])
        self.mixed = nn.ModuleDict({name: Mixed(name, folded) for name in (*EARLY, *LATE)})
        weight, bias = folded["Logits"]
        self.register_buffer("weight", weight.flatten(1).float(), persistent=False)
        self.register_buffer("bias", bias.float(), persistent=False)

    def forward(self, video: Tensor) -> Tensor:
        return split_by_clip(self._clips, video)

    def _clips(self, video: Tensor) -> Tensor:
        return torch.cat([self._late([self._early(clip) for clip in group]) for group in video.split(LATE_CLIPS)])

    def _early(self, clip: Tensor) -> Tensor:
        x = max_pool(self.first(clip), POOLS["Conv3d_1a_7x7"]).relu_()
        x = row_conv(self.third, self.second(x)).relu_()
        x = max_pool(x, POOLS["Conv3d_2c_3x3"])
        for name in EARLY:
            x = self.mixed[name](x)
        return max_pool(x, POOLS[EARLY[-1]])

    def _late(self, clips: list[Tensor]) -> Tensor:
        x = torch.cat(clips, dim=1)
        for name in LATE:
            x = self.mixed[name](x)
            x = max_pool(x, POOLS[name]) if name in POOLS else x
        return tail(x.mean((0, 3)), self.get_buffer("weight"), self.get_buffer("bias"))


class FirstConv(nn.Module):
    """The 7 x 7 x 7 convolution of stride 2, without its ReLU: `[T, 3, 224, 224]` -> `[112, 1, T', 112, 64]`.

    Even and odd rows become channels of one image of half the height. On it the 7 taps in height are 4 taps of
    stride 1, which is what `RowConv` takes.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        taps = F.pad(weight, (0, 0, 0, 1)).unflatten(3, (4, 2))  # [O, C, t, 4, parity, w]
        # `forward` keeps the video as v - 1/2, half of the 2 v - 1 that the network takes.
        self.conv = RowConv(2 * taps.movedim(4, 1).flatten(1, 2), bias, stride=(2, 2))

    def forward(self, clip: Tensor) -> Tensor:
        frames, channels, height, width = clip.shape
        half = height // 2
        front, back = same_padding(frames, 7, 2)
        left, right = same_padding(width, 7, 2)
        # The convolution pads both sides alike; what SAME padding has more at the end is part of the image.
        x = clip.new_zeros(self.conv.rows(half), 1, frames + back - front, width + right - left, 2 * channels)
        inside = x[1 : half + 1, 0, :frames, :width]
        for parity in range(2):
            for channel in range(channels):
                rows = clip[:, channel, parity::2].transpose(0, 1)
                torch.sub(rows, 0.5, out=inside[..., parity * channels + channel])
        out = clip.new_empty(half, 1, -(-frames // 2), -(-width // 2), self.conv.channels)
        return self.conv(x, out, padding=(front, left))


class PointConv(nn.Module):
    """A 1 x 1 x 1 convolution of `[H, N, T, W, C]`."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.channels = len(bias)
        self.register_buffer("weight", channels_last(weight[..., 0]), persistent=False)
        self.register_buffer("bias", bias.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.get_buffer("weight"), self.get_buffer("bias"))


class Mixed(nn.Module):
    """One Inception block. Its three 1 x 1 x 1 convolutions of the input are one; branches write side by side."""

    def __init__(self, name: str, folded: Folded) -> None:
        super().__init__()
        entries = [folded[f"{name}.Branch_{branch}.Conv3d_0a_1x1"] for branch in range(3)]
        self.inner = [len(bias) for _, bias in entries]
        self.entry = PointConv(*merged(entries))
        self.branch_1 = RowConv(*folded[f"{name}.Branch_1.Conv3d_0b_3x3"])
        self.branch_2 = RowConv(*folded[f"{name}.Branch_2.Conv3d_0b_3x3"])
        self.branch_3 = PointConv(*folded[f"{name}.Branch_3.Conv3d_0b_1x1"])
        self.outer = [self.inner[0], self.branch_1.channels, self.branch_2.channels, self.branch_3.channels]

    def forward(self, x: Tensor) -> Tensor:
        inner = self.entry(x).split(self.inner, dim=-1)
        out = x.new_empty(*x.shape[:-1], sum(self.outer))
        parts = out.split(self.outer, dim=-1)
        parts[0].copy_(inner[0])
        row_conv(self.branch_1, inner[1], parts[1])
        row_conv(self.branch_2, inner[2], parts[2])
        parts[3].copy_(self.branch_3(max_pool(x, MIXED_POOL)))
        return out.relu_()


def row_conv(conv: RowConv, x: Tensor, out: Tensor | None = None) -> Tensor:
    """`conv` of the ReLU of `x`, with SAME padding, into `out`."""
    height = len(x)
    padded = x.new_empty(conv.rows(height), *x.shape[1:])
    padded[0].zero_()
    padded[height + 1 :].zero_()
    torch.clamp_min(x, 0, out=padded[1 : height + 1])
    return conv(padded, x.new_empty(*x.shape[:-1], conv.channels) if out is None else out)


def max_pool(x: Tensor, pool: Pool) -> Tensor:
    """Max pooling of `[H, N, T, W, C]` with SAME padding, one axis after the other."""
    for axis, size, stride in zip(_AXES, pool.size, pool.stride, strict=True):
        x = _max_along(x, axis, size, stride) if size > 1 else x
    return x


def _max_along(x: Tensor, axis: int, size: int, stride: int) -> Tensor:
    """Largest of `size` neighbours, every `stride` places; neighbours beyond the ends do not count."""
    n = x.shape[axis]
    places = -(-n // stride)
    before, _ = same_padding(n, size, stride)
    out = _every(x, axis, 0, places, stride).clone()
    for offset in (offset for offset in range(-before, size - before) if offset):
        first = max(0, -(offset // stride))  # the places whose neighbour lies inside: from this one to the last
        last = min(places - 1, (n - 1 - offset) // stride)
        if first <= last:
            part = out.narrow(axis, first, last - first + 1)
            torch.maximum(part, _every(x, axis, first * stride + offset, last - first + 1, stride), out=part)
    return out


def _every(x: Tensor, axis: int, first: int, count: int, stride: int) -> Tensor:
    """`count` entries of `x` along `axis`, from `first` on in steps of `stride`."""
    within = x.narrow(axis, first, (count - 1) * stride + 1)
    return within[(slice(None),) * axis + (slice(None, None, stride),)]
