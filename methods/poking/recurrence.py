"""The steps of a convolutional GRU with a gradient of its own, for training on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from methods.convolution import gradients, input_gradient, outputs, refuse_graph, transform_weight


def roll(drives: Sequence[Tensor], state: Tensor, gating: Tensor, candidate: Tensor) -> Tensor:
    """The states after each step, time first, `[T B, C, H, W]`; see `ConvGRUCell`.

    The same as step after step through `convolve`, but the weights are transformed once, and their gradients summed
    once over all steps: a product of matrices that is T times as long takes far less than T times as long.

    Args:
        drives: of each of the T steps, what the inputs add to z, r and c before their nonlinearities,
            `[B, 3 C, H, W]`.
        state: `[B, C, H, W]`.
        gating: the filters of the state in z and r, `[2 C, C, 3, 3]`.
        candidate: that of r h in c, `[C, C, 3, 3]`.
    """
    found = _Roll.apply(state, transform_weight(gating), transform_weight(candidate), *drives)
    return cast(Tensor, found)


class _Roll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, first: Tensor, gating: Tensor, candidate: Tensor, *drives: Tensor) -> Tensor:
        batch, channels = first.shape[:2]
        shape = (len(drives), batch, channels, *first.shape[2:])
        states, contents = first.new_empty(shape), first.new_empty(shape)
        gates = first.new_empty((len(drives), batch, 2 * channels, *first.shape[2:]))
        state = first
        for step, drive in enumerate(drives):
            gate_drive, out_drive = drive.split([2 * channels, channels], dim=1)
            gate = torch.add(outputs(state, gating), gate_drive, out=gates[step]).sigmoid_()
            update, reset = gate.chunk(2, dim=1)
            content = torch.add(outputs(reset * state, candidate), out_drive, out=contents[step]).tanh_()
            state = torch.lerp(state, content, update, out=states[step])
        ctx.save_for_backward(first, gating, candidate, states, contents, gates)
        return states.flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        refuse_graph()
        first, gating, candidate, states, contents, gates = ctx.saved_tensors
        steps, _, channels = states.shape[:3]
        before = torch.cat([first[None], states[:-1]])
        updates, resets = gates.chunk(2, dim=2)
        inner = resets * before
        driven = gates.new_empty((steps, len(first), 3 * channels, *first.shape[2:]))
        of_update, of_reset, of_content = driven.split(channels, dim=2)
        moved = torch.zeros_like(first)
        for step in reversed(range(steps)):
            moved = moved + gradient.view_as(states)[step]
            update, reset, content = updates[step], resets[step], contents[step]
            torch.mul(moved * update, 1 - content.square(), out=of_content[step])
            torch.mul(moved * (content - before[step]), update - update.square(), out=of_update[step])
            of_inner = input_gradient(of_content[step], candidate)
            torch.mul(of_inner * before[step], reset - reset.square(), out=of_reset[step])
            of_gates = input_gradient(driven[step, :, : 2 * channels], gating)
            moved = moved * (1 - update) + of_inner * reset + of_gates
        all_steps = [part.flatten(0, 1) for part in (before, driven, inner)]
        _, of_gating = gradients(all_steps[0], all_steps[1][:, : 2 * channels], gating, of_x=False)
        _, of_candidate = gradients(all_steps[2], all_steps[1][:, 2 * channels :], candidate, of_x=False)
        return moved, of_gating, of_candidate, *driven
