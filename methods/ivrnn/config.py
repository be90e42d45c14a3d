"""What there is to choose about an IVRNN, its sizes, and the recipes it is trained with."""

from __future__ import annotations

from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from methods.perceptual import PerceptualConfig
from methods.training import Recipe

Variant = Literal["hierarchical", "flat", "dense-prior"]
"""The three released 64 px models: `vrnn_hier`, `vrnn` and `s2s_big_hier_v4` of the authors' program."""

SIDE = 64
SIDES = (64, 32, 16, 8, 4, 1)
"""Side in px of the embedding of each level."""
TOP = len(SIDES) - 1

PAPER_WIDTHS = (64, 128, 256, 512, 512, 512)
SMALL_WIDTHS = (16, 16, 32, 64, 64, 64)
SMALL_GROUPS, SMALL_BLOCK_GROUPS = 4, 1
"""So that a group has as many channels as with the authors' widths at 64 px: norms of single channels would take from a
picture what tells its colours."""
SMALL_BETA = 0.7
"""For the simulated plants, whose small motions weigh little in sums over pixels: with the authors' 1 and pixels alone
the posterior fell onto the prior, with 0.03 it carried 3,000 nats a clip, more than the prior could predict."""
SMALL_PERCEPTUAL = 0.6
"""Of LPIPS (VGG), so that it counts about as much as the error of the pixels: it sharpens what moves within the few
steps that a CPU can take."""


class Latent(NamedTuple):
    """A level of latents: which embedding it belongs to, its channels, its side in px."""

    level: int
    channels: int
    side: int


class IVRNNConfig(PerceptualConfig):
    """Networks, objective and optimiser; what begins with "perceptual" is told in `PerceptualConfig`.

    Attributes:
        recipe: what the configuration is called in tables.
        variant: "hierarchical": three levels of latents, each sees those above in the posterior alone.
            "flat": the top level alone. "dense-prior": three levels, each sees those above in the posterior and in
            the prior, as the paper describes.
        context: number of context frames; the widths of the initial-state networks depend on it.
        widths: channels of the six embeddings, from 64 px to 1 px.
        groups: of the normalisation in a ConvLSTM.
        block_groups: of the normalisation in the blocks outside of one.
        top_latent: channels of the top latent; a dense prior has `widths[5]` there instead.
        reconstruction: "l1", "l2" (squared error without 1/2) or "bce"; summed over time, channels and pixels.
        divergence: "sampled" is the authors' estimate from one posterior sample, log q(z) - log p(z).
            "closed-form" deviates from them: the same expectation with less variance.
        beta: weight of the divergence.
        beta_warmup: steps over which the weight rises linearly from 0; 0: none, the authors' default.
        learning_rate: of Adam.
        ramp_steps: steps over which the rate goes linearly to `learning_rate * clips / 16`, the authors' rule for
            several processes; 0: it stays.
        weight_decay: L2 inside Adam, on all parameters.
        recompute: what the networks compute is not kept for the backward pass, but computed again there, one step in
            time after the other: less memory, more time, the same gradients.
    """

    recipe: str = "paper"
    variant: Variant = "hierarchical"
    context: int = Field(default=2, ge=1)
    widths: tuple[int, int, int, int, int, int] = PAPER_WIDTHS
    groups: int = Field(default=16, ge=1)
    block_groups: int = Field(default=4, ge=1)
    top_latent: int = Field(default=10, ge=1)
    reconstruction: Literal["l1", "l2", "bce"] = "l1"
    divergence: Literal["sampled", "closed-form"] = "sampled"
    beta: float = Field(default=1.0, ge=0)
    beta_warmup: int = Field(default=0, ge=0)
    learning_rate: float = Field(default=1e-4, gt=0)
    ramp_steps: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=1e-4, ge=0)

    @model_validator(mode="after")
    def _widths_fit_the_norms(self) -> Self:
        for groups in (self.groups, self.block_groups):
            if any(width < groups or width % groups for width in self.widths):
                raise ValueError(f"widths: expected multiples of {groups} (groups), found {list(self.widths)}")
        if self.widths[TOP] == self.groups:
            raise ValueError(
                f"widths: expected a last width of at least {2 * self.groups}: at 1 px, norms of one channel are all 0"
            )
        return self

    @property
    def dense_prior(self) -> bool:
        """Whether the prior of a level sees the latents above."""
        return self.variant == "dense-prior"

    @property
    def latents(self) -> tuple[Latent, ...]:
        """The levels of latents, top first."""
        top = Latent(TOP, self.widths[TOP] if self.dense_prior else self.top_latent, SIDES[TOP])
        below = tuple(Latent(level, self.widths[level], SIDES[level]) for level in (3, 1))
        return (top,) if self.variant == "flat" else (top, *below)


PAPER_WARMUP = 20_000
"""Steps over which beta rises; a choice of this program. The authors' default is no warm-up, and their switch for one
takes 20 epochs, which are 54,000 steps on BAIR. The number of steps, 200,000, is a choice too: theirs are at most 500
epochs."""


def _recipes() -> dict[str, Recipe]:
    variants: tuple[tuple[str, Variant, str], ...] = (
        ("", "hierarchical", "three levels of latents"),
        ("-flat", "flat", "one level of latents"),
        ("-dense-prior", "dense-prior", "three levels of latents, dense prior"),
    )
    data = {"size": SIDE, "context": 2, "horizon": 10}
    recipes = {}
    for suffix, variant, words in variants:
        paper = IVRNNConfig(recipe="paper" + suffix, variant=variant, beta_warmup=PAPER_WARMUP)
        recipes[paper.recipe] = Recipe(
            paper,
            data,
            {"batch_size": 16, "steps": 200_000},
            f"{words}, the authors' widths and optimiser, beta warmed up (their default: not)",
        )
        small = IVRNNConfig(
            recipe="small" + suffix,
            variant=variant,
            widths=SMALL_WIDTHS,
            groups=SMALL_GROUPS,
            block_groups=SMALL_BLOCK_GROUPS,
            beta=SMALL_BETA,
            perceptual_weight=SMALL_PERCEPTUAL,
            perceptual_form="lpips",
            perceptual_layers=5,
            learning_rate=7e-4,
        )
        recipes[small.recipe] = Recipe(
            small, data, {"batch_size": 4, "steps": 8_000, "ema": 0.995}, f"{words}, with LPIPS (VGG), for a CPU"
        )
    return recipes


RECIPES = _recipes()
