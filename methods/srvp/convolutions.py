"""Frames to codes and back: the VGG and DCGAN encoders and decoders of SRVP, for frames of 64 x 64 px.

Appendix of the paper, and the authors' program where it says more. Every convolution is without bias and initialised
from N(0, 0.02); LeakyReLU has slope 0.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from methods.layers import BatchNorm
from methods.recompute import light
from methods.srvp.config import SRVPConfig

SLOPE = 0.2
INITIAL_STD = 0.02


class Convolution(nn.Module):
    """A convolution, plain or transposed, of features and, where it has skip channels, of a skip beside them.

    The convolution of the two concatenated is the sum of two convolutions. Kept apart, a skip that many frames share
    is convolved once for all of them.

    Args:
        channels: of the features.
        out: channels that come out.
        kernel, stride, padding: as in `nn.Conv2d` and `nn.ConvTranspose2d`.
        transposed: whether it is a transposed convolution.
        skip: channels of the skip, which follow those of the features in the weight.
    """

    def __init__(
        self, channels: int, out: int, kernel: int, stride: int, padding: int, transposed: bool = False, skip: int = 0
    ) -> None:
        super().__init__()
        self.channels, self.stride, self.padding, self.transposed = channels, stride, padding, transposed
        inputs = channels + skip
        shape = (inputs, out) if transposed else (out, inputs)
        self.weight = nn.Parameter(torch.empty(*shape, kernel, kernel))
        nn.init.normal_(self.weight, 0.0, INITIAL_STD)

    def forward(self, features: Tensor) -> Tensor:
        """The part of the features, `[N, channels, h, w]`."""
        return self._convolve(features, slice(None, self.channels))

    def of_skip(self, skip: Tensor) -> Tensor:
        """The part of the skip, `[N, skip channels, h, w]`."""
        return self._convolve(skip, slice(self.channels, None))

    def _convolve(self, inputs: Tensor, channels: slice) -> Tensor:
        if self.transposed:
            weight = self.weight[channels]
            return functional.conv_transpose2d(inputs, weight, stride=self.stride, padding=self.padding)
        return functional.conv2d(inputs, self.weight[:, channels], stride=self.stride, padding=self.padding)


class Block(nn.Module):
    """Convolution, then batch normalisation and an activation, each of which may be absent."""

    def __init__(
        self, conv: Convolution, norm: bool = True, activation: Literal["leaky", "tanh", "none"] = "leaky"
    ) -> None:
        super().__init__()
        self.conv = conv
        out = conv.weight.shape[1 if conv.transposed else 0]
        self.norm = BatchNorm(out) if norm else None
        if self.norm is not None:
            nn.init.normal_(self.norm.weight, 1.0, INITIAL_STD)
        self.activation = activation

    def forward(self, features: Tensor, skip_term: Tensor | None = None) -> Tensor:
        """The block's output for N = B n frames.

        Args:
            features: `[B n, C, h, w]`.
            skip_term: what the skips of B clips add to the convolution, `[B, C', h', w']`, for n frames each.
        """
        out = self.conv(features)
        if skip_term is not None:
            # In place: the backward pass of a convolution does not need its output.
            out.unflatten(0, (len(skip_term), -1)).add_(skip_term.unsqueeze(1))
        if self.norm is not None:
            out = self.norm(out)
        if self.activation == "leaky":
            return functional.leaky_relu(out, SLOPE, inplace=True)
        return torch.tanh(out) if self.activation == "tanh" else out


class Stage(nn.ModuleList):
    """Blocks of the decoder at one resolution; the skip joins the first."""

    def of_skip(self, skip: Tensor) -> Tensor:
        """What a skip adds to the convolution of the first block."""
        return cast(Block, self[0]).conv.of_skip(skip)

    def forward(self, features: Tensor, skip_term: Tensor | None = None) -> Tensor:
        """`[B n, C, h, w]` through all blocks."""
        for j, block in enumerate(self):
            features = block(features, skip_term) if j == 0 else block(features)
        return features


class Encoder(nn.Module):
    """Frames `[N, C, 64, 64]` to codes `[N, code]` in [-1, 1], and the features of the four stages."""

    def __init__(self, config: SRVPConfig) -> None:
        super().__init__()
        f = config.filters
        self.pools, self.recompute = config.architecture == "vgg", config.recompute
        if self.pools:
            plan = [(config.channels, f, f), (f, 2 * f, 2 * f), (2 * f, *[4 * f] * 3), (4 * f, *[8 * f] * 3)]
            stages = [[Block(Convolution(*pair, 3, 1, 1)) for pair in pairwise(widths)] for widths in plan]
        else:
            widths = (config.channels, f, 2 * f, 4 * f, 8 * f)
            stages = [[Block(Convolution(*pair, 4, 2, 1), norm=i > 0)] for i, pair in enumerate(pairwise(widths))]
        self.stages = nn.ModuleList(nn.Sequential(*stage) for stage in stages)
        self.code = Block(Convolution(8 * f, config.code, 4, 1, 0), activation="tanh")

    def forward(self, frames: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Codes, and the features of the stages, the deepest first."""
        features: list[Tensor] = []
        x = _channels_last(frames)
        for i in range(len(self.stages)):
            x = light(self._stage, i, x, recompute=self.recompute)
            features.append(x)
        x = functional.max_pool2d(x, 2) if self.pools else x
        return self.code(x).flatten(1), features[::-1]

    def _stage(self, i: int, x: Tensor) -> Tensor:
        return cast(Tensor, self.stages[i](functional.max_pool2d(x, 2) if self.pools and i else x))


