"""The interaction encoder: a poke as the feature that drives the lowest level of the predictor."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.poking.config import NetworkConfig
from methods.poking.layers import Convolution, Residual
from methods.poking.poke_map import as_several, patches, poke_map

FIRST_WIDTH = 32
"""Channels of the first stage, whatever the width of the model."""


class PokeEncoder(nn.Module):
    """Pokes -> phi `[B, width, min_side, min_side]`, as in the released program.

    Instance norm follows the first convolution of a map that is zero almost everywhere. It divides by the spread
    of its own response, so the length of a poke hardly reaches phi: of 1 px and of 10 px in one direction it differs
    by 0.8 %, relative, at 64 px and width 512 with random weights.

    For a poke of length zero phi is zero in exact arithmetic, since every norm is of a constant map; in floating
    point it would be rounding noise that the norms amplify. It is set to the exact value here.
    """

    def __init__(self, config: NetworkConfig, inputs: int = 2, norm: bool = True) -> None:
        super().__init__()
        self.size = config.size
        self.scale = 1.0 if config.poke_norm is None else 1 / config.poke_norm
        widths = [inputs, *(FIRST_WIDTH << stage for stage in range(config.stages))]
        self.model = nn.Sequential(*(Convolution(low, high, stride=2, norm=norm) for low, high in pairwise(widths)))
        self.bottleneck = nn.Sequential(
            Residual(widths[-1], config.width, norm), Residual(config.width, config.width, norm)
        )

    def forward(self, location: Tensor, displacement: Tensor) -> Tensor:
        """Args: float `[B, 2]` or `[B, n, 2]`, in px, as `methods.interface.Poke`."""
        return self.encode_map(poke_map(location, displacement * self.scale, self.size))

    def encode_map(self, drawn: Tensor) -> Tensor:
        """phi of a poke map `[B, 2, size, size]`."""
        moves = drawn.ne(0).flatten(1).any(1)[:, None, None, None]
        return self.bottleneck(self.model(drawn)) * moves


class PlusPokeEncoder(PokeEncoder):
    """An encoder that sees how long a poke is; the rest of the model stays the paper's.

    Why: the official encoder is nearly blind to length (see `PokeEncoder`), although a poke is to name a target.
    What differs:

    - No norm. A length then passes through convolutions and ELUs like any other signal.
    - Eight input channels instead of two. Lengths are in units of u = size / 5, the longest poke that the authors'
      interface lets users draw. In the square around the poked pixel: dx / u, dy / u, |p| / u and 1. Everywhere:
      dx / u and dy / u, and the offset (x - x_l, y - y_l) / size of the pixel from the poked one. With several pokes
      each pixel takes those of the nearest.
    - phi is multiplied, per channel, by tanh(softplus(a) |p| / u), `a` learned, |p| of the longest poke. So a poke of
      length zero gives phi = 0 exactly, wherever it is.

    The four channels "everywhere" are zero for clips whose pokes all have length zero.
    """

    INPUTS = 8

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config, inputs=self.INPUTS, norm=False)
        self.unit = config.size / 5
        self.gate = nn.Parameter(torch.full((config.width,), math.log(math.e - 1)))  # softplus(a) = 1
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):  # without norms, the default would shrink the signal in every layer
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, location: Tensor, displacement: Tensor) -> Tensor:
        location, scaled = as_several(location), as_several(displacement) / self.unit
        longest = torch.linalg.vector_norm(scaled, dim=2).amax(1)[:, None, None, None]
        phi = self.bottleneck(self.model(self._drawn(location, scaled) * (longest > 0)))
        return phi * torch.tanh(F.softplus(self.gate)[:, None, None] * longest)

    def _drawn(self, location: Tensor, scaled: Tensor) -> Tensor:
        """The eight channels, `[B, 8, size, size]`."""
        axis = torch.arange(self.size, device=location.device, dtype=location.dtype)
        centre = location.round()
        x, y = ((axis - centre[..., index, None]) / self.size for index in (0, 1))
        x, y = x[:, :, None, :], y[:, :, :, None]
        nearest = (x.square() + y.square()).argmin(1, keepdim=True)
        shape = (*nearest.shape[:1], location.shape[1], self.size, self.size)
        dx, dy = (scaled[..., index, None, None].expand(shape) for index in (0, 1))
        everywhere = [channel.expand(shape).gather(1, nearest) for channel in (dx, dy, x, y)]
        inside = patches(location, self.size).any(1, keepdim=True).to(scaled.dtype)
        near_x, near_y = everywhere[:2]
        length = (near_x.square() + near_y.square()).sqrt()
        return torch.cat([near_x * inside, near_y * inside, length * inside, inside, *everywhere], dim=1)


def poke_encoder(config: NetworkConfig) -> PokeEncoder:
    """The encoder that `config` asks for."""
    return PlusPokeEncoder(config) if config.poke_encoder == "plus" else PokeEncoder(config)
