"""SAVP's prediction as its description reads, one sample at a time: for comparing results and speed.

Convolve, then pool; upsample, then convolve; shift the image once for every tap; encode the context for each sample.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from methods.interface import Conditioning
from methods.savp.network import Cell, Generator


def plain_prediction(generator: Generator, given: Conditioning, samples: int, seed: int) -> Tensor:
    """As `Savp.predict` for a model with latents and two context frames."""
    clips = []
    for row, noise in enumerate(given.generators(seed)):
        context = given.context[row : row + 1]
        clips.append(torch.cat([_sample(generator, context, given.horizon, noise) for _ in range(samples)]))
    return torch.stack(clips)


def _sample(generator: Generator, context: Tensor, horizon: int, noise: torch.Generator) -> Tensor:
    assert generator.lstm_z is not None
    mean, log_variance = generator.posterior(context)
    latents = torch.randn(1, 1 + horizon, mean.shape[2], generator=noise)
    latents = torch.cat([mean + (0.5 * log_variance).exp() * latents[:, :1], latents[:, 1:]], 1)
    seen, _ = generator.lstm_z(latents, None)
    states = list(generator.cell.initial(context[:, 0]))
    frames = [context[:, 1]]
    for step in range(1 + horizon):
        image = context[:, step] if step < 2 else frames[-1]
        made = _step(generator.cell, image, context[:, 0], seen[:, step], states)
        if step:
            frames.append(made)
    return torch.stack(frames[1:], 1).clamp(0, 1)


def _step(cell: Cell, image: Tensor, first: Tensor, z: Tensor, states: list[tuple[Tensor, Tensor]]) -> Tensor:
    def tiled(*features: Tensor) -> Tensor:
        return torch.cat([*features, z[:, :, None, None].expand(-1, -1, *features[0].shape[2:])], 1)

    def lstm(number: int, features: Tensor) -> Tensor:
        states[number] = getattr(cell, f"lstm_h{number}")(tiled(features), states[number])
        return states[number][1]

    def down(name: str, *features: Tensor) -> Tensor:
        block = getattr(cell, name)
        made = functional.conv2d(tiled(*features), block.conv.weight, padding="same")
        return functional.relu(block.norm(functional.avg_pool2d(made, 2) + block.conv.bias[:, None, None]))

    def up(name: str, *features: Tensor) -> Tensor:
        block = getattr(cell, name)
        bordered = functional.pad(tiled(*features), (1, 1, 1, 1))
        wide = functional.interpolate(bordered, scale_factor=2, mode="bilinear")[..., 1:-1, 1:-1]
        return functional.relu(block.norm(functional.conv2d(wide, block.conv.weight, block.conv.bias)))

    def same(name: str, features: Tensor) -> Tensor:
        block = getattr(cell, name)
        return functional.relu(block.norm(functional.conv2d(features, block.conv.weight, block.conv.bias, padding=1)))

    high = lstm(0, down("h0", image, first))
    middle = lstm(1, down("h1", high))
    low = lstm(2, down("h2", middle))
    full = up("h5", lstm(4, up("h4", lstm(3, up("h3", low)), middle)), high)
    raw = cell.cdna_kernels(low.flatten(1)).view(-1, 5, 5, 4)
    raw[:, 2, 2] += 1
    kernels = functional.relu(raw - 1e-12) + 1e-12
    kernels = kernels / kernels.sum((1, 2), keepdim=True)
    rows = torch.cat([image[:, :, :2].flip(2), image, image[:, :, -2:].flip(2)], 2)
    padded = torch.cat([rows[..., :2].flip(3), rows, rows[..., -2:].flip(3)], 3)
    candidates = []
    for k in range(4):
        taps = [
            kernels[:, r, c, k, None, None, None] * padded[:, :, r : r + 64, c : c + 64]
            for r in range(5)
            for c in range(5)
        ]
        candidates.append(torch.stack(taps).sum(0))
    candidates += [image, first, cell.scratch_image(same("h6_scratch", full)).sigmoid()]
    masks = cell.masks(torch.cat([same("h6_masks", full), *candidates], 1)).softmax(1)
    return sum((masks[:, n : n + 1] * candidate for n, candidate in enumerate(candidates)), torch.zeros_like(image))
