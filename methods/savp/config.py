"""Sizes, objectives and recipes of SAVP."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from methods.perceptual import PerceptualConfig
from methods.training import Recipe

Variant = Literal["savp", "gan-only", "vae-only", "deterministic"]


class SavpConfig(PerceptualConfig):
    """Networks, objective and optimisers. The defaults are those of the authors' BAIR model (action-free).

    What begins with "perceptual" is told in `PerceptualConfig`; it is for posterior reconstructions of the future.

    Attributes:
        recipe: name of the recipe that this came from, kept for the table row.
        size: side of the frames in px. The layers are those that the authors use at 64 px.
        context: context frames c.
        latent: length nz of the latent of a transition; 0: a deterministic model.
        generator_width: channels ngf of the first scale of the generator.
        encoder_width: channels nef of the first layer of the posterior encoder.
        discriminator_width: channels ndf of the first layer of the discriminators.
        clip_length: consecutive frames that a discriminator sees.
        reconstruction: absolute ("l1") or squared ("l2") difference.
        reconstruction_weight: on all predictions, those of context frames included.
        kl_weight: of KL(q, N(0, I)), after annealing.
        gan_weight: of the discriminator of prior samples, in the losses of both sides.
        gan_feature_weight: of its feature matching.
        vae_gan_weight: of the discriminator of posterior reconstructions, in the losses of both sides.
        vae_gan_feature_weight: of its feature matching.
        learning_rate, beta1, beta2: of Adam, for both optimisers.
        recompute: what cell, encoder and discriminators compute is not kept for the backward pass, but computed again
            there, one step in time, and one discriminator, after the other: less memory, more time, the same gradients.
    """

    recipe: str = "paper"
    size: Literal[64] = 64
    context: int = Field(2, ge=1)
    latent: int = Field(8, ge=0)
    generator_width: int = Field(32, ge=1)
    encoder_width: int = Field(64, ge=1)
    discriminator_width: int = Field(32, ge=1)
    clip_length: int = Field(10, ge=4)
    reconstruction: Literal["l1", "l2"] = "l1"
    reconstruction_weight: float = Field(100.0, gt=0)
    kl_weight: float = Field(1.0, ge=0)
    gan_weight: float = Field(0.1, ge=0)
    gan_feature_weight: float = Field(0.0, ge=0)
    vae_gan_weight: float = Field(0.1, ge=0)
    vae_gan_feature_weight: float = Field(10.0, ge=0)
    learning_rate: float = Field(2e-4, gt=0)
    beta1: float = Field(0.5, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> SavpConfig:
        if self.latent == 0 and (self.kl_weight or self.adversarial):
            raise ValueError(
                "latent=0 is the deterministic variant: kl_weight, gan_weight and vae_gan_weight must be 0"
            )
        if self.gan_feature_weight and not self.gan_weight:
            raise ValueError("gan_feature_weight needs gan_weight > 0")
        if self.vae_gan_feature_weight and not self.vae_gan_weight:
            raise ValueError("vae_gan_feature_weight needs vae_gan_weight > 0")
        return self

    @property
    def adversarial(self) -> bool:
        """Whether there are discriminators."""
        return self.gan_weight > 0 or self.vae_gan_weight > 0

    @property
    def variant(self) -> Variant:
        """Which of the models of the paper's ablation this is."""
        if self.latent == 0:
            return "deterministic"
        if not self.adversarial:
            return "vae-only"
        return "savp" if self.vae_gan_weight > 0 else "gan-only"


_OBJECTIVES: dict[Variant, dict[str, Any]] = {
    "savp": {},
    "gan-only": {
        "kl_weight": 0.0,
        "gan_feature_weight": 10.0,
        "vae_gan_weight": 0.0,
        "vae_gan_feature_weight": 0.0,
    },
    "vae-only": {
        "reconstruction_weight": 1.0,
        "kl_weight": 1e-3,
        "gan_weight": 0.0,
        "vae_gan_weight": 0.0,
        "vae_gan_feature_weight": 0.0,
        "learning_rate": 1e-3,
        "beta1": 0.9,
    },
}
_OBJECTIVES["deterministic"] = {**_OBJECTIVES["vae-only"], "kl_weight": 0.0, "latent": 0}
"""What the authors' settings for BAIR (action-free) change in each ablation."""

_SIZES: dict[str, dict[str, Any]] = {
    "paper": {},
    "small": {"generator_width": 12, "encoder_width": 24, "discriminator_width": 8},
}

_LOOPS: dict[tuple[str, bool], dict[str, int]] = {
    ("paper", True): {"batch_size": 16, "steps": 300_000},
    ("paper", False): {"batch_size": 32, "steps": 300_000},
    ("small", True): {"batch_size": 8, "steps": 3_000},
    ("small", False): {"batch_size": 8, "steps": 3_000},
}
"""By size, and whether the objective is adversarial."""

_DATA = {"size": 64, "context": 2, "horizon": 10}

_SUMMARIES: dict[Variant, str] = {
    "savp": "VAE-GAN: reconstruction, KL, two video discriminators",
    "gan-only": "no KL, one video discriminator, of prior samples",
    "vae-only": "reconstruction and KL, no discriminator",
    "deterministic": "reconstruction alone, no latent",
}


def _recipe(size: str, variant: Variant) -> tuple[str, Recipe]:
    name = size if variant == "savp" else f"{size}-{variant}"
    model = SavpConfig(recipe=name, **_SIZES[size], **_OBJECTIVES[variant])
    loop = _LOOPS[size, model.adversarial]
    return name, Recipe(model=model, data=_DATA, loop=loop, summary=f"{size} size; {_SUMMARIES[variant]}")


RECIPES: dict[str, Recipe] = dict(_recipe(size, variant) for size in _SIZES for variant in _OBJECTIVES)
"""Named recipes: "paper", "small", and each with "-gan-only", "-vae-only" and "-deterministic"."""
