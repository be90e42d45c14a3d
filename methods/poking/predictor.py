"""The object dynamics model: convolutional GRUs, each driven by the one below it (section 3.1 of the paper)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from math import inf
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.convolution import convolve, outputs, pays, transform_weight
from methods.poking.config import NetworkConfig
from methods.poking.recurrence import roll
from methods.precision import full

Convolve = Callable[[Tensor], Tensor]
Step = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""`plain_step`, or its compiled form."""


class Convolutions(NamedTuple):
    """Those of a cell, without biases: of what drives it, of its state for z and r, and of r h for c."""

    drive: Convolve
    gating: Convolve
    candidate: Convolve


class ConvGRUCell(nn.Module):
    """One level: h' = (1 - z) h + z c, with 3x3 convolutions over [input, state] and zero padding.

    z = sigmoid(update_gate[u, h] - hold), r = sigmoid(reset_gate[u, h]), c = tanh(out_gate[u, r h]). A convolution
    of two inputs is the sum of one of each, so the shares of u for all steps are computed together by `drive`, and a
    step computes those of h alone, z and r in one convolution.
    """

    def __init__(self, inputs: int, channels: int, upsampled: bool = False, hold: float = 0.0) -> None:
        super().__init__()
        self.inputs, self.hold = inputs, hold
        self.reset_gate, self.update_gate, self.out_gate = (
            nn.Conv2d(inputs + channels, channels, 3, padding=1) for _ in range(3)
        )
        self.up_gate = nn.ConvTranspose2d(inputs, inputs, 3, 2, 1, 1) if upsampled else None
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.orthogonal_(parameter)
            else:
                nn.init.zeros_(parameter)

    def drive(self, inputs: Tensor) -> Tensor:
        """The shares of `inputs` `[N, inputs, h, w]` in z, r and c before their nonlinearities, with their biases.

        Returns:
            `[N, 3 channels, H, W]`, H and W those of the state.
        """
        if self.up_gate is not None:
            inputs = self.up_gate(inputs)
        return convolve(inputs, self._driving(), self.biases())

    def drives(self, inputs: Sequence[Tensor], transformed: Convolutions) -> list[Tensor]:
        """The same for the inputs of each step, by transformed convolutions."""
        raised = inputs if self.up_gate is None else map(self.up_gate, inputs)
        biases = self.biases()[:, None, None]
        return [transformed.drive(one).add_(biases) for one in raised]

    def convolutions(self) -> Convolutions:
        """As they are."""
        return Convolutions(*(partial(F.conv2d, weight=weight, padding=1) for weight in self._weights()))

    def transformed(self) -> Convolutions:
        """The same by transforms of tiles, the weights transformed once; without a graph."""
        return Convolutions(*(partial(outputs, weight=transform_weight(weight.detach())) for weight in self._weights()))

    def _driving(self) -> Tensor:
        return torch.cat([g.weight[:, : self.inputs] for g in (self.update_gate, self.reset_gate, self.out_gate)])

    def _weights(self) -> tuple[Tensor, Tensor, Tensor]:
        gating = torch.cat([self.update_gate.weight[:, self.inputs :], self.reset_gate.weight[:, self.inputs :]])
        return self._driving(), gating, self.out_gate.weight[:, self.inputs :]

    def biases(self) -> Tensor:
        """Those of z, r and c, `[3 channels]`."""
        update, *others = (cast(Tensor, g.bias) for g in (self.update_gate, self.reset_gate, self.out_gate))
        return torch.cat([update - self.hold if self.hold else update, *others])

    def forward(
        self,
        drives: Sequence[Tensor],
        state: Tensor,
        convolutions: Convolutions | None = None,
        step: Step | None = None,
    ) -> Tensor:
        """The states after each step, time first, `[T B, channels, H, W]`.

        Args:
            drives: of each step, `[B, 3 channels, H, W]`.
            state: `[B, channels, H, W]`.
            convolutions: None: as they are.
            step: what takes the steps of convolutions as they are; None: `plain_step`.
        """
        states = []
        if convolutions is None and torch.is_grad_enabled():
            _, *weights = self._weights()
            tiled = pays(state, weights[1].shape, len(drives))
            if weights[1].requires_grad and (tiled or state.is_cuda):
                return roll(drives, full(state), weights[0], weights[1], tiled=tiled)
        if convolutions is None and step is not None:
            _, *weights = self._weights()
            for drive in drives:
                state = step(state.contiguous(), drive.contiguous(), *weights)
                states.append(state)
            return torch.cat(states)
        _, gating, candidate = convolutions or self.convolutions()
        for drive in drives:
            state = _stepped(state, drive, gating, candidate)
            states.append(state)
        return torch.cat(states)


