"""The I3D network of the original FVD: Inception-v1 inflated to 3-D, RGB, 400 Kinetics logits.

J. Carreira, A. Zisserman: Quo vadis, action recognition? A new model and the Kinetics dataset, arXiv:1705.07750.
The same as the TF-Hub module deepmind/i3d-kinetics-400/1 up to float32 rounding.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.errors import VideoError
from metrics.features.exact import exact_float32
from metrics.features.i3d_cpu import I3DForCPU
from metrics.features.i3d_layers import EARLY, LATE, MIXED_POOL, POOLS, Folded, Pool, fold, merged, same_padding, tail
from metrics.resize import Rule, resize_video
from metrics.video import check_video
from metrics.weights import weights

MIN_FRAMES = 9
"""Fewer frames leave one time step, and the last layer averages two."""

SIZE = 224
"""Side in px that the network takes."""

MODES = ("exact", "fast")


def i3d_logits(
    video: Tensor,
    *,
    mode: str = "exact",
    resize: Rule = "tf1",
    batch_size: int = 8,
    weights_folder: Path | str | None = None,
) -> Tensor:
    """Kinetics-400 logits averaged over time, before any softmax: the features of FVD and KVD.

    Frames are resized straight to 224 x 224 px, whatever their aspect ratio, and mapped to [-1, 1].

    Args:
        video: float `[B, T, 3, H, W]`, RGB, in [0, 1], T at least 9. The network runs on its device.
        mode: "exact": float32 throughout, TF32 off; within 2e-4 of the original graph, 1e-5 in relative L2 norm.
            "fast": half precision with a float32 tail, on a GPU alone; about 2e-3 in relative L2 norm. Never
            compare values of different modes.
        resize: how frames are resized, see `resize_video`; the original FVD uses "tf1".
        batch_size: clips in one pass. It bounds memory and does not move results beyond float32 rounding.
        weights_folder: looked into first for the weight file, see `metrics.weights.weights`.

    Returns:
        float32 `[B, 400]` on the video's device, without gradient.

    Raises:
        VideoError: as `check_video`; T below 9; an unknown mode or resize rule; "fast" without a GPU.
        WeightsError: as `metrics.weights.weights`.
    """
    check_video(video, min_frames=MIN_FRAMES)
    if batch_size < 1:
        raise VideoError(f"batch_size: expected at least 1, found {batch_size}")
    network = _network(video.device, mode, weights_folder)
    with exact_float32(video.device):
        return torch.cat([network(resize_video(part.float(), SIZE, resize)) for part in video.split(batch_size)])


_NETWORKS: dict[tuple[str, str], nn.Module] = {}


def _network(device: torch.device, mode: str, weights_folder: Path | str | None) -> nn.Module:
    """The network for a device and mode, built once in a process."""
    if mode not in MODES:
        raise VideoError(f"I3D mode: expected one of {', '.join(MODES)}, found {mode!r}")
    if mode == "fast" and device.type != "cuda":
        raise VideoError(f'I3D mode "fast" is half precision on a GPU; the video is on {device}. Use mode="exact".')
    key = (str(device), mode)
    if key not in _NETWORKS:
        folded = fold(weights("i3d-kinetics-400", weights_folder))
        built = I3DForCPU(folded) if device.type == "cpu" else I3D(folded, half=mode == "fast").to(device)
        _NETWORKS[key] = built.eval()
    return _NETWORKS[key]


class I3D(nn.Module):
    """Video `[B, T, 3, 224, 224]` in [0, 1] -> logits `[B, 400]`, float32. For GPUs; `I3DForCPU` is for CPUs.

    Args:
        folded: weights and biases with batch norm folded in.
        half: whether all but the classifier computes in float16.
    """

    def __init__(self, folded: Folded, half: bool = False) -> None:
        super().__init__()
        self.dtype = torch.float16 if half else torch.float32
        self.first = Conv(*folded["Conv3d_1a_7x7"], self.dtype, stride=2)
        self.second = Conv(*folded["Conv3d_2b_1x1"], self.dtype)
        self.third = Conv(*folded["Conv3d_2c_3x3"], self.dtype)
        self.mixed = nn.ModuleDict({name: Mixed(name, folded, self.dtype) for name in (*EARLY, *LATE)})
        weight, bias = folded["Logits"]
        self.register_buffer("weight", weight.flatten(1).float(), persistent=False)
        self.register_buffer("bias", bias.float(), persistent=False)

    def forward(self, video: Tensor) -> Tensor:
        x = (2 * video - 1).to(self.dtype).transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)
        x = max_pool(self.first(x), POOLS["Conv3d_1a_7x7"])
        x = max_pool(self.third(self.second(x)), POOLS["Conv3d_2c_3x3"])
        for name, block in self.mixed.items():
            x = block(x)
            x = max_pool(x, POOLS[name]) if name in POOLS else x
        mean = x.mean((3, 4), dtype=torch.float32).transpose(1, 2)
        return tail(mean, self.get_buffer("weight"), self.get_buffer("bias"))


class Conv(nn.Module):
    """Convolution of `[B, C, T, H, W]` with SAME padding, then ReLU."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, stride: int = 1) -> None:
        super().__init__()
        kernel = weight.to(dtype).contiguous(memory_format=torch.channels_last_3d)
        self.stride = stride
        self.register_buffer("weight", kernel, persistent=False)
        self.register_buffer("bias", bias.to(dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.get_buffer("weight")
        sides = [same_padding(n, k, self.stride) for n, k in zip(x.shape[2:], weight.shape[2:], strict=True)]
        if all(before == after for before, after in sides):
            return F.conv3d(x, weight, self.get_buffer("bias"), self.stride, [before for before, _ in sides]).relu_()
        x = F.pad(x, [places for side in reversed(sides) for places in side])
        return F.conv3d(x, weight, self.get_buffer("bias"), self.stride).relu_()


class Mixed(nn.Module):
    """One Inception block; its three 1 x 1 x 1 convolutions of the input are one."""

    def __init__(self, name: str, folded: Folded, dtype: torch.dtype) -> None:
        super().__init__()
        entries = [folded[f"{name}.Branch_{branch}.Conv3d_0a_1x1"] for branch in range(3)]
        self.inner = [len(bias) for _, bias in entries]
        self.entry = Conv(*merged(entries), dtype)
        self.branch_1 = Conv(*folded[f"{name}.Branch_1.Conv3d_0b_3x3"], dtype)
        self.branch_2 = Conv(*folded[f"{name}.Branch_2.Conv3d_0b_3x3"], dtype)
        self.branch_3 = Conv(*folded[f"{name}.Branch_3.Conv3d_0b_1x1"], dtype)

    def forward(self, x: Tensor) -> Tensor:
        direct, first, second = self.entry(x).split(self.inner, dim=1)
        return torch.cat(
            [direct, self.branch_1(first), self.branch_2(second), self.branch_3(max_pool(x, MIXED_POOL))], dim=1
        )


def max_pool(x: Tensor, pool: Pool) -> Tensor:
    """Max pooling of `[B, C, T, H, W]` with SAME padding.

    Where the padding is one place more at the end than before, `ceil_mode` adds that place.
    """
    before = [same_padding(n, k, s)[0] for n, k, s in zip(x.shape[2:], pool.size, pool.stride, strict=True)]
    return F.max_pool3d(x, pool.size, pool.stride, before, ceil_mode=True)
