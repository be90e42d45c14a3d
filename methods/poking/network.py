"""The poking model: object encoder, interaction encoder, predictor and decoder (figure 2 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from methods.interface import Poke
from methods.poking.config import NetworkConfig
from methods.poking.layers import Convolution, Residual, UpsamplingResidual
from methods.poking.poke_encoders import poke_encoder
from methods.poking.predictor import Predictor, strengths


class ObjectEncoder(nn.Module):
    """Images `[N, 3, H, W]` in [-1, 1] -> the states of all levels that recur, lowest first."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.depth = config.depth
        widths = [3, *config.widths]
        self.blocks = nn.ModuleList(Convolution(low, high, stride=2) for low, high in pairwise(widths))
        self.bottleneck = Residual(widths[-1], config.width)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = []
        for block in self.blocks:
            images = block(images)
            maps.append(images)
        return [self.bottleneck(images), *reversed(maps)][: self.depth]


class Decoder(nn.Module):
    """States of all levels, lowest first, `[N, C_n, H_n, W_n]` -> images `[N, 3, H, W]` in [-1, 1].

    Block i takes what is below it and the state of level i + 2, where that level recurs.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        widths = config.widths[::-1]
        self.in_block = Residual(config.width, widths[0])
        blocks, width = [], widths[0]
        for index, stage in enumerate(widths):
            above = stage if index < config.depth - 1 else 0
            last = index == len(widths) - 1
            blocks.append(UpsamplingResidual(width + above, stage if last else stage // 2))
            width = stage // 2
        self.blocks = nn.ModuleList(blocks)
        self.out_conv = Convolution(widths[-1], 3, activation="none", norm=False)

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        x = self.in_block(states[0])
        for block, state in zip(self.blocks, [*states[1:], *[None] * len(self.blocks)], strict=False):
            x = block(x if state is None else torch.cat([x, state], dim=1))
        return torch.tanh(self.out_conv(x))


class PokingNetwork(nn.Module):
    """The generator. The keys of its state are those of the authors' checkpoints."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.shape_enc = ObjectEncoder(config)
        self.dynamics_enc = poke_encoder(config)
        self.fusion_block = Predictor(config)
        self.dec = Decoder(config)

    def encode(self, images: Tensor) -> list[Tensor]:
        """States of images `[N, 3, H, W]` in [-1, 1], lowest level first."""
        return self.shape_enc(images)

    def encode_poke(self, poke: Poke) -> Tensor:
        """phi of pokes, `[B, width, min_side, min_side]`."""
        return self.dynamics_enc(poke.location, poke.displacement)

    def rollout(self, states: Sequence[Tensor], phi: Tensor, horizon: int) -> list[Tensor]:
        """States of x1..xT from those of x0; time comes first, `[T B, C_n, H_n, W_n]`.

        The rows of `states` may be expanded views, so K pokes on one image need its states only once.
        """
        return self.fusion_block(states, phi, strengths(self.config, horizon))

    def decode(self, states: Sequence[Tensor]) -> Tensor:
        """Images `[N, 3, H, W]` in [-1, 1] of states `[N, C_n, H_n, W_n]`."""
        return self.dec(states)

    def forward(self, x0: Tensor, poke: Poke, horizon: int) -> Tensor:
        """The video `[B, T, 3, H, W]` that follows x0 `[B, 3, H, W]`, both in [-1, 1]."""
        frames = self.decode(self.rollout(self.encode(x0), self.encode_poke(poke), horizon))
        return frames.unflatten(0, (horizon, len(x0))).transpose(0, 1)
