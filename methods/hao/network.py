"""The network of Hao et al. (CVPR 2018, section 3): frame and trajectories in, flow, mask and completion out.

Names of modules are those of the authors' program, so that their weights fit by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from methods.hao.trajectories import CHANNELS
from methods.layers import BatchNorm
from methods.recompute import light
from metrics.errors import MethodError

STRIDE = 16
"""Height and width must be multiples of this."""

Layer = tuple[str, int, int]
"""Name, input and output channels, in units of the width."""

ENCODER: tuple[Layer, ...] = (
    ("11", 0, 1),
    ("12", 1, 1),
    ("21", 1, 2),
    ("22", 2, 2),
    ("31", 2, 4),
    ("32", 4, 4),
    ("33", 4, 4),
    ("41", 4, 8),
    ("42", 8, 8),
    ("43", 8, 8),
    ("51", 8, 8),
    ("52", 8, 8),
    ("53", 8, 8),
)
"""VGG-16 without its last pooling. The 0 stands for the input: three colours and the trajectory map."""

DECODER: tuple[Layer, ...] = (
    ("53", 8, 8),
    ("52", 8, 8),
    ("51", 8, 8),
    ("43", 16, 8),
    ("42", 8, 8),
    ("41", 8, 4),
    ("33", 8, 4),
    ("32", 4, 4),
    ("31", 4, 2),
    ("22", 2, 2),
    ("21", 2, 1),
    ("12", 1, 1),
)


class Encoded(NamedTuple):
    """Features at 1/16, and the two that skip the bottleneck, at 1/8 and 1/4, before pooling."""

    deepest: Tensor
    eighth: Tensor
    quarter: Tensor


class Heads(NamedTuple):
    """What the network says, before any non-linearity.

    Attributes:
        flow: `[N, 2, H, W]`: (dx, dy) in px from a pixel of the target to its source in x0.
        mask_logit: `[N, 1, H, W]`.
        completion: `[N, 3, H, W]`, unbounded.
    """

    flow: Tensor
    mask_logit: Tensor
    completion: Tensor


class Prediction(NamedTuple):
    """A predicted frame and what it is made of.

    Attributes:
        frame: `[N, 3, H, W]` in [0, 1]: mask * warped + (1 - mask) * completion.
        mask: `[N, 1, H, W]` in (0, 1).
        completion: `[N, 3, H, W]` in [0, 1].
        warped: `[N, 3, H, W]`: x0 moved along the flow.
        heads: the outputs of the network.
    """

    frame: Tensor
    mask: Tensor
    completion: Tensor
    warped: Tensor
    heads: Heads


class _Stack(nn.Module):
    """Convolutions 3 x 3 with bias, each followed by batch norm (if any) and ReLU; c11, bn11, c12, ..."""

    def __init__(self, layers: tuple[Layer, ...], width: int, batch_norm: bool, recompute: bool) -> None:
        super().__init__()
        self.batch_norm, self.recompute = batch_norm, recompute
        for name, inputs, outputs in layers:
            self.add_module(f"c{name}", nn.Conv2d(inputs * width or 3 + CHANNELS, outputs * width, 3, padding=1))
            if batch_norm:
                self.add_module(f"bn{name}", BatchNorm(outputs * width))

    def run(self, names: str, before: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """`before(*inputs)` through the layers of these names, in that order."""
        return light(self._run, names.split(), before, *inputs, recompute=self.recompute)

    def _run(self, names: list[str], before: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        x = before(*inputs)
        for name in names:
            x = self.get_submodule(f"c{name}")(x)
            if self.batch_norm:
                x = self.get_submodule(f"bn{name}")(x)
            x = functional.relu(x, inplace=True)
        return x


class Encoder(_Stack):
    """Frame and trajectory map `[N, 9, H, W]` to features."""

    def __init__(self, width: int, batch_norm: bool, recompute: bool) -> None:
        super().__init__(ENCODER, width, batch_norm, recompute)

    def forward(self, x: Tensor) -> Encoded:
        """Features of `x`."""
        full = self.run("11 12", _as_it_is, x)
        half = self.run("21 22", _halved, full)
        quarter = self.run("31 32 33", _halved, half)
        eighth = self.run("41 42 43", _halved, quarter)
        deepest = self.run("51 52 53", _halved, eighth)
        return Encoded(deepest, eighth, quarter)


class Decoder(_Stack):
    """Features to `[N, width, H, W]`."""

    def __init__(self, width: int, batch_norm: bool, recompute: bool) -> None:
        super().__init__(DECODER, width, batch_norm, recompute)

    def forward(self, encoded: Encoded) -> Tensor:
        """Features at full resolution."""
        x = self.run("53 52 51", _as_it_is, encoded.deepest)
        x = self.run("43 42 41", _doubled, x, encoded.eighth)
        x = self.run("33 32 31", _doubled, x, encoded.quarter)
        x = self.run("22 21", _doubled, x)
        return self.run("12", _doubled, x)


class HaoNetwork(nn.Module):
    """Flow, mask and completion from x0 and a trajectory map; `predict` puts the frame together.

    Weights begin as the authors' do: N(0, 2 / (9 * outputs)) for every convolution, biases 0.

    Args:
        width: channels of the first stage.
        batch_norm: batch normalisation, or none as in the KITTI variant.
        recompute: see `HaoConfig`.
    """

    def __init__(self, width: int = 64, batch_norm: bool = True, recompute: bool = False) -> None:
        super().__init__()
        self.enc_net = Encoder(width, batch_norm, recompute)
        self.dec_net = Decoder(width, batch_norm, recompute)
        self.conv_warp = nn.Conv2d(width, 2, 3, padding=1)
        self.conv_mask = nn.Conv2d(width, 1, 3, padding=1)
        self.conv_comp = nn.Conv2d(width, 3, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.normal_(module.weight, std=math.sqrt(2 / (9 * module.out_channels)))
                nn.init.zeros_(module.bias)

    def forward(self, x0: Tensor, trajectories: Tensor) -> Heads:
        """The outputs of the network.

        The heads work in float32 or better, under autocast too: half precision would round a flow of 10 px to 1/16 px.

        Args:
            x0: `[N, 3, H, W]` in [0, 1]; H and W are multiples of 16.
            trajectories: `[N, 6, H, W]`, see `trajectory_map`.

        Raises:
            MethodError: H or W is not a multiple of 16.
        """
        height, width = x0.shape[-2:]
        if height % STRIDE or width % STRIDE:
            raise MethodError(
                f"hao: expected frames with sides that are multiples of {STRIDE} px, found {height} x {width}; "
                "choose such a size"
            )
        # Channels last is the faster layout; the weights keep theirs, so that a resume finds them as they were.
        shown = torch.cat([x0, trajectories], 1).contiguous(memory_format=torch.channels_last)
        features = self.dec_net(self.enc_net(shown))
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(torch.promote_types(features.dtype, torch.float32))
            return Heads(self.conv_warp(features), self.conv_mask(features), self.conv_comp(features))

    def predict(self, x0: Tensor, trajectories: Tensor) -> Prediction:
        """The frame that shows x0 after its points moved along their trajectories; arguments as `forward`."""
        heads = self(x0, trajectories)
        mask = torch.sigmoid(heads.mask_logit)
        completion = functional.hardtanh(heads.completion, 0.0, 1.0)
        warped = zero_padded_warp(x0, heads.flow)
        return Prediction(mask * warped + (1 - mask) * completion, mask, completion, warped, heads)


def zero_padded_warp(image: Tensor, flow: Tensor) -> Tensor:
    """Samples `image` at p + flow(p), bilinear; what lies outside is black, and fades in over the last pixel.

    Args:
        image: float `[N, C, H, W]`.
        flow: float `[N, 2, H, W]`: (dx, dy) in px, from a pixel of the result to its source.

    Returns:
        `[N, C, H, W]`.
    """
    height, width = image.shape[-2:]
    xs = torch.arange(width, device=flow.device, dtype=flow.dtype)
    ys = torch.arange(height, device=flow.device, dtype=flow.dtype)
    x = (xs + flow[:, 0]) * (2 / (width - 1)) - 1
    y = (ys[:, None] + flow[:, 1]) * (2 / (height - 1)) - 1
    grid = torch.stack([x, y], dim=-1)
    with torch.autocast(image.device.type, enabled=False):
        return functional.grid_sample(
            image.to(grid.dtype), grid, mode="bilinear", padding_mode="zeros", align_corners=True
        )


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _halved(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 2)


def _doubled(x: Tensor, *beside: Tensor) -> Tensor:
    return torch.cat([functional.interpolate(x, scale_factor=2, mode="nearest"), *beside], 1)
