"""The backbones of LPIPS v0.1 as one feature vector per frame, of which LPIPS is the squared distance."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.weights import weights

Net = Literal["alex", "vgg"]

WEIGHTS: dict[Net, str] = {"alex": "lpips-alexnet", "vgg": "lpips-vgg16"}
"""Names of the weight files."""

MIN_SIDE: dict[Net, int] = {"alex": 31, "vgg": 16}
"""Smallest height and width in px that leave one position in the last map."""

MEAN, SPREAD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""What LPIPS subtracts from and divides by, for RGB in [-1, 1]."""


class Block(NamedTuple):
    """Layers up to one tap. A convolution is (index in torchvision's `features`, stride, padding)."""

    pool: int
    """Size of the max pool of stride 2 before the convolutions; 0: none."""
    convolutions: tuple[tuple[int, int, int], ...]


BLOCKS: dict[Net, tuple[Block, ...]] = {
    "alex": (
        Block(0, ((0, 4, 2),)),
        Block(3, ((3, 1, 2),)),
        Block(3, ((6, 1, 1),)),
        Block(0, ((8, 1, 1),)),
        Block(0, ((10, 1, 1),)),
    ),
    "vgg": (
        Block(0, ((0, 1, 1), (2, 1, 1))),
        Block(2, ((5, 1, 1), (7, 1, 1))),
        Block(2, ((10, 1, 1), (12, 1, 1), (14, 1, 1))),
        Block(2, ((17, 1, 1), (19, 1, 1), (21, 1, 1))),
        Block(2, ((24, 1, 1), (26, 1, 1), (28, 1, 1))),
    ),
}


class LPIPSTrunk(nn.Module):
    """Frames `[N, 3, H, W]` in [0, 1] -> features `[N, D]`, float32.

    LPIPS of two frames is the sum of squared differences of their features. A map f of h x w positions enters as
    sqrt(weight) f / (|f| + 1e-10) / sqrt(h w), the norm taken over channels; the linear heads' weights are all
    positive (R. Zhang et al., arXiv:1801.03924, equation 1). For 64 x 64 px D is 31,872 (alex) or 499,712 (vgg),
    and grows with the area.

    Args:
        net: which backbone.
        tensors: as `metrics.weights.weights` returns them.
    """

    def __init__(self, net: Net, tensors: dict[str, Tensor] | None = None) -> None:
        super().__init__()
        self.blocks = BLOCKS[net]
        for key, value in (weights(WEIGHTS[net]) if tensors is None else tensors).items():
            layer, index, kind = key.split(".")
            if layer == "heads":
                value = value.flatten().sqrt()
            elif kind == "weight":
                value = value.contiguous(memory_format=torch.channels_last)
            self.register_buffer(f"{layer}_{index}_{kind}", value, persistent=False)
        mean, spread = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(SPREAD).view(3, 1, 1)
        self.register_buffer("factor", 2 / spread, persistent=False)
        self.register_buffer("offset", -(1 + mean) / spread, persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        # Zero padding comes after this scaling, so it cannot be part of the first convolution.
        x = torch.addcmul(self.get_buffer("offset"), frames, self.get_buffer("factor"))
        x = x.contiguous(memory_format=torch.channels_last)
        features = []
        for level, block in enumerate(self.blocks):
            x = F.max_pool2d(x, block.pool, 2) if block.pool else x
            for index, stride, padding in block.convolutions:
                weight, bias = (self.get_buffer(f"features_{index}_{kind}") for kind in ("weight", "bias"))
                x = F.conv2d(x, weight, bias, stride, padding).relu_()
            features.append(self._weighted(x, level))
        return torch.cat(features, dim=1)

    def _weighted(self, x: Tensor, level: int) -> Tensor:
        """One map `[N, C, h, w]` as features `[N, h w C]`."""
        x = x.permute(0, 2, 3, 1)
        positions = x.shape[1] * x.shape[2]
        norm = torch.linalg.vector_norm(x, dim=3, keepdim=True).add_(1e-10).mul_(positions**0.5)
        return (x / norm).mul_(self.get_buffer(f"heads_{level}_weight")).flatten(1)
