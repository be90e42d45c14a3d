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
from metrics.features.i3d_gpu import Conv, FirstConv, Layer, PointConv, max_pool, side_by_side
from metrics.features.i3d_layers import EARLY, LATE, MIXED_POOL, POOLS, Folded, fold, tail
from metrics.resize import Rule, resize_video
from metrics.video import check_video
from metrics.weights import weights

MIN_FRAMES = 9
"""Fewer frames leave one time step, and the last layer averages two."""

SIZE = 224
"""Side in px that the network takes."""

MODES = ("exact", "fast")

PASS_FRAMES = 1280
"""Frames that go through the network for GPUs at a time: no layer comes near the 2^31 numbers that kernels count to."""

HALF_CHANNELS = 32
"""Channels between two layers of a branch are a multiple of this in half precision.

The first convolution took 1.7 times as long with 24 channels as with 32 on an H100.
"""


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
        half: whether all but the spatial mean and the classifier computes in float16.
    """

    def __init__(self, folded: Folded, half: bool = False) -> None:
        super().__init__()
        dtype = torch.float16 if half else torch.float32
        self.first = FirstConv(folded["Conv3d_1a_7x7"], dtype)
        self.second = PointConv(folded["Conv3d_2b_1x1"], dtype)
        self.third = Conv(folded["Conv3d_2c_3x3"], dtype)
        self.mixed = nn.ModuleDict({name: Mixed(name, folded, dtype) for name in (*EARLY, *LATE)})
        weight, bias = folded["Logits"]
        self.register_buffer("weight", weight.flatten(1).float(), persistent=False)
        self.register_buffer("bias", bias.float(), persistent=False)

    def forward(self, video: Tensor) -> Tensor:
        clips = max(1, PASS_FRAMES // video.shape[1])
        return torch.cat([self._clips(part) for part in video.split(clips)])

    def _clips(self, video: Tensor) -> Tensor:
        x = max_pool(self.first(video), POOLS["Conv3d_1a_7x7"])
        x = max_pool(self.third(self.second(x)), POOLS["Conv3d_2c_3x3"])
        for name, block in self.mixed.items():
            x = block(x)
            x = max_pool(x, POOLS[name]) if name in POOLS else x
        return tail(x.mean((2, 3), dtype=torch.float32), self.get_buffer("weight"), self.get_buffer("bias"))


class Mixed(nn.Module):
    """One Inception block; each 1 x 1 x 1 convolution is a product of its own, whose result needs no copy."""

    def __init__(self, name: str, folded: Folded, dtype: torch.dtype) -> None:
        super().__init__()
        self.branch_0 = PointConv(folded[f"{name}.Branch_0.Conv3d_0a_1x1"], dtype)
        self.branch_1 = _inner(f"{name}.Branch_1", folded, dtype)
        self.branch_2 = _inner(f"{name}.Branch_2", folded, dtype)
        self.branch_3 = PointConv(folded[f"{name}.Branch_3.Conv3d_0b_1x1"], dtype)

    def forward(self, x: Tensor) -> Tensor:
        pooled = max_pool(x, MIXED_POOL)
        return side_by_side([self.branch_0(x), self.branch_1(x), self.branch_2(x), self.branch_3(pooled)])


def _inner(branch: str, folded: Folded, dtype: torch.dtype) -> nn.Sequential:
    """The two layers of an inner branch."""
    point, cube = folded[f"{branch}.Conv3d_0a_1x1"], folded[f"{branch}.Conv3d_0b_3x3"]
    if dtype == torch.float16:
        point, cube = widened(point, cube, HALF_CHANNELS)
    return nn.Sequential(PointConv(point, dtype), Conv(cube, dtype))


def widened(first: Layer, second: Layer, multiple: int) -> tuple[Layer, Layer]:
    """Two layers in a row with channels of zeros between them, so that their number is a multiple of `multiple`."""
    extra = -len(first[1]) % multiple
    more_outputs = (F.pad(first[0], (0,) * 9 + (extra,)), F.pad(first[1], (0, extra)))
    more_inputs = (F.pad(second[0], (0,) * 7 + (extra,)), second[1])
    return more_outputs, more_inputs
