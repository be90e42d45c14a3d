"""The steps of a convolutional GRU with a gradient of its own, for training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from methods.convolution import input_gradient, outputs, point_memory, point_product, refuse_graph, transform_weight


class Arithmetic(NamedTuple):
    """How 3x3 convolutions of stride 1 and padding 1 and their gradients are computed.

    Attributes:
        outputs: of x and the weight. The last argument is where x is kept for `of_weight`, or None.
        of_input: the gradient for x from that of the outputs and the weight; the last argument likewise.
        of_weight: the gradient for the weight from all x and all gradients of the outputs, and the weight.
        memory: for what is kept of `[B, C, H, W]` with so many channels in so many steps, steps second; None where
            nothing is kept, and `of_weight` takes the maps themselves.
    """

    outputs: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    of_input: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    of_weight: Callable[[Tensor, Tensor, Tensor], Tensor]
    memory: Callable[[Tensor, int, int], Tensor | None]


PLAIN = Arithmetic(
    outputs=lambda x, weight, _: F.conv2d(x, weight, padding=1),
    of_input=lambda gradient, weight, _: F.conv_transpose2d(gradient, weight, padding=1),
    of_weight=lambda x, gradient, weight: conv2d_weight(x, weight.shape, gradient, padding=1),
    memory=lambda like, channels, steps: None,
)
"""PyTorch's kernels, on weights `[O, C, 3, 3]`."""

TILED = Arithmetic(
    outputs=lambda x, weight, kept: outputs(x, weight, kept=kept),
    of_input=input_gradient,
    of_weight=lambda x, gradient, _: point_product(x, gradient),
    memory=point_memory,
)
"""Transforms of tiles (`methods/convolution.py`), on weights at their points, `[36, O, C]`. The transforms of each step
are kept, since the gradient for the weight takes the same ones."""


def roll(drives: Sequence[Tensor], state: Tensor, gating: Tensor, candidate: Tensor, tiled: bool) -> Tensor:
    """The states after each step, time first, `[T B, C, H, W]`; see `ConvGRUCell`.

    The same as step after step, but the weights are transformed, or brought into the precision and layout of the
    arithmetic, once, and their gradients summed once over all steps: a product of matrices that is T times as long
    takes far less than T times as long.

    Args:
        drives: of each of the T steps, what the inputs add to z, r and c before their nonlinearities,
            `[B, 3 C, H, W]`. Convolutions are computed in their type, states kept in that of `state`.
        state: `[B, C, H, W]`.
        gating: the filters of the state in z and r, `[2 C, C, 3, 3]`.
        candidate: that of r h in c, `[C, C, 3, 3]`.
        tiled: whether by TILED arithmetic; else PLAIN.
    """
    if tiled:
        return cast(Tensor, _Roll.apply(TILED, state, transform_weight(gating), transform_weight(candidate), *drives))
    layout = torch.channels_last if state.device.type == "cuda" else torch.contiguous_format
    gating, candidate = (w.to(drives[0].dtype, memory_format=layout) for w in (gating, candidate))
    return cast(Tensor, _Roll.apply(PLAIN, state.contiguous(memory_format=layout), gating, candidate, *drives))


class _Roll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, arithmetic: Arithmetic, first: Tensor, gating: Tensor, candidate: Tensor, *drives: Tensor
    ) -> Tensor:
        channels, steps, kind = first.shape[1], len(drives), drives[0].dtype
        states = _for_steps(first, steps, channels)
        contents, gates = (_for_steps(first, steps, width, kind) for width in (channels, 2 * channels))
        kept = [arithmetic.memory(drives[0], channels, steps) for _ in range(2)]
        state = first
        with torch.autocast(first.device.type, enabled=False):
            for step, drive in enumerate(drives):
                gate_drive, out_drive = drive.split([2 * channels, channels], dim=1)
                gate = torch.add(
                    arithmetic.outputs(state.to(kind), gating, _of_step(kept[0], step)), gate_drive, out=gates[step]
                ).sigmoid_()
                update, reset = gate.chunk(2, dim=1)
                inner = arithmetic.outputs((reset * state).to(kind), candidate, _of_step(kept[1], step))
                content = torch.add(inner, out_drive, out=contents[step]).tanh_()
                state = torch.lerp(state, content.to(state.dtype), update.to(state.dtype), out=states[step])
        ctx.arithmetic = arithmetic
        ctx.save_for_backward(first, gating, candidate, states, contents, gates, *kept)
        return states.flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        refuse_graph()
        arithmetic: Arithmetic = ctx.arithmetic
        first, gating, candidate, states, contents, gates, *kept = ctx.saved_tensors
        steps, _, channels = states.shape[:3]
        kind = gates.dtype
        updates, resets = gates.chunk(2, dim=2)
        before = _for_steps(first, steps, channels, kind)
        before[0], before[1:] = first, states[:-1]
        driven = _for_steps(first, steps, 3 * channels, kind)
        of_update, of_reset, of_content = driven.split(channels, dim=2)
        of_gates_kept, of_content_kept = (arithmetic.memory(first, width, steps) for width in (2 * channels, channels))
        moved = torch.zeros_like(first)
        for step in reversed(range(steps)):
            moved = moved + gradient.view_as(states)[step]
            update, reset, content = updates[step], resets[step], contents[step]
            torch.mul(moved * update, 1 - content.square(), out=of_content[step])
            torch.mul(moved * (content - before[step]), update - update.square(), out=of_update[step])
            of_inner = arithmetic.of_input(of_content[step], candidate, _of_step(of_content_kept, step))
            torch.mul(of_inner * before[step], reset - reset.square(), out=of_reset[step])
            of_gates = arithmetic.of_input(driven[step, :, : 2 * channels], gating, _of_step(of_gates_kept, step))
            moved = moved * (1 - update) + of_inner * reset + of_gates
        if of_gates_kept is None or of_content_kept is None:
            of_gates_kept, of_content_kept = driven.flatten(0, 1).split([2 * channels, channels], dim=1)
            kept = [before.flatten(0, 1), (resets * before).flatten(0, 1)]
        of_gating = arithmetic.of_weight(kept[0], of_gates_kept, gating)
        of_candidate = arithmetic.of_weight(kept[1], of_content_kept, candidate)
        return None, moved, of_gating, of_candidate, *driven


def _of_step(kept: Tensor | None, step: int) -> Tensor | None:
    return None if kept is None else kept[:, step]


def _for_steps(like: Tensor, steps: int, channels: int, kind: torch.dtype | None = None) -> Tensor:
    """New memory for `[T, B, channels, H, W]`, each step laid out as `like`, in its type unless `kind` is given."""
    batch, _, height, width = like.shape
    kind = kind or like.dtype
    if like.is_contiguous():
        return like.new_empty((steps, batch, channels, height, width), dtype=kind)
    return like.new_empty((steps, batch, height, width, channels), dtype=kind).permute(0, 1, 4, 2, 3)
