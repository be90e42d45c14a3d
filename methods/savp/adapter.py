"""SAVP as a method of the benchmark."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from methods.compiled import NOTE, check_compiler, compiled_form
from methods.interface import Conditioning, MethodCard
from methods.perceptual import CARD_NOTE, CARD_TITLE
from methods.savp.config import SavpConfig
from methods.savp.network import Generator, State, drawn
from methods.savp.official import read_official
from methods.weights_file import check_one_file, fill, load_weights
from metrics.cache import sha256_of
from metrics.errors import MethodError

PAPER = (
    "A. X. Lee, R. Zhang, F. Ebert, P. Abbeel, C. Finn, S. Levine: Stochastic Adversarial Video Prediction. "
    "arXiv 1804.01523, 2018"
)
ROWS = 64
"""Rollouts computed at once: bounds the memory of many samples."""


class Savp:
    """Predicts with a trained generator; each sample draws its own latents, those of the context included.

    Args:
        checkpoint: weights that `bench train` wrote for savp.
        official: a TensorFlow checkpoint of the authors' program ("FOLDER/model-300000"). Models of RGB frames of
            64 x 64 px with two context frames fit; TensorFlow is not needed.
        compiled: the cell that makes a frame goes through torch.compile, once for each number of rows.

    Raises:
        MethodError: not exactly one of them is given, or it cannot be read or does not fit.
    """

    card: MethodCard

    def __init__(self, checkpoint: Path | None = None, official: Path | None = None, compiled: bool = False) -> None:
        check_one_file("savp", checkpoint, official)
        if checkpoint is not None:
            file = load_weights(checkpoint, "savp")
            config: SavpConfig = file.configured(SavpConfig)
            _check_variant(config, file.tensors, str(checkpoint))
            self._take(Generator(config), config, {checkpoint.name: file.sha256}, "", compiled)
            file.fill(self._generator)
            self.card = file.titled(self.card)
        elif official is not None:
            found = read_official(official)
            weights = {path.name: sha256_of(path) for path in found.files}
            self._take(Generator(found.config), found.config, weights, "MIT", compiled)
            fill(self._generator, found.generator, str(official))

    @classmethod
    def sharing(cls, generator: Generator, config: SavpConfig) -> Savp:
        """A predictor that uses `generator` itself, where it is."""
        method = cls.__new__(cls)
        method._take(generator, config, {}, "")
        return method

    def _take(
        self, generator: Generator, config: SavpConfig, weights: dict[str, str], licence: str, compiled: bool = False
    ) -> None:
        self._generator, self._config = generator, config
        self._cell = compiled_form("savp", generator.cell) if compiled else None
        titles = {"savp": "SAVP", "gan-only": "SAVP (GAN only)", "vae-only": "SAVP (VAE only)"}
        self.card = MethodCard(
            name=f"savp-{config.recipe}",
            title=titles.get(config.variant, "SAVP (deterministic)") + (CARD_TITLE if config.perceptual_weight else ""),
            revision="1+compiled" if compiled else "1",
            stochastic=config.latent > 0,
            paper=PAPER,
            licence=licence,
            min_context=config.context,
            sizes=frozenset({config.size}),
            parameters=sum(parameter.numel() for parameter in generator.parameters()),
            weights=weights,
            notes=f"Sees the last {config.context} context frames. Latents: N(0, I); the encoder's within the context."
            + (CARD_NOTE if config.perceptual_weight else "")
            + (NOTE if compiled else ""),
        )

    def prepare(self, device: torch.device) -> None:
        """Moves the generator to `device`.

        Raises:
            MethodError: it is to be compiled, and there is no compiler.
        """
        if self._cell is not None:
            check_compiler("savp", device)
        self._generator.to(device)

    @torch.no_grad()
    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        """Prior samples, `[B, S, T, 3, 64, 64]`; S = 1 for the deterministic variant.

        Raises:
            MethodError: too few context frames, or another size.
        """
        config, horizon = self._config, conditioning.horizon
        self._check(conditioning)
        context = conditioning.context[:, -config.context :].float()
        clips, known = len(context), config.context - 1
        count = samples if config.latent else 1
        rows = context.repeat_interleave(count, 0)
        latents: Tensor | None = None
        if config.latent:
            shape = (known + horizon, config.latent)
            drawn_for = [
                torch.stack([torch.randn(shape, generator=g) for _ in range(count)])
                for g in conditioning.generators(seed)
            ]
            latents = torch.stack(drawn_for).to(context.device).flatten(0, 1)
            if known:
                # What depends on the context alone is computed once a clip.
                mean, log_variance = (value.repeat_interleave(count, 0) for value in self._generator.posterior(context))
                latents = torch.cat([drawn(mean, log_variance, latents[:, :known]), latents[:, known:]], 1)
        made = []
        for low in range(0, len(rows), ROWS):
            part = rows[low : low + ROWS]
            steps = None if latents is None else latents[low : low + ROWS]
            frames, _ = self._generator.roll(State(part[:, 0]), part, known + horizon, steps, cell=self._cell)
            made.append(frames[:, known:])
        return torch.cat(made).clamp(0, 1).unflatten(0, (clips, count))

    def _check(self, conditioning: Conditioning) -> None:
        frames, _, height, width = conditioning.context.shape[1:]
        side = self._config.size
        if (height, width) != (side, side):
            raise MethodError(
                f"{self.card.name}: expected frames of {side} x {side} px, found {height} x {width}. "
                "Use a protocol of that size."
            )
        if frames < self._config.context:
            raise MethodError(
                f"{self.card.name}: expected at least {self._config.context} context frames, found {frames}. "
                "Use a protocol with more context."
            )


def _check_variant(config: SavpConfig, tensors: dict[str, Tensor], origin: str) -> None:
    """Refuses weights with latents for a model without, and the other way round."""
    has_latents = any(key.startswith("encoder.") for key in tensors)
    if has_latents != (config.latent > 0):
        found = "a model with latents (savp, gan-only or vae-only)" if has_latents else "the variant deterministic"
        raise MethodError(
            f"{origin}: its configuration is of the variant {config.variant} (latent={config.latent}), its tensors are "
            f"those of {found}; take the weights file of the variant that you want"
        )
