"""The generator of SAVP: the posterior encoder, and the recurrent cell that makes one frame a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from methods.recompute import light
from methods.savp.config import SavpConfig
from methods.savp.layers import (
    Block,
    ConvLstm,
    Convolution,
    DownConvolution,
    InstanceNorm,
    LatentLstm,
    UpConvolution,
    transformation_kernels,
    transformed,
    truncated_normal_,
    with_latent,
)

TRANSFORMATIONS = 4
CANDIDATES = TRANSFORMATIONS + 3
"""Images that are blended: the transformed ones, the previous frame, the first frame, the scratch image."""

LOG_VARIANCE_BOUND = 10.0

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class State:
    """What a rollout carries from step to step.

    Attributes:
        first: x_0, `[N, 3, H, W]`.
        frame: the last prediction, `[N, 3, H, W]`; None before the first.
        cells: (cell, hidden) of the five convolutional LSTMs; empty before the first step.
        latent: (cell, hidden) of the LSTM over latents; None: zeros.
    """

    first: Tensor
    frame: Tensor | None = None
    cells: tuple[Pair, ...] = ()
    latent: Pair | None = None

    def repeated(self, times: int) -> State:
        """The N rollouts `times` times, one after another: `[times N, ...]`."""

        def again(value: Tensor) -> Tensor:
            return value.repeat(times, *[1] * (value.ndim - 1))

        return State(
            again(self.first),
            None if self.frame is None else again(self.frame),
            tuple((again(cell), again(hidden)) for cell, hidden in self.cells),
            self.latent and (again(self.latent[0]), again(self.latent[1])),
        )


class Encoder(nn.Module):
    """The posterior q(z_t | x_t, x_{t+1}): a Gaussian for each pair of consecutive frames."""

    def __init__(self, width: int, latent: int) -> None:
        super().__init__()
        self.layer_1 = nn.Conv2d(6, width, 4, stride=2, padding=1)
        self.layer_2 = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)
        self.layer_3 = nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1)
        self.norm_2 = InstanceNorm(2 * width)
        self.norm_3 = InstanceNorm(4 * width)
        self.z_mu = nn.Linear(4 * width, latent)
        self.z_log_sigma_sq = nn.Linear(4 * width, latent)
        _initialise(self.layer_1, self.layer_2, self.layer_3, self.z_mu, self.z_log_sigma_sq)

    def forward(self, frames: Tensor) -> Pair:
        """Mean and logarithm of the variance of each transition.

        Args:
            frames: `[N, T, 3, H, W]` in [0, 1], T at least 2.

        Returns:
            Two tensors `[N, T - 1, nz]`, float32 (float64 for float64 frames).
        """
        pairs = torch.cat([frames[:, :-1], frames[:, 1:]], 2).flatten(0, 1)
        features = functional.leaky_relu(self.layer_1(pairs), 0.2)
        features = functional.leaky_relu(self.norm_2(self.layer_2(features)), 0.2)
        features = functional.leaky_relu(self.norm_3(self.layer_3(features)), 0.2)
        pooled = features.mean((2, 3))
        mean, log_variance = (
            head(pooled).unflatten(0, (frames.shape[0], -1)).to(frames.dtype)
            for head in (self.z_mu, self.z_log_sigma_sq)
        )
        return mean, log_variance.clamp(-LOG_VARIANCE_BOUND, LOG_VARIANCE_BOUND)


class Cell(nn.Module):
    """One step of the generator at 64 px: an encoder and decoder with a convolutional LSTM at every scale.

    Names of the layers are those of the authors' program.
    """

    def __init__(self, width: int, latent: int) -> None:
        super().__init__()
        n, z = width, latent
        self.h0 = Block(DownConvolution(6 + z, n, 5))
        self.h1 = Block(DownConvolution(n + z, 2 * n, 3))
        self.h2 = Block(DownConvolution(2 * n + z, 4 * n, 3))
        self.h3 = Block(UpConvolution(4 * n + z, 2 * n))
        self.h4 = Block(UpConvolution(2 * n + 2 * n + z, n))
        self.h5 = Block(UpConvolution(n + n + z, n))
        self.lstm_h0 = ConvLstm(n, z)
        self.lstm_h1 = ConvLstm(2 * n, z)
        self.lstm_h2 = ConvLstm(4 * n, z)
        self.lstm_h3 = ConvLstm(2 * n, z)
        self.lstm_h4 = ConvLstm(n, z)
        self.h6_scratch = Block(Convolution(n, n, 3))
        self.h6_masks = Block(Convolution(n, n, 3))
        self.scratch_image = nn.Conv2d(n, 3, 3, padding=1)
        self.masks = nn.Conv2d(n + 3 * CANDIDATES, CANDIDATES, 3, padding=1)
        self.cdna_kernels = nn.Linear(4 * n * 8 * 8, 25 * TRANSFORMATIONS)
        _initialise(self.scratch_image, self.masks, self.cdna_kernels)

    def kernels(self) -> dict[str, Tensor]:
        """The kernels of all blocks, for the steps of a rollout."""
        return {name: block.conv.kernel() for name, block in self.named_children() if isinstance(block, Block)}

    def initial(self, first: Tensor) -> tuple[Pair, ...]:
        """Zero states for the first frames `[N, 3, 64, 64]`."""
        count, width = len(first), len(self.h0.norm.weight)
        shapes = [(width, 32), (2 * width, 16), (4 * width, 8), (2 * width, 16), (width, 32)]
        zeros = ([first.new_zeros(count, channels, side, side) for _ in range(2)] for channels, side in shapes)
        return tuple((cell, hidden) for cell, hidden in zeros)

    def forward(
        self, image: Tensor, first: Tensor, latent: Tensor | None, states: tuple[Pair, ...], kernels: dict[str, Tensor]
    ) -> tuple[Tensor, tuple[Pair, ...]]:
        """Predicts the next frame.

        Args:
            image: the current frame, `[N, 3, 64, 64]` in [0, 1].
            first: the first frame of the sequence, alike.
            latent: output of the LSTM over latents, `[N, nz]`.
            states: (cell, hidden) of the five convolutional LSTMs.
            kernels: of `kernels`.

        Returns:
            The next frame `[N, 3, 64, 64]`, and the next states.
        """
        before = iter(states)
        after: list[Pair] = []

        def block(name: str, lstm: str, *features: Tensor) -> Tensor:
            made = getattr(self, name)(with_latent(list(features), latent), kernels[name])
            after.append(getattr(self, lstm)(with_latent([made], latent), next(before)))
            return after[-1][1]

        high = block("h0", "lstm_h0", image, first)
        middle = block("h1", "lstm_h1", high)
        low = block("h2", "lstm_h2", middle)
        up = block("h3", "lstm_h3", low)
        up = block("h4", "lstm_h4", up, middle)
        full = self.h5(with_latent([up, high], latent), kernels["h5"])
        return self._composed(image, first, low, full, kernels), tuple(after)

    def _composed(self, image: Tensor, first: Tensor, low: Tensor, full: Tensor, kernels: dict[str, Tensor]) -> Tensor:
        """Blends the candidate images; in the precision of `image` where pixels are concerned."""
        scratch = self.scratch_image(self.h6_scratch(full, kernels["h6_scratch"])).to(image.dtype).sigmoid()
        raw = self.cdna_kernels(low.flatten(1)).to(image.dtype)
        with torch.autocast(image.device.type, enabled=False):
            moved = transformed(image, transformation_kernels(raw))
        candidates = torch.cat([moved, image, first, scratch], 1)
        features = self.h6_masks(full, kernels["h6_masks"])
        masks = self.masks(torch.cat([features, candidates], 1)).to(image.dtype).softmax(1)
        return (masks.unsqueeze(2) * candidates.unflatten(1, (CANDIDATES, 3))).sum(1)


class Generator(nn.Module):
    """Encoder, LSTM over latents and cell: all that a prediction needs."""

    encoder: Encoder | None
    lstm_z: LatentLstm | None

    def __init__(self, config: SavpConfig) -> None:
        super().__init__()
        latent = config.latent
        self.recompute = config.recompute
        self.encoder = Encoder(config.encoder_width, latent) if latent else None
        self.lstm_z = LatentLstm(latent) if latent else None
        self.cell = Cell(config.generator_width, latent)

    def posterior(self, frames: Tensor) -> Pair:
        """Mean and logarithm of the variance of the latents of `[N, T, 3, H, W]`, each `[N, T - 1, nz]`."""
        if self.encoder is None:
            raise ValueError("a deterministic model has no latents")
        mean, log_variance = light(self.encoder, frames, recompute=self.recompute)
        return mean, log_variance

    def roll(
        self,
        state: State,
        truth: Tensor,
        steps: int,
        latents: Tensor | None,
        given: Tensor | None = None,
        cell: Callable[..., tuple[Tensor, tuple[Pair, ...]]] | None = None,
    ) -> tuple[Tensor, State]:
        """Predicts `steps` frames, each from the one before.

        Args:
            state: where to go on from; `State(first)` at the start.
            truth: true frames `[N, k, 3, H, W]`, the inputs of the first k steps; later ones are fed their own output.
            latents: `[N, steps, nz]`; None for a deterministic model.
            given: bool `[N, k]`: where false, the own output is fed instead of the true frame; None: all true.
            cell: what is called in place of the cell, such as its compiled form; None: the cell.

        Returns:
            `[N, steps, 3, H, W]`, the frames after the inputs, and the state after them.
        """
        if steps == 0:
            return truth.new_empty(len(truth), 0, *truth.shape[2:]), state
        frame, cells, after = state.frame, state.cells or self.cell.initial(state.first), state.latent
        seen: Tensor | None = None
        if self.lstm_z is not None and latents is not None:
            seen, after = self.lstm_z(latents, state.latent)
        kernels = self.cell.kernels()
        frames = []
        for step in range(steps):
            if step < truth.shape[1]:
                image = truth[:, step]
                if given is not None and frame is not None:
                    image = torch.where(given[:, step, None, None, None], image, frame)
            elif frame is None:
                raise ValueError("the first step needs a true frame")
            else:
                image = frame
            # Contiguous as the cell's own frames are, so that a compiled cell meets one layout.
            inputs = image.contiguous(), state.first, None if seen is None else seen[:, step].contiguous()
            frame, cells = light(cell or self.cell, *inputs, cells, kernels, recompute=self.recompute)
            frames.append(frame)
        return torch.stack(frames, 1), State(state.first, frame, cells, after)


def drawn(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Latents of a Gaussian: mean + sqrt(exp(log_variance)) * noise."""
    return mean + log_variance.exp().sqrt() * noise


def _initialise(*layers: nn.Conv2d | nn.Linear) -> None:
    for layer in layers:
        truncated_normal_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
