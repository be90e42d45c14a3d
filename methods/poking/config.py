"""What a poking model is made of, and how it is trained."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from methods.perceptual import Form

Beta = Annotated[float, Field(ge=0, lt=1)]
BOTTLENECK_CELLS = 3
"""Entries of the initial hidden stack of the ablation with its RNN at the bottleneck."""


class NetworkConfig(BaseModel):
    """The predictor. The defaults are the authors' model at 64 px: 39,110,819 parameters.

    Attributes:
        size: side H of the frames in px, a power of two times `min_side`.
        width: channels of the lowest level ("nf_deep" of the released program).
        min_side: side of the lowest level in px.
        predictor: "hierarchy" is the paper's; "rnn" is its ablation (table 3), GRU cells at the bottleneck of an
            encoder and decoder without skips.
        rnn_cells: cells of the "rnn".
        levels: the lowest so many levels of the hierarchy recur, None: all log2(H / min_side) + 1. A level above
            them has no state: the encoder does not return it, and the decoder block that would take it is narrower
            by its channels. So the frame is drawn from the states of the kept levels alone.
        poke_encoder: "official", or "plus", which sees how long a poke is (`methods/poking/poke_encoders.py`).
        decoder: "draw", the paper's: frames are drawn from the states alone. "warp": x0 is moved along a flow that
            the decoder gives, and drawn anew where a mask says so (`methods/poking/decoders.py`).
        phi: the latent interaction over the steps t = 0, 1, ... (appendix B of the paper, and the released
            program's switches): "constant"; "first", at t = 0 only; "linear", times max(0, 1 - t / n); "step", for
            t < n. Where it is off, the lowest cell is fed zeros.
        phi_frames: n, the number of the frame that reaches the target; None: the horizon.
        poke_norm: the "impulse" reading of a poke: displacements are divided by this, the largest norm of the
            flow of a data set in px, so that they name no target; None: they stay in px.
        hold: subtracted from what the update gates of all cells take the sigmoid of. At 4, say, an untrained state
            changes by a fiftieth in a step, and training begins near the still image instead of far from it. The
            authors' is 0; in their checkpoints it is part of the bias.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(64, ge=16)
    width: int = Field(512, ge=32)
    min_side: int = Field(16, ge=4)
    predictor: Literal["hierarchy", "rnn"] = "hierarchy"
    rnn_cells: int = Field(BOTTLENECK_CELLS, ge=1, le=BOTTLENECK_CELLS)
    levels: int | None = Field(None, ge=1)
    poke_encoder: Literal["official", "plus"] = "official"
    decoder: Literal["draw", "warp"] = "draw"
    phi: Literal["constant", "first", "linear", "step"] = "constant"
    phi_frames: int | None = Field(None, ge=1)
    poke_norm: float | None = Field(None, gt=0)
    hold: float = Field(0.0, ge=0)

    @property
    def stages(self) -> int:
        """Stages of stride 2 of the encoders, S."""
        return (self.size // self.min_side).bit_length() - 1

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the stages of the object encoder, first stage first."""
        first = 32 if self.predictor == "rnn" else max(32, self.width >> self.stages)
        return tuple(min(first << stage, self.width) for stage in range(self.stages))

    @property
    def depth(self) -> int:
        """Levels that recur, N."""
        if self.predictor == "rnn":
            return 1
        return self.levels or self.stages + 1

    @property
    def state_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(channels, height, width) of each level's state, lowest first."""
        sides = [self.min_side << stage for stage in range(self.stages)]
        above = [(width, side, side) for width, side in zip(reversed(self.widths), sides, strict=True)]
        return ((self.width, self.min_side, self.min_side), *above)[: self.depth]

    @model_validator(mode="after")
    def _fits(self) -> NetworkConfig:
        ratio = self.size // self.min_side
        if self.size != ratio * self.min_side or ratio < 2 or ratio & (ratio - 1):
            raise ValueError(
                f"size must be min_side times 2, 4, 8, ...: found size {self.size}, min_side {self.min_side}"
            )
        widths = self.widths
        if self.predictor == "hierarchy" and any(2 * low != high for low, high in pairwise(widths)):
            raise ValueError(
                f"width {self.width} is too small for size {self.size} and min_side {self.min_side}: the stages would "
                f"have {list(widths)} channels, and each must have half of the next. Take at least "
                f"{32 << (self.stages - 1)}, a multiple of {1 << self.stages}."
            )
        if self.levels is not None and (self.predictor == "rnn" or self.levels > self.stages + 1):
            raise ValueError(
                f"levels must be at most {self.stages + 1} here, and is for the hierarchy: found {self.levels} "
                f"with predictor {self.predictor!r}"
            )
        if self.poke_norm is not None and self.poke_encoder == "plus":
            raise ValueError("poke_norm is for the official poke encoder; the plus encoder scales pokes itself")
        return self


class PokingConfig(NetworkConfig):
    """The predictor and its training. The defaults are those of the released program.

    Attributes:
        recipe: name of the recipe, kept for the card.
        stages_of_training: "alternating", the released program: in each iteration one step on the reconstruction of
            x0 and one on the dynamics. "two", the paper (section 3.2): the object encoder and the decoder learn to
            reconstruct images first, then the encoder stays as it is. "single", its ablation: the dynamics
            losses train everything, and there is no image reconstruction.
        pretrain_share: share of the steps that the first of "two" stages takes.
        form: how the losses are reduced, "released" or "paper"; see `methods/poking/losses.py`.
        perceptual: the feature extractor of the reconstruction loss. The authors' is "vgg19", whose weights must be on
            this machine; "vgg16" is the one that LPIPS uses.
        perceptual_layers: how many of its five maps are used, from the first on; fewer cost less.
        perceptual_form: how its maps are compared: "l1", the authors' mean absolute differences, or "lpips", as in
            LPIPS (Zhang et al. 2018), for "vgg16"; the released program's share of the pixels stays.
        perceptual_frames: how many of the predicted frames of each clip L_rec looks at in a step, drawn anew in
            each; None: all. Its mean over draws is the same; fewer cost less.
        reconstruction_weight, trajectory_weight: on the video losses.
        motion_weight: on the error of the "warp" decoder's flow in the last frame, against the flow of the data that
            pokes are drawn from; 0: it learns from pictures alone.
        still_weight: within that error, on the mean over pixels that stand still; the mean over those that move has
            weight 1. The larger, the less moves along by mistake.
        poke_weight: on the error at the poked point alone.
        gan: whether there are discriminators.
        gan_start: iterations before they begin; counted from the second stage on where there are two.
        horizon: frames that the temporal discriminator is built for.
        patch_frames: frames of each kind that the patch discriminator sees in a step, drawn from the whole batch.
        patch_weight, temporal_weight: on the generator's terms.
        temporal_matching: on feature matching in the temporal discriminator.
        patch_penalty, temporal_penalty: on the squared gradients at real inputs.
        learning_rate, betas: of all Adam optimisers.
        rate_milestones: epochs after which the rates are multiplied by `rate_factor`.
        rate_cooldown: the rates fall linearly to zero over this last share of the steps.
        channels_last: memory layout of the networks; measured slower than the default on CPUs.
        recompute: what the decoder and the feature extractor compute on the way to L_rec is not kept for the backward
            pass, but computed again there, the frames of one step in time after the other: less memory, more time,
            the same gradients.
    """

    recipe: str = "custom"
    stages_of_training: Literal["alternating", "two", "single"] = "alternating"
    pretrain_share: float = Field(0.2, gt=0, lt=1)
    form: Literal["released", "paper"] = "released"
    perceptual: Literal["vgg19", "vgg16"] = "vgg19"
    perceptual_layers: int = Field(5, ge=1, le=5)
    perceptual_form: Form = "l1"
    perceptual_frames: int | None = Field(None, ge=1)
    reconstruction_weight: float = Field(5.0, ge=0)
    trajectory_weight: float = Field(0.1, ge=0)
    motion_weight: float = Field(0.0, ge=0)
    still_weight: float = Field(1.0, ge=0)
    poke_weight: float = Field(0.0, ge=0)
    gan: bool = True
    gan_start: int = Field(4000, ge=0)
    horizon: int = Field(10, ge=2)
    patch_frames: int = Field(16, ge=1)
    patch_weight: float = Field(1.0, ge=0)
    temporal_weight: float = Field(5.0, ge=0)
    temporal_matching: float = Field(10.0, ge=0)
    patch_penalty: float = Field(1e-4, ge=0)
    temporal_penalty: float = Field(0.1, ge=0)
    learning_rate: float = Field(1e-4, gt=0)
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    rate_milestones: tuple[int, ...] = (10, 25, 50)
    rate_factor: float = Field(0.3, gt=0, le=1)
    rate_cooldown: float = Field(0.0, ge=0, le=1)
    channels_last: bool = False
    recompute: bool = False

    @model_validator(mode="after")
    def _lpips_has_heads(self) -> PokingConfig:
        if self.perceptual_form == "lpips" and self.perceptual != "vgg16":
            raise ValueError(
                f"perceptual_form 'lpips' has weights for perceptual 'vgg16', found {self.perceptual!r}; set "
                "model.perceptual=vgg16, or model.perceptual_form=l1"
            )
        return self

    @model_validator(mode="after")
    def _motion_has_a_flow(self) -> PokingConfig:
        if (self.motion_weight or self.poke_weight) and self.decoder != "warp":
            name = "motion_weight" if self.motion_weight else "poke_weight"
            raise ValueError(f"{name} is for decoder 'warp'; the paper's decoder gives no flow")
        return self
