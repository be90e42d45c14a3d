"""The poking model: object encoder, interaction encoder, predictor and decoder (figure 2 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from methods.interface import Poke
from methods.poking.config import NetworkConfig
from methods.poking.decoders import WarpDecoder, decoder, strongest_poke
from methods.poking.layers import Convolution, Residual
from methods.poking.poke_encoders import poke_encoder
from methods.poking.predictor import Convolutions, Predictor, Step, strengths


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


class PokingNetwork(nn.Module):
    """The generator. The keys of its state are those of the authors' checkpoints."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.shape_enc = ObjectEncoder(config)
        self.dynamics_enc = poke_encoder(config)
        self.fusion_block = Predictor(config)
        self.dec = decoder(config)

    def encode(self, images: Tensor) -> list[Tensor]:
        """States of images `[N, 3, H, W]` in [-1, 1], lowest level first."""
        return self.shape_enc(images)

    def encode_poke(self, poke: Poke) -> Tensor:
        """phi of pokes, `[B, width, min_side, min_side]`."""
        return self.dynamics_enc(poke.location, poke.displacement)

    def rollout(
        self,
        states: Sequence[Tensor],
        phi: Tensor,
        horizon: int,
        convolutions: Sequence[Convolutions] | None = None,
        step: Step | None = None,
    ) -> list[Tensor]:
        """States of x1..xT from those of x0; time comes first, `[T B, C_n, H_n, W_n]`.

        The rows of `states` may be expanded views, so K pokes on one image need its states only once.

        Args:
            convolutions: what `Predictor.transformed` gave; None: the plain ones.
            step: as in `ConvGRUCell.forward`.
        """
        return self.fusion_block(states, phi, strengths(self.config, horizon), convolutions, step)

    def decode(self, states: Sequence[Tensor]) -> Tensor:
        """Images `[N, 3, H, W]` in [-1, 1], drawn from states `[N, C_n, H_n, W_n]` alone."""
        return self.dec(states)

    def film(self, states: Sequence[Tensor], x0: Tensor, poke: Poke, rows: Tensor | None = None) -> Tensor:
        """Frames of rolled-out states, `[N, 3, H, W]` in [-1, 1], as the decoder of the configuration makes them.

        Args:
            states: those of x1..xT, time first, or their `rows`.
            x0: `[B, 3, H, W]` in [-1, 1].
            poke: the pokes that the states answer.
            rows: which rows of `[T B, ...]` the states are; None: all.
        """
        if not isinstance(self.dec, WarpDecoder):
            return self.dec(states)
        clips = torch.arange(len(states[0]), device=x0.device) if rows is None else rows
        clips = clips.remainder(len(x0))
        displacement = strongest_poke(poke).displacement.index_select(0, clips)
        return self.dec.moved(states, x0.index_select(0, clips), displacement)

    def forward(self, x0: Tensor, poke: Poke, horizon: int) -> Tensor:
        """The video `[B, T, 3, H, W]` that follows x0 `[B, 3, H, W]`, both in [-1, 1]."""
        frames = self.film(self.rollout(self.encode(x0), self.encode_poke(poke), horizon), x0, poke)
        return frames.unflatten(0, (horizon, len(x0))).transpose(0, 1)
