"""The two discriminators (section 3.2 of the paper; architecture of the released program).

Both return their scores and the feature maps that matching compares. Parameter names are those of the authors'
checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.convolution3d import convolve3d
from methods.poking.twice import EPSILON, group_norm

NORM_GROUPS = 16
TINY = 1e-12


class PatchDiscriminator(nn.Module):
    """Single frames `[N, 3, H, W]` in [-1, 1] -> scores of overlapping patches, `[N, 1, H / 8 - 2, W / 8 - 2]`."""

    def __init__(self) -> None:
        super().__init__()
        self.in_conv = nn.Conv2d(3, 64, 4, 2, 1)
        self.layers = nn.ModuleList(
            [nn.Conv2d(64, 128, 4, 2, 1), nn.Conv2d(128, 256, 4, 2, 1), nn.Conv2d(256, 512, 4, 1, 1)]
        )
        self.out_conv = nn.Conv2d(512, 1, 4, 1, 1)

    def forward(self, frames: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = F.leaky_relu(self.in_conv(frames), 0.2, inplace=True)
        maps = []
        for layer in self.layers:
            x = layer(x)
            x = F.leaky_relu(group_norm(x, x.shape[1]), 0.2, inplace=True)
            maps.append(x)
        return self.out_conv(x), maps


class SpectralConv3d(nn.Module):
    """A 3-D convolution without bias whose weight is divided by an estimate of its largest singular value.

    The estimate is u^T W v, W `[outputs, inputs * volume]`. Unlike PyTorch's hook, a forward pass leaves u and v as
    they are: `advance` moves them, so that the number of forward passes in a step does not matter. What passes share,
    `sigma`, can be computed once and given to each.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int, int] = (3, 3, 3),
        stride: tuple[int, int, int] = (1, 1, 1),
        padding: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight_orig = nn.Parameter(nn.init.orthogonal_(torch.empty(outputs, inputs, *kernel)))
        flat = self.weight_orig[0].numel()
        self.register_buffer("weight_u", F.normalize(torch.randn(outputs), dim=0, eps=TINY))
        self.register_buffer("weight_v", F.normalize(torch.randn(flat), dim=0, eps=TINY))
        self.shared: Tensor | None = None

    @torch.no_grad()
    def advance(self) -> None:
        """One power iteration, in full precision."""
        matrix = self.weight_orig.flatten(1)
        with torch.autocast(matrix.device.type, enabled=False):
            v = F.normalize(matrix.mT @ self.get_buffer("weight_u"), dim=0, eps=TINY)
            self.get_buffer("weight_v").copy_(v)
            self.get_buffer("weight_u").copy_(F.normalize(matrix @ v, dim=0, eps=TINY))

    def sigma(self) -> Tensor:
        """The estimate, a scalar, in full precision, with its graph."""
        with torch.autocast(self.weight_orig.device.type, enabled=False):
            return self.get_buffer("weight_u") @ (self.weight_orig.flatten(1) @ self.get_buffer("weight_v"))

    def forward(self, x: Tensor) -> Tensor:
        sigma = self.sigma() if self.shared is None else self.shared
        # Dividing the outcome costs less than dividing the weight: deep layers have few positions and many weights.
        return convolve3d(x, self.weight_orig, None, self.stride, self.padding) / sigma


class Norm(nn.GroupNorm):
    """Group normalisation that gradient penalties are differentiated through."""

    def __init__(self, channels: int) -> None:
        super().__init__(NORM_GROUPS, channels, EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return group_norm(x, self.num_groups, self.weight, self.bias)


class Block3d(nn.Module):
    """conv, norm, ReLU, conv, norm, plus a shortcut, ReLU. The first convolution has the stride."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int, int] = (1, 1, 1)) -> None:
        super().__init__()
        self.conv1 = SpectralConv3d(inputs, outputs, stride=stride)
        self.bn1 = Norm(outputs)
        self.conv2 = SpectralConv3d(outputs, outputs)
        self.bn2 = Norm(outputs)
        self.downsample = None
        if inputs != outputs or stride != (1, 1, 1):
            self.downsample = nn.Sequential(SpectralConv3d(inputs, outputs, stride=stride), Norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(x)) + shortcut, inplace=True)


class TemporalDiscriminator(nn.Module):
    """Clips `[B, 3, T, H, W]` in [-1, 1] -> scores `[B, 1, H / 16, W / 16]`: a 3-D ResNet that halves T until it is 1.

    Args:
        horizon: T; other lengths that are halved as often, rounded up, fit too.
    """

    WIDTHS = (128, 256)
    """Of the first two stages after `layer1`; the last one goes on."""

    def __init__(self, horizon: int) -> None:
        super().__init__()
        self.conv1 = SpectralConv3d(3, 64, (3, 7, 7), (1, 2, 2), (1, 3, 3))
        self.gn1 = Norm(64)
        self.layer1 = nn.Sequential(Block3d(64, 32), Block3d(32, 32))
        stages, width = [], 32
        for index in range((horizon - 1).bit_length()):
            side = 2 if index < len(self.WIDTHS) else 1
            wider = self.WIDTHS[min(index, len(self.WIDTHS) - 1)]
            stages.append(nn.Sequential(Block3d(width, wider, (2, side, side)), Block3d(wider, wider)))
            width = wider
        self.layers = nn.ModuleList(stages)
        self.final = nn.Conv2d(width, 1, 3, padding=1)

    def advance(self, count: int = 1) -> None:
        """Power iterations of all spectral norms."""
        for module in self._spectral():
            for _ in range(count):
                module.advance()

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """Forward passes within, of the same weights, share the estimates of their singular values."""
        for module in self._spectral():
            module.shared = module.sigma()
        try:
            yield
        finally:
            for module in self._spectral():
                module.shared = None

    def _spectral(self) -> list[SpectralConv3d]:
        return [module for module in self.modules() if isinstance(module, SpectralConv3d)]

    def forward(self, clips: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = F.relu(self.gn1(self.conv1(clips)), inplace=True)
        x = self.layer1(F.max_pool3d(x, 3, (1, 2, 2), 1))
        maps = [x]
        for stage in self.layers:
            x = stage(x)
            maps.append(x)
        return self.final(x.squeeze(2)), maps
