"""Building blocks of IVRNN. Images are `[N, C, H, W]`, sequences `[B, T, C, H, W]`.

Nothing here has a running statistic or drops anything: training and evaluation are the same function.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.2
"""Slope of every leaky ReLU."""
RESIDUAL_SCALE = 0.1

State = tuple[Tensor, Tensor]
"""What a ConvLSTM carries on: hidden and cell, each `[B, h, H, W]`."""


def activation(x: Tensor) -> Tensor:
    """Leaky ReLU with the slope of the paper's networks."""
    return functional.leaky_relu(x, SLOPE)


def per_frame(module: nn.Module, sequence: Tensor) -> Tensor:
    """Applies an image module to each frame of `[B, T, C, H, W]`; statistics of norms are per frame."""
    return module(sequence.flatten(0, 1)).unflatten(0, sequence.shape[:2])


class Residual(nn.Module):
    """x plus 0.1 times two 3x3 convolutions, each after an activation and before a norm."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        inner = min(inputs, outputs)
        self.conv1 = nn.Conv2d(inputs, inner, 3, padding=1)
        self.norm1 = nn.GroupNorm(groups, inner)
        self.conv2 = nn.Conv2d(inner, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, outputs)
        self.shortcut = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, inputs, H, W]` -> `[N, outputs, H, W]`."""
        straight = x if self.shortcut is None else self.shortcut(x)
        change = self.norm1(self.conv1(activation(x)))
        change = self.norm2(self.conv2(activation(change)))
        return straight + RESIDUAL_SCALE * change


class Block(nn.Module):
    """A convolution, or a transposed one, then norm and activation."""

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, groups: int) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.GroupNorm(groups, conv.out_channels)
        if isinstance(conv, nn.ConvTranspose2d):
            _initialise_as_released(conv)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, inputs, H, W]` -> `[N, outputs, H', W']`."""
        return activation(self.norm(self.conv(x)))


class ConvLSTM(nn.Module):
    """ConvLSTM whose two gate convolutions and cell are normalised, each by itself; the normalised cell is carried.

    Gates are in the order input, forget, output, candidate. There is no forget bias.
    """

    def __init__(self, inputs: int, hidden: int, groups: int) -> None:
        super().__init__()
        self.input_conv = nn.Conv2d(inputs, 4 * hidden, 3, padding=1)
        self.input_norm = nn.GroupNorm(groups, 4 * hidden)
        self.hidden_conv = nn.Conv2d(hidden, 4 * hidden, 3, padding=1)
        self.hidden_norm = nn.GroupNorm(groups, 4 * hidden)
        self.cell_norm = nn.GroupNorm(groups, hidden)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Runs over all frames of `inputs` from `state`.

        Args:
            inputs: `[B, T, C, H, W]`.

        Returns:
            The hidden states `[B, T, h, H, W]`, and the state after the last frame.
        """
        hidden, cell = state
        outputs = []
        # What depends on the inputs alone is computed for all frames at once.
        for driven in self.input_norm(self.input_conv(inputs.flatten(0, 1))).unflatten(0, inputs.shape[:2]).unbind(1):
            gates = driven + self.hidden_norm(self.hidden_conv(hidden))
            cell = self.cell_norm(_new_cell(gates, cell))
            hidden = _output_gate(gates) * torch.tanh(cell)
            outputs.append(hidden)
        return torch.stack(outputs, dim=1), (hidden, cell)


class PlainConvLSTM(nn.Module):
    """ConvLSTM without norms: one convolution of input and hidden state. The dense-prior variant has one at 1 px."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(inputs + hidden, 4 * hidden, 3, padding=1)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """As `ConvLSTM.forward`."""
        hidden, cell = state
        outputs = []
        for x in inputs.unbind(1):
            gates = self.gates(torch.cat([x, hidden], dim=1))
            cell = _new_cell(gates, cell)
            hidden = _output_gate(gates) * torch.tanh(cell)
            outputs.append(hidden)
        return torch.stack(outputs, dim=1), (hidden, cell)


class InitialState(nn.Module):
    """The state that a ConvLSTM starts from, computed from the context embeddings of its level.

    Args:
        frames: number of context frames; their channels are joined, those of the first frame first.
        width: channels of an embedding.
        hidden: h of the ConvLSTM.
        groups: of the last norm.
        block_groups: of the norm before.
        kernel: side of the first convolution.
    """

    def __init__(self, frames: int, width: int, hidden: int, groups: int, block_groups: int, kernel: int = 1) -> None:
        super().__init__()
        joined = frames * width
        self.join = Block(nn.Conv2d(joined, joined, kernel, padding=kernel // 2), block_groups)
        self.project = nn.Conv2d(joined, 2 * hidden, 1)
        self.norm = nn.GroupNorm(groups, 2 * hidden)

    def forward(self, context: Tensor) -> State:
        """`[B, frames, width, H, W]` -> hidden and cell."""
        hidden, cell = self.norm(self.project(self.join(context.flatten(1, 2)))).chunk(2, dim=1)
        return hidden, cell


def _new_cell(gates: Tensor, cell: Tensor) -> Tensor:
    enter, keep, _, candidate = gates.chunk(4, dim=1)
    return torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(candidate)


def _output_gate(gates: Tensor) -> Tensor:
    return torch.sigmoid(gates.chunk(4, dim=1)[2])


def _initialise_as_released(conv: nn.ConvTranspose2d) -> None:
    """The bound of PyTorch 0.4, for which the model was written: the fan counted from the input channels."""
    bound = 1 / math.sqrt(conv.in_channels * conv.kernel_size[0] * conv.kernel_size[1])
    nn.init.uniform_(conv.weight, -bound, bound)
    if conv.bias is not None:
        nn.init.uniform_(conv.bias, -bound, bound)
