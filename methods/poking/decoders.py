"""From states to images: the decoder of the paper, and one that moves what is there already."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from methods.baselines import backward_warp
from methods.interface import Poke
from methods.poking.config import NetworkConfig
from methods.poking.layers import Convolution, Residual, UpsamplingResidual


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
        return torch.tanh(self.out_conv(self.features(states)))

    def features(self, states: Sequence[Tensor]) -> Tensor:
        """What the image is drawn from, `[N, C, H, W]`."""
        x = self.in_block(states[0])
        for block, state in zip(self.blocks, [*states[1:], *[None] * len(self.blocks)], strict=False):
            x = block(x if state is None else torch.cat([x, state], dim=1))
        return x


class WarpDecoder(Decoder):
    """Frames as x0 moved along a flow, drawn anew where that does not do.

    Why: the paper's decoder draws every pixel of every frame from normalised states, the background too, and has to
    learn to copy before it can learn to move; nothing ties how far and in which direction things move to how far and
    where was poked. Here, with the poke p and pixel positions as complex numbers x + i y, in px, and u = size / 5,

        flow = -g p,   frame = warp(x0, flow) + (1 - m) tanh(4 |p| / u) (drawn - warp(x0, flow)).

    The gain g (complex: two channels) and m (a sigmoid) come from one more convolution on the features that the image
    is drawn from. g = 1 where the object follows the poke, 0 where it rests; it may stretch and turn. So the response
    is linear in the poke, whatever its encoder sees of lengths, and corrected by what the states make of phi. Without a
    poke x0 stays as it is, exactly. The image reconstruction of the training is drawn, as in the paper.
    """

    STEEPNESS = 4.0

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.unit = config.size / 5
        self.motion = nn.Conv2d(config.widths[0], 3, 3, padding=1)
        nn.init.zeros_(self.motion.weight)
        self.motion.bias = nn.Parameter(torch.tensor([0.0, 0.0, 2.0]))  # begins near x0 itself

    def flow(self, states: Sequence[Tensor], displacement: Tensor) -> Tensor:
        """Where each pixel of the frames comes from in x0: flow `[N, 2, H, W]`, (dx, dy) in px.

        Args:
            states, displacement: as in `moved`.
        """
        return _against(self.motion(self.features(states)), displacement)

    def moved(self, states: Sequence[Tensor], x0: Tensor, displacement: Tensor) -> Tensor:
        """Images `[N, 3, H, W]` in [-1, 1].

        Args:
            states: `[N, C_n, H_n, W_n]`.
            x0: `[N, 3, H, W]` in [-1, 1].
            displacement: `[N, 2]`: the poke, px.
        """
        features = self.features(states)
        motion = self.motion(features).to(x0.dtype)
        drawn = torch.tanh(self.out_conv(features)).to(x0.dtype)
        moved = backward_warp(x0, _against(motion, displacement.to(x0.dtype)))
        length = torch.linalg.vector_norm(displacement, dim=1)[:, None, None, None].to(x0.dtype)
        anew = (1 - torch.sigmoid(motion[:, 2:])) * torch.tanh(self.STEEPNESS / self.unit * length)
        return moved + anew * (drawn - moved)


def decoder(config: NetworkConfig) -> Decoder:
    """The decoder that `config` asks for."""
    return WarpDecoder(config) if config.decoder == "warp" else Decoder(config)


def _against(motion: Tensor, displacement: Tensor) -> Tensor:
    """-g p as flow `[N, 2, H, W]`: complex product; the first channels of `motion` are g, p is `[N, 2]`."""
    real, imaginary = motion[:, 0], motion[:, 1]
    x, y = displacement.to(motion.dtype)[:, :, None, None].unbind(1)
    return -torch.stack([real * x - imaginary * y, real * y + imaginary * x], dim=1)


def strongest_poke(poke: Poke) -> Poke:
    """One poke `[B, 2]` for each clip: the longest of several."""
    if poke.displacement.ndim == 2:
        return poke
    longest = torch.linalg.vector_norm(poke.displacement, dim=-1).argmax(1)[:, None, None].expand(-1, 1, 2)
    return Poke(*(given.gather(1, longest)[:, 0] for given in (poke.location, poke.displacement)))
