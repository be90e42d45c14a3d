"""The layers of I3D arranged for a GPU: channels last throughout, wide copies, ReLUs inside the products before them.

Clips are contiguous `[B, T, H, W, C]`: images, clips in cuDNN's layout and the rows of a matrix product are views of
that. All of it runs on a CPU as well.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.features.i3d_layers import Pool, same_padding

Layer = tuple[Tensor, Tensor]
"""Weight `[O, C, t, h, w]` and bias `[O]`."""

_WIDE = {4: torch.int32, 8: torch.int64, 16: torch.complex128}
"""Types of so many bytes, to move other numbers in."""

_FUSED: dict[tuple[object, ...], bool] = {}
"""Whether cuDNN's convolution with a ReLU is sound, by device and shapes."""


class FirstConv(nn.Module):
    """The 7 x 7 x 7 convolution of stride 2, then ReLU: video `[B, T, 3, H, W]` in [0, 1] -> `[B, T', H', W', 64]`.

    It is a convolution of images. Blocks of 2 x 2 pixels become channels, so that 7 taps of stride 2 are 4 of stride
    1; and so do the frames that an output frame sees, 7 and one of weight 0, so that none of them is a tap.
    """

    def __init__(self, layer: Layer, dtype: torch.dtype) -> None:
        super().__init__()
        weight, bias = layer
        taps = F.pad(weight, (0, 1, 0, 1, 0, 1)).unflatten(4, (4, 2)).unflatten(3, (4, 2))  # [O, C, t, h, y, w, x]
        # `blocks` holds v - 1/2, half of the 2 v - 1 that the network takes.
        kernel = 2 * taps.permute(0, 2, 1, 4, 6, 3, 5).flatten(1, 4)
        self.register_buffer("weight", kernel.to(dtype).contiguous(memory_format=torch.channels_last), persistent=False)
        self.register_buffer("bias", bias.to(dtype), persistent=False)

    def forward(self, video: Tensor) -> Tensor:
        weight = self.get_buffer("weight")
        seen = windows(blocks(video, weight.dtype))
        out = conv_relu(seen.flatten(0, 1).permute(0, 3, 1, 2), weight, self.get_buffer("bias"))
        return out.permute(0, 2, 3, 1).contiguous().unflatten(0, seen.shape[:2])


