"""The randomness of a training step of SAVP, drawn for each clip from its own generators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from methods.savp.config import SavpConfig
from methods.training import TrainingBatch

Starts = dict[str, tuple[list[int], list[int]]]
"""Of each discriminator, "prior" and "posterior": first frames of its true and of its made clips."""


@dataclass(frozen=True)
class Draws:
    """Noise of the two rollouts. Sequences have T = context + future frames, so T - 1 transitions.

    Attributes:
        posterior: noise of the posterior latents, `[N, T - 1, nz]`; None without latents.
        prior: latents of the prior rollout from the last context frame on, `[N, T - context, nz]`; None where the
            objective does not look at prior samples.
        posterior_truth, prior_truth: bool `[N, T - 1 - context]`: whether the steps after the context are fed the true
            frame; None: never.
    """

    posterior: Tensor | None
    prior: Tensor | None
    posterior_truth: Tensor | None
    prior_truth: Tensor | None


def draw(batch: TrainingBatch, config: SavpConfig, truth_probability: float) -> Draws:
    """The draws of one step; the same ones whenever it is asked again."""
    frames, device = batch.frames.shape[1], batch.frames.device
    wants_prior = config.gan_weight > 0

    def fed(tag: str) -> Tensor | None:
        if not truth_probability:
            return None
        drawn = [torch.rand(frames - 1 - batch.context, generator=g) for g in batch.generators(tag)]
        return (torch.stack(drawn) < truth_probability).to(device, non_blocking=True)

    return Draws(
        posterior=batch.noise("savp/posterior", (frames - 1, config.latent)) if config.latent else None,
        prior=batch.noise("savp/prior", (frames - batch.context, config.latent)) if wants_prior else None,
        posterior_truth=fed("savp/posterior-truth"),
        prior_truth=fed("savp/prior-truth") if wants_prior else None,
    )


def draw_starts(batch: TrainingBatch, config: SavpConfig, phase: str) -> Starts:
    """Where the discriminators' clips begin; others for true and made clips, for each discriminator and phase.

    Drawn on the CPU: no step waits for the device.
    """
    choices = batch.frames.shape[1] - config.clip_length

    def starts(tag: str) -> list[int]:
        generators = batch.generators(f"savp/{phase}/{tag}")
        return [int(torch.randint(choices, (), generator=generator)) for generator in generators]

    weights = {"prior": config.gan_weight, "posterior": config.vae_gan_weight}
    return {name: (starts(f"{name}/true"), starts(f"{name}/made")) for name, weight in weights.items() if weight > 0}


def cropped(frames: Tensor, starts: Sequence[int], length: int) -> Tensor:
    """`length` consecutive frames of each clip of `[N, T, 3, H, W]`, from its start."""
    if frames.shape[1] == length:
        return frames
    return torch.stack([clip[start : start + length] for clip, start in zip(frames.unbind(), starts, strict=True)])
