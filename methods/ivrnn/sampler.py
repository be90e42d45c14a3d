"""How an IVRNN predicts: the incremental sampler, and the authors' procedure.

Both take the context frames alone. Their first frames are the same function of the noise, and with every latent at its
mean all frames are. Beyond that their joint distributions differ: the authors' procedure draws the latents of earlier
steps anew for each frame, while the incremental sampler keeps those that made the frames already predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from methods.ivrnn.config import TOP, Latent
from methods.ivrnn.layers import State
from methods.ivrnn.network import ImprovedVRNN

Noise = Callable[[int], list[Tensor]]
"""Given a number T of steps, the next standard normal numbers by level of latents, each `[B * S, T, c, H, W]`."""


def show(
    network: ImprovedVRNN, top: Tensor, features: list[Tensor], noise: list[Tensor] | None, states: list[State]
) -> tuple[Tensor, list[State]]:
    """The next frame, and the states of the renderer after it."""
    _, latents = network.draw(network.prior, features, noise)
    return network.render(top, latents, states)


def look(network: ImprovedVRNN, frame: Tensor, states: list[State]) -> tuple[Tensor, list[Tensor], list[State]]:
    """What the next step needs of a frame: its top embedding, the features and states of the prior."""
    embeddings = network.encode(frame)
    features, states = network.features(network.prior, embeddings, states)
    return embeddings[TOP], features, states


class Steps(NamedTuple):
    """The two halves of a step, or their compiled forms."""

    show: Callable[..., tuple[Tensor, list[State]]] = show
    look: Callable[..., tuple[Tensor, list[Tensor], list[State]]] = look


@torch.no_grad()
def incremental(
    network: ImprovedVRNN,
    context: Tensor,
    horizon: int,
    samples: int,
    noise: Noise | None,
    steps: Steps = Steps(),  # noqa: B008 - immutable
) -> Tensor:
    """Predicts frame after frame and carries the states on: the cost is linear in the horizon.

    Args:
        context: `[B, C, 3, 64, 64]` in [0, 1]. All samples of a clip share its encoding.
        noise: asked for one step at a time; None: every latent is its mean.
        steps: what computes a step.

    Returns:
        `[B * S, T, 3, 64, 64]`, the samples of a clip side by side.
    """
    embeddings = network.encode(context)
    render_states = network.start_renderer(embeddings)
    last = [embedding[:, -1:] for embedding in embeddings]
    features, prior_states = network.features(network.prior, last, network.start(network.prior, embeddings))
    top = _repeated(last[TOP], samples)
    features = [_repeated(feature, samples) for feature in features]
    prior_states, render_states = _repeated_states(prior_states, samples), _repeated_states(render_states, samples)
    frames: list[Tensor] = []
    while True:
        frame, render_states = steps.show(network, top, features, None if noise is None else noise(1), render_states)
        frames.append(frame)
        if len(frames) == horizon:
            return torch.cat(frames, dim=1)
        top, features, prior_states = steps.look(network, frame, prior_states)


@torch.no_grad()
def released(network: ImprovedVRNN, context: Tensor, horizon: int, samples: int, noise: Noise | None) -> Tensor:
    """The authors' procedure: a pass over the whole clip, future frames 0 at first, for each predicted frame.

    The authors also evaluate the posterior in each pass and discard it; that is left out.

    Args:
        context: `[B, C, 3, 64, 64]` in [0, 1].
        noise: asked for `horizon` steps in each of the `horizon` passes; None: every latent is its mean.

    Returns:
        As `incremental`.
    """
    count = context.shape[1]
    clip = _repeated(torch.cat([context, context.new_zeros(len(context), horizon, *context.shape[2:])], dim=1), samples)
    for step in range(horizon):
        predicted, _ = network.prior_pass(clip, None if noise is None else noise(horizon))
        clip[:, count + step] = predicted[:, step]
    return clip[:, count:]


SAMPLERS = {"incremental": incremental, "released": released}


class SampleNoise:
    """Noise that depends on clip and sample alone, neither on the number of samples nor on the batch.

    Args:
        generators: one a clip; each gives one seed a sample, in order.
        samples: of each clip.
        latents: the levels.
        device: where the numbers go; they are drawn on the CPU.
    """

    def __init__(
        self, generators: Sequence[torch.Generator], samples: int, latents: Sequence[Latent], device: torch.device
    ) -> None:
        self._generators = [_child(generator) for generator in generators for _ in range(samples)]
        self._latents, self._device = latents, device

    def __call__(self, steps: int) -> list[Tensor]:
        """The next `steps` steps, see `Noise`. Step by step and all at once give the same numbers."""
        rows = len(self._generators)
        found = [torch.empty(rows, steps, z.channels, z.side, z.side) for z in self._latents]
        for row, generator in enumerate(self._generators):
            for step in range(steps):
                for level in found:
                    torch.randn(level.shape[2:], generator=generator, out=level[row, step])
        return [level.to(self._device) for level in found]


def _child(generator: torch.Generator) -> torch.Generator:
    seed = torch.randint(2**63 - 1, (), generator=generator)
    return torch.Generator().manual_seed(int(seed))


def _repeated(x: Tensor, samples: int) -> Tensor:
    return x.repeat_interleave(samples, dim=0)


def _repeated_states(states: Sequence[State], samples: int) -> list[State]:
    return [(_repeated(hidden, samples), _repeated(cell, samples)) for hidden, cell in states]