def plain_step(state: Tensor, drive: Tensor, gating: Tensor, candidate: Tensor) -> Tensor:
    """The state after one step of a cell.

    Args:
        state: `[B, C, H, W]`.
        drive: `[B, 3 C, H, W]`.
        gating, candidate: the filters of the state, `[2 C, C, 3, 3]`, and of r h, `[C, C, 3, 3]`.
    """
    return _stepped(state, drive, *(partial(F.conv2d, weight=weight, padding=1) for weight in (gating, candidate)))


def _stepped(state: Tensor, drive: Tensor, gating: Convolve, candidate: Convolve) -> Tensor:
    channels = state.shape[1]
    gate_drive, out_drive = drive.split([2 * channels, channels], dim=1)
    update, reset = torch.sigmoid(gating(state) + gate_drive).chunk(2, dim=1)
    content = torch.tanh(candidate(reset * state) + out_drive)
    return torch.lerp(state, content.to(state.dtype), update.to(state.dtype))  # mixed precision: as x0's


class Predictor(nn.Module):
    """All levels. A level needs nothing of those above it, so each runs through all steps before the next begins."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.bottleneck_only = config.predictor == "rnn"
        if self.bottleneck_only:
            cells = [ConvGRUCell(config.width, config.width, hold=config.hold) for _ in range(config.rnn_cells)]
        else:
            channels = [config.width, *(shape[0] for shape in config.state_shapes)]
            cells = [
                ConvGRUCell(low, high, upsampled=level >= 2, hold=config.hold)
                for level, (low, high) in enumerate(pairwise(channels))
            ]
        self.cells = nn.ModuleList(cells)

    def transformed(self, states: Sequence[Tensor]) -> list[Convolutions] | None:
        """The convolutions of all cells by transforms of tiles, for many roll-outs; None where plain ones are faster.

        Args:
            states: those of x0, as `forward` takes them.
        """
        cells = cast(Sequence[ConvGRUCell], self.cells)
        levels = [states[0]] * len(cells) if self.bottleneck_only else states
        shapes = [(cell.inputs, state.shape[1]) for cell, state in zip(cells, levels, strict=True)]
        if not all(pays(state, shape, uses=inf) for state, shape in zip(levels, shapes, strict=True)):
            return None
        return [cell.transformed() for cell in cells]

    def forward(
        self,
        states: Sequence[Tensor],
        phi: Tensor,
        strengths: Sequence[float],
        convolutions: Sequence[Convolutions] | None = None,
        step: Step | None = None,
    ) -> list[Tensor]:
        """Rolls out one step for each of `strengths`.

        Args:
            states: those of x0, lowest level first, level n `[B, C_n, H_n, W_n]`.
            phi: `[B, width, min_side, min_side]`.
            strengths: what phi is multiplied by in each step.
            convolutions: what `transformed` gave; None: as they are.
            step: as in `ConvGRUCell.forward`.

        Returns:
            For each level the states of x1..xT, time first: `[T B, C_n, H_n, W_n]`. The ablation with its RNN at the
            bottleneck starts all cells from the only state and returns that of the last cell.
        """
        cells = cast(Sequence[ConvGRUCell], self.cells)
        levels = [states[0]] * len(cells) if self.bottleneck_only else states
        driven = cells[0].drive(phi)
        silent = cells[0].biases()[:, None, None].expand_as(driven).to(driven.dtype)
        by_strength = {one: driven if one == 1 else torch.lerp(silent, driven, one) for one in set(strengths)}
        drives: Sequence[Tensor] = [by_strength[one] for one in strengths]
        outcome: list[Tensor] = []
        for index, (cell, state) in enumerate(zip(cells, levels, strict=True)):
            chosen = None if convolutions is None else convolutions[index]
            if index and chosen is None:
                drives = cell.drive(outcome[-1]).split(len(state))
            elif index and chosen is not None:
                drives = cell.drives(outcome[-1].split(len(state)), chosen)
            outcome.append(cell(drives, state, chosen, step))
        return outcome[-1:] if self.bottleneck_only else outcome


def strengths(config: NetworkConfig, horizon: int) -> tuple[float, ...]:
    """What phi is multiplied by in the steps 0..horizon - 1; see `NetworkConfig.phi`."""
    end = config.phi_frames or horizon
    steps = range(horizon)
    if config.phi == "first":
        return tuple(float(t == 0) for t in steps)
    if config.phi == "linear":
        return tuple(max(0.0, 1 - t / end) for t in steps)
    if config.phi == "step":
        return tuple(float(t < end) for t in steps)
    return (1.0,) * horizon
