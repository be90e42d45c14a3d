"""A plain I3D to compare with: one module a layer, explicit padding, batch norm as such, contiguous tensors.

Written the way public PyTorch ports are, from the layer table of the network; nothing is folded, fused or
rearranged, so that it is easy to see that it is right.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MIXED = {
    "Mixed_3b": (192, 64, 96, 128, 16, 32, 32),
    "Mixed_3c": (256, 128, 128, 192, 32, 96, 64),
    "Mixed_4b": (480, 192, 96, 208, 16, 48, 64),
    "Mixed_4c": (512, 160, 112, 224, 24, 64, 64),
    "Mixed_4d": (512, 128, 128, 256, 24, 64, 64),
    "Mixed_4e": (512, 112, 144, 288, 32, 64, 64),
    "Mixed_4f": (528, 256, 160, 320, 32, 128, 128),
    "Mixed_5b": (832, 256, 160, 320, 32, 128, 128),
    "Mixed_5c": (832, 384, 192, 384, 48, 128, 128),
}
"""Channels in, then those of the six convolutions."""


def same_pad(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    """TensorFlow's SAME padding with zeros of the last three axes."""
    pads: list[int] = []
    for n, k, s in zip(reversed(x.shape[-3:]), reversed(kernel), reversed(stride), strict=True):
        total = max((-(-n // s) - 1) * s + k - n, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


class Unit(nn.Module):
    """Padding, convolution, batch norm without gamma, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        self.convolution = nn.Conv3d(inputs, outputs, kernel, stride, bias=False)
        self.norm = nn.BatchNorm3d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.convolution(same_pad(x, self.kernel, self.stride))))


class Pool(nn.Module):
    """Padding, max pooling."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.pool = nn.MaxPool3d(kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(same_pad(x, self.kernel, self.stride))


class Mixed(nn.Module):
    """Four branches side by side."""

    def __init__(self, inputs: int, a: int, b: int, c: int, d: int, e: int, f: int) -> None:
        super().__init__()
        self.branch_0 = Unit(inputs, a, 1)
        self.branch_1 = nn.Sequential(Unit(inputs, b, 1), Unit(b, c, 3))
        self.branch_2 = nn.Sequential(Unit(inputs, d, 1), Unit(d, e, 3))
        self.branch_3 = nn.Sequential(Pool((3, 3, 3), (1, 1, 1)), Unit(inputs, f, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch_0(x), self.branch_1(x), self.branch_2(x), self.branch_3(x)], dim=1)


class PlainI3D(nn.Module):
    """[B, 3, T, 224, 224] in [-1, 1] -> logits [B, 400], in the type of the weights."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {
                "Conv3d_1a_7x7": Unit(3, 64, 7, 2),
                "MaxPool3d_2a_3x3": Pool((1, 3, 3), (1, 2, 2)),
                "Conv3d_2b_1x1": Unit(64, 64, 1),
                "Conv3d_2c_3x3": Unit(64, 192, 3),
                "MaxPool3d_3a_3x3": Pool((1, 3, 3), (1, 2, 2)),
                "Mixed_3b": Mixed(*MIXED["Mixed_3b"]),
                "Mixed_3c": Mixed(*MIXED["Mixed_3c"]),
                "MaxPool3d_4a_3x3": Pool((3, 3, 3), (2, 2, 2)),
                **{name: Mixed(*MIXED[name]) for name in MIXED if name.startswith("Mixed_4")},
                "MaxPool3d_5a_2x2": Pool((2, 2, 2), (2, 2, 2)),
                **{name: Mixed(*MIXED[name]) for name in MIXED if name.startswith("Mixed_5")},
            }
        )
        self.average = nn.AvgPool3d((2, 7, 7), stride=1)
        self.logits = nn.Conv3d(1024, 400, 1)
        self._load(tensors)
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers.values():
            x = layer(x)
        return self.logits(self.average(x)).squeeze((3, 4)).mean(2)

    def _load(self, tensors: dict[str, Tensor]) -> None:
        loaded = 0
        for name, layer in self.layers.items():
            if isinstance(layer, Unit):
                units = {name: layer}
            elif isinstance(layer, Mixed):
                units = {
                    f"{name}.Branch_0.Conv3d_0a_1x1": layer.branch_0,
                    f"{name}.Branch_1.Conv3d_0a_1x1": layer.branch_1[0],
                    f"{name}.Branch_1.Conv3d_0b_3x3": layer.branch_1[1],
                    f"{name}.Branch_2.Conv3d_0a_1x1": layer.branch_2[0],
                    f"{name}.Branch_2.Conv3d_0b_3x3": layer.branch_2[1],
                    f"{name}.Branch_3.Conv3d_0b_1x1": layer.branch_3[1],
                }
            else:
                continue
            for key, unit in units.items():
                unit.convolution.weight.data = tensors[f"{key}.weight"].clone()
                unit.norm.bias.data = tensors[f"{key}.beta"].clone()
                unit.norm.running_mean.data = tensors[f"{key}.mean"].clone()
                unit.norm.running_var.data = tensors[f"{key}.var"].clone()
                loaded += 4
        self.logits.weight.data = tensors["Logits.weight"].clone()
        self.logits.bias.data = tensors["Logits.bias"].clone()
        assert loaded + 2 == len(tensors), "every tensor is used"