class Decoder(nn.Module):
    """Vectors `[N, inputs]` to logits of frames `[N, C, 64, 64]`; the frame is their sigmoid.

    Args:
        inputs: size of the content and the state together.
    """

    def __init__(self, config: SRVPConfig, inputs: int) -> None:
        super().__init__()
        f, c = config.filters, config.channels
        self.upsamples, self.recompute = config.architecture == "vgg", config.recompute
        self.first = Block(Convolution(inputs, 8 * f, 4, 1, 0, transposed=True))
        if self.upsamples:
            plan = [(8 * f, 8 * f, 8 * f, 4 * f), (4 * f, 4 * f, 4 * f, 2 * f), (2 * f, 2 * f, f), (f, f)]
            stages = [
                [
                    Block(Convolution(*pair, 3, 1, 1, skip=pair[0] if config.skips and j == 0 else 0))
                    for j, pair in enumerate(pairwise(widths))
                ]
                for widths in plan
            ]
            stages[3].append(Block(Convolution(f, c, 3, 1, 1, transposed=True), norm=False, activation="none"))
        else:
            pairs = list(pairwise((8 * f, 4 * f, 2 * f, f, c)))
            convolutions = [Convolution(*p, 4, 2, 1, transposed=True, skip=p[0] if config.skips else 0) for p in pairs]
            stages = [[Block(convolution)] for convolution in convolutions[:3]]
            stages.append([Block(convolutions[3], norm=False, activation="none")])
        self.stages = nn.ModuleList(Stage(stage) for stage in stages)

    def skip_terms(self, skips: Sequence[Tensor]) -> list[Tensor]:
        """What the skips of B clips add to the first convolution of each stage, whatever the state.

        Args:
            skips: features of one frame a clip, deepest first, `[B, c, h, w]` each; empty without skips.
        """
        pairs = zip(self.stages, skips, strict=bool(skips))
        return [cast(Stage, stage).of_skip(_channels_last(skip)) for stage, skip in pairs]

    def forward(self, vectors: Tensor, skip_terms: Sequence[Tensor] = ()) -> Tensor:
        """Logits `[B n, C, 64, 64]` of n frames for each of B clips.

        Args:
            vectors: `[B n, inputs]`.
            skip_terms: of the B clips, from `skip_terms`.
        """
        x = _channels_last(self.first(vectors[:, :, None, None]))
        for i in range(len(self.stages)):
            x = light(self._stage, i, x, skip_terms[i] if skip_terms else None, recompute=self.recompute)
        return x

    def _stage(self, i: int, x: Tensor, skip_term: Tensor | None) -> Tensor:
        if self.upsamples:
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
        return cast(Tensor, self.stages[i](x, skip_term))


def _channels_last(x: Tensor) -> Tensor:
    """The same values, with the channels of a pixel side by side in memory: all layers here are faster so."""
    return x.contiguous(memory_format=torch.channels_last)