def blocks(video: Tensor, dtype: torch.dtype) -> Tensor:
    """Blocks of 2 x 2 pixels of `[B, T, C, H, W]`, less 1/2, with zeros around as SAME padding of 7 taps has them.

    Returns:
        Contiguous `[B, h, w, t, C, 2, 2]` of type `dtype`. Each of t, h and w is what 4 taps of stride 1 need, of
        blocks (in time, of pairs of frames).
    """
    batch, frames, channels, *sides = video.shape
    front, top, left = (same_padding(n, 7, 2)[0] for n in (frames, *sides))
    pixels = torch.sub(video, 0.5, out=video.new_empty(video.shape, dtype=dtype))
    edges = (left % 2, (left + sides[1]) % 2, top % 2, (top + sides[0]) % 2)
    if any(edges):
        pixels = F.pad(pixels, edges)  # to whole blocks
    pairs = packed(pixels, 2).unflatten(3, (-1, 2))  # [B, T, C, h, y, w]
    shape = [-(-n // 2) + 3 for n in (*sides, frames)]
    out = pixels.new_zeros(batch, *shape[:2], 2 * shape[2], channels, 2, 2)
    inside = packed(out, 2).squeeze(-1).permute(0, 3, 4, 1, 5, 2)[:, front : front + frames]
    inside = inside[:, :, :, top // 2 : top // 2 + pairs.shape[3], :, left // 2 : left // 2 + pairs.shape[5]]
    inside.copy_(pairs)
    return out


def windows(x: Tensor) -> Tensor:
    """The 8 frames that each output frame sees, side by side: `[B, h, w, t, C, 2, 2]` -> `[B, t / 2 - 3, h, w, 32 C]`.

    They begin at every second frame.
    """
    rows = packed(x.flatten(3), 16 // x.element_size())
    step = 2 * rows.shape[3] // x.shape[3]
    return rows.unfold(3, 4 * step, step).permute(0, 3, 1, 2, 4).contiguous().view(x.dtype)


class PointConv(nn.Module):
    """A 1 x 1 x 1 convolution of `[B, T, H, W, C]`, then ReLU."""

    def __init__(self, layer: Layer, dtype: torch.dtype) -> None:
        super().__init__()
        weight, bias = layer
        self.register_buffer("weight", weight.flatten(1).to(dtype), persistent=False)
        self.register_buffer("bias", bias.to(dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return linear_relu(x, self.get_buffer("weight"), self.get_buffer("bias"))


class Conv(nn.Module):
    """A 3 x 3 x 3 convolution of `[B, T, H, W, C]` with SAME padding, then ReLU."""

    def __init__(self, layer: Layer, dtype: torch.dtype) -> None:
        super().__init__()
        weight, bias = layer
        kernel = weight.to(dtype).contiguous(memory_format=torch.channels_last_3d)
        self.register_buffer("weight", kernel, persistent=False)
        self.register_buffer("bias", bias.to(dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        out = conv_relu(x.permute(0, 4, 1, 2, 3), self.get_buffer("weight"), self.get_buffer("bias"), padding=1)
        return out.permute(0, 2, 3, 4, 1).contiguous()


def linear_relu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """ReLU of a linear layer of `[..., C]`, in one kernel on a GPU."""
    rows = x.flatten(0, -2)
    if hasattr(torch, "_addmm_activation"):
        out = torch._addmm_activation(bias, rows, weight.t())
    else:
        out = F.linear(rows, weight, bias).relu_()
    return out.unflatten(0, x.shape[:-1])


def conv_relu(x: Tensor, weight: Tensor, bias: Tensor, padding: int = 0) -> Tensor:
    """ReLU of a convolution of `[N, C, *sides]` of stride 1, in one kernel on a GPU in half precision."""
    if x.is_cuda and x.dtype == torch.float16 and fused_is_sound(x, weight, bias, padding):
        return _fused_conv_relu(x, weight, bias, padding)
    return _plain_conv_relu(x, weight, bias, padding)


def fused_is_sound(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> bool:
    """Whether cuDNN has the convolution with its ReLU, and right; tried once for a device and shapes.

    PyTorch passes the result's memory, not written yet, as a summand of weight 0. An engine that read it would make
    NaN of what lies there, so the trial leaves NaN there.
    """
    key = (x.device, x.dtype, x.shape, weight.shape)
    if key not in _FUSED:
        plain = _plain_conv_relu(x, weight, bias, padding)
        torch.full_like(plain, torch.nan)  # freed at once: the memory that the trial gets
        try:
            difference = _fused_conv_relu(x, weight, bias, padding) - plain
        except RuntimeError:
            _FUSED[key] = False
        else:
            error, scale = (torch.linalg.vector_norm(part, dtype=torch.float32) for part in (difference, plain))
            _FUSED[key] = bool(error <= 0.01 * scale)
    return _FUSED[key]


def _fused_conv_relu(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
    axes = x.ndim - 2
    return torch.cudnn_convolution_relu(x, weight, bias, [1] * axes, [padding] * axes, [1] * axes, 1)


def _plain_conv_relu(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
    convolve = F.conv2d if x.ndim == 4 else F.conv3d
    return convolve(x, weight, bias, padding=padding).relu_()


def side_by_side(parts: list[Tensor]) -> Tensor:
    """Contiguous `[..., C_i]` as one `[..., sum of C_i]`; 16 bytes of each C_i are a whole number of entries."""
    rows = [packed(part.flatten(0, -2), 16 // part.element_size()) for part in parts]
    return torch.cat(rows, dim=1).view(parts[0].dtype).unflatten(0, parts[0].shape[:-1])


def packed(x: Tensor, count: int) -> Tensor:
    """A view of `x` in which `count` neighbours along the last axis are one number, whose copies are faster."""
    return x.view(_WIDE[count * x.element_size()])


def max_pool(x: Tensor, pool: Pool) -> Tensor:
    """Max pooling of `[B, T, H, W, C]` with SAME padding; places beyond the ends do not count."""
    (size, *sizes), (stride, *strides) = pool.size, pool.stride
    before = [same_padding(n, k, s)[0] for n, k, s in zip(x.shape[2:4], sizes, strides, strict=True)]
    images = x.flatten(0, 1).permute(0, 3, 1, 2)
    pooled = F.max_pool2d(images, sizes, strides, before, ceil_mode=True)  # for the place more at the end
    x = pooled.permute(0, 2, 3, 1).contiguous().unflatten(0, x.shape[:2])
    return x if size == stride == 1 else _max_over_time(x, size, stride)


def _max_over_time(x: Tensor, size: int, stride: int) -> Tensor:
    frames = x.shape[1]
    before, _ = same_padding(frames, size, stride)
    out = x.new_empty(len(x), -(-frames // stride), *x.shape[2:])
    for place, start in enumerate(range(-before, frames - before, stride)):
        first, *others = range(max(start, 0), min(start + size, frames))
        largest = out[:, place]
        torch.maximum(x[:, first], x[:, others[0] if others else first], out=largest)
        for frame in others[1:]:
            torch.maximum(largest, x[:, frame], out=largest)
    return out
