"""The object dynamics model: convolutional GRUs, each driven by the one below it (section 3.1 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from methods.poking.config import NetworkConfig


class ConvGRUCell(nn.Module):
    """One level: h' = (1 - z) h + z c, with 3x3 convolutions over [input, state] and zero padding.

    z = sigmoid(update_gate[u, h]), r = sigmoid(reset_gate[u, h]), c = tanh(out_gate[u, r h]). A convolution of two
    inputs is the sum of one of each, so the shares of u for all steps are computed together by `drive`, and a
    step computes those of h alone, z and r in one convolution.
    """

    def __init__(self, inputs: int, channels: int, upsampled: bool = False) -> None:
        super().__init__()
        self.inputs = inputs
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
        gates = (self.update_gate, self.reset_gate, self.out_gate)
        return F.conv2d(inputs, torch.cat([gate.weight[:, : self.inputs] for gate in gates]), self.biases(), padding=1)

    def biases(self) -> Tensor:
        """Those of z, r and c, `[3 channels]`."""
        biases = (self.update_gate.bias, self.reset_gate.bias, self.out_gate.bias)
        return torch.cat([cast(Tensor, bias) for bias in biases])

    def forward(self, drives: Tensor, state: Tensor) -> Tensor:
        """The states after each step, time first, `[T B, channels, H, W]`.

        Args:
            drives: of each step, with biases, `[T, B, 3 channels, H, W]`.
            state: `[B, channels, H, W]`.
        """
        gating = torch.cat([self.update_gate.weight[:, self.inputs :], self.reset_gate.weight[:, self.inputs :]])
        candidate = self.out_gate.weight[:, self.inputs :]
        if torch.is_autocast_enabled(state.device.type):
            return _recurrence(drives, state, gating, candidate)[0].flatten(0, 1)
        return GRURollout.apply(drives, state, gating, candidate).flatten(0, 1)


def _recurrence(
    drives: Tensor, state: Tensor, gating: Tensor, candidate: Tensor
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The states `[T, B, C, H, W]` after each step, and of each step z and r together, and c."""
    channels = state.shape[1]
    states, gates, contents = [], [], []
    for drive in drives:
        gate_drive, out_drive = drive.split([2 * channels, channels], dim=1)
        gate = torch.sigmoid(F.conv2d(state, gating, padding=1) + gate_drive)
        update, reset = gate.chunk(2, dim=1)
        content = torch.tanh(F.conv2d(reset * state, candidate, padding=1) + out_drive)
        state = torch.lerp(state, content, update)
        states.append(state)
        gates.append(gate)
        contents.append(content)
    return torch.stack(states), gates, contents


class GRURollout(torch.autograd.Function):
    """`_recurrence` whose backward pass makes the gradients of the weights once for all steps.

    Autograd would convolve for the gradient of each weight in every step, on few clips at a time, and add the results:
    at full size a third of the time of the backward pass. The inputs' gradients are made step by step as they must be.
    """

    @staticmethod
    def forward(ctx: Any, drives: Tensor, state: Tensor, gating: Tensor, candidate: Tensor) -> Tensor:
        states, gates, contents = _recurrence(drives, state, gating, candidate)
        ctx.save_for_backward(state, gating, candidate, states, torch.stack(gates), torch.stack(contents))
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        first, gating, candidate, states, gates, contents = ctx.saved_tensors
        steps, channels = len(states), first.shape[1]
        before = torch.cat([first.expand_as(states[0])[None], states[:-1]])
        update, reset = gates.split(channels, dim=2)
        pre = torch.empty(steps, first.shape[0], 3 * channels, *first.shape[2:], dtype=first.dtype, device=first.device)
        carried = torch.zeros_like(states[0])
        for t in reversed(range(steps)):
            z, r, c, h = update[t], reset[t], contents[t], before[t]
            grad = outer[t] + carried
            pre_z, pre_r, pre_c = pre[t].split(channels, dim=1)
            torch.mul(grad * z, 1 - c.square(), out=pre_c)
            masked = _input_gradient(h, candidate, pre_c)
            torch.mul(grad * (c - h), z * (1 - z), out=pre_z)
            torch.mul(masked * h, r * (1 - r), out=pre_r)
            carried = grad * (1 - z) + masked * r + _input_gradient(h, gating, pre[t, :, : 2 * channels])
        weights: list[Tensor | None] = [None, None]
        if ctx.needs_input_grad[2]:
            weights[0] = _weight_gradient(before, gating, pre[:, :, : 2 * channels])
        if ctx.needs_input_grad[3]:
            weights[1] = _weight_gradient(reset * before, candidate, pre[:, :, 2 * channels :])
        return pre, carried, *weights


def _input_gradient(inputs: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
    """Of a 3x3 convolution with padding 1."""
    return _convolution_gradients(grad, inputs, weight, [True, False, False])[0]


def _weight_gradient(inputs: Tensor, weight: Tensor, grad: Tensor) -> Tensor:
    """Likewise, over all steps: `inputs` and `grad` are `[T, B, ...]`."""
    return _convolution_gradients(grad.flatten(0, 1), inputs.flatten(0, 1), weight, [False, True, False])[1]


def _convolution_gradients(grad: Tensor, inputs: Tensor, weight: Tensor, wanted: list[bool]) -> list[Tensor]:
    one, none = [1, 1], [0, 0]
    return torch.ops.aten.convolution_backward(grad, inputs, weight, None, one, one, one, False, none, 1, wanted)


class Predictor(nn.Module):
    """All levels. A level needs nothing of those above it, so each runs through all steps before the next begins."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.bottleneck_only = config.predictor == "rnn"
        if self.bottleneck_only:
            cells = [ConvGRUCell(config.width, config.width) for _ in range(config.rnn_cells)]
        else:
            channels = [config.width, *(shape[0] for shape in config.state_shapes)]
            cells = [
                ConvGRUCell(low, high, upsampled=level >= 2) for level, (low, high) in enumerate(pairwise(channels))
            ]
        self.cells = nn.ModuleList(cells)

    def forward(self, states: Sequence[Tensor], phi: Tensor, strengths: Sequence[float]) -> list[Tensor]:
        """Rolls out one step for each of `strengths`.

        Args:
            states: those of x0, lowest level first, level n `[B, C_n, H_n, W_n]`.
            phi: `[B, width, min_side, min_side]`.
            strengths: what phi is multiplied by in each step.

        Returns:
            For each level the states of x1..xT, time first: `[T B, C_n, H_n, W_n]`. The ablation with its RNN at the
            bottleneck starts all cells from the only state and returns that of the last cell.
        """
        cells = cast(Sequence[ConvGRUCell], self.cells)
        levels = [states[0]] * len(cells) if self.bottleneck_only else states
        driven = cells[0].drive(phi)
        silent = cells[0].biases()[:, None, None].expand_as(driven).to(driven.dtype)
        by_strength = {one: driven if one == 1 else torch.lerp(silent, driven, one) for one in set(strengths)}
        if len(by_strength) == 1:
            drives = by_strength[strengths[0]].expand(len(strengths), *driven.shape)
        else:
            drives = torch.stack([by_strength[one] for one in strengths])
        outcome: list[Tensor] = []
        for index, (cell, state) in enumerate(zip(cells, levels, strict=True)):
            if index:
                drives = cell.drive(outcome[-1]).unflatten(0, (len(strengths), -1))
            outcome.append(cell(drives, state))
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
