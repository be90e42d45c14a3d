"""Sizes, objective and training settings of SRVP, and the named recipes."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from methods.perceptual import PerceptualConfig
from methods.training import Recipe

SIZE = 64
"""Side in px that both convolutional architectures are made for."""


class SRVPConfig(PerceptualConfig):
    """Everything that defines an SRVP model and its training; the defaults are the recipe "paper".

    What else begins with "perceptual" is told in `PerceptualConfig`.

    Attributes:
        name: name that the method's card shows.
        architecture: of encoder and decoder.
        skips: whether the decoder sees encoder features of one given frame.
        channels: 3, or 1 for grey videos.
        filters: channels after the first encoder stage; the deepest has 8 times as many.
        code: size of a frame's code.
        state: size of the latent state y.
        noise: size of the latent noise z.
        inference_width: width of the content vector, of the network of q(y_0) and of the recurrent network of q(z).
        inference_layers: linear layers of the network of q(y_0).
        residual_width: width of the networks of the prior p(z) and of the residual.
        residual_layers: linear layers of each of these two.
        conditioning: number k of frames that the content and the first state are inferred from, and thus the
            fewest context frames of a prediction.
        skip_frame: whose features the decoder sees in training: "any" frame of the clip, drawn, as in the authors'
            program, or the "last" of the conditioning frames. A prediction always has those of its last context frame.
            With "any", nothing tells the decoder how far the frame to draw is from the one that it sees: the small
            models learned to draw that one again, a little blurred, and no motion.
        euler_steps: Euler steps from one frame to the next.
        residual_gain: gain of the orthogonal initial weights of the residual network.
        observation_std: standard deviation of the pixels given the latent state; a deviation, not a variance.
        beta_y: weight of the divergence of the first state.
        beta_z: weight of the divergence of the noises.
        residual_weight: weight of the norms of the residuals.
        perceptual_from: share of the training's steps, the first ones, that leave the perceptual distance out, so that
            things learn to move before they have to be sharp.
        learning_rate: of Adam, until the decay.
        decay: share of the training's steps, the last ones, in which the rate falls linearly to 0.
        max_norm: gradients are scaled down to this norm; None: they are not, as in the authors' program. States pass
            through euler_steps (T - 1) residuals, which one bad step can blow up.
        recompute: what encoder and decoder compute is not kept for the backward pass, but computed again there, the
            layers of one resolution after the other: less memory, more time, the same gradients.
    """

    name: str = "paper"
    architecture: Literal["vgg", "dcgan"] = "vgg"
    skips: bool = True
    channels: Literal[1, 3] = 3
    filters: int = Field(default=64, ge=1)
    code: int = Field(default=128, ge=1)
    state: int = Field(default=50, ge=1)
    noise: int = Field(default=50, ge=1)
    inference_width: int = Field(default=256, ge=1)
    inference_layers: int = Field(default=3, ge=1)
    residual_width: int = Field(default=512, ge=1)
    residual_layers: int = Field(default=4, ge=1)
    conditioning: int = Field(default=2, ge=1)
    skip_frame: Literal["any", "last"] = "any"
    euler_steps: int = Field(default=2, ge=1)
    residual_gain: float = Field(default=1.2, gt=0)
    observation_std: float = Field(default=0.2, gt=0)
    beta_y: float = Field(default=1.0, ge=0)
    beta_z: float = Field(default=1.0, ge=0)
    residual_weight: float = Field(default=1.0, ge=0)
    perceptual_from: float = Field(default=0.0, ge=0, lt=1)
    learning_rate: float = Field(default=3e-4, gt=0)
    decay: float = Field(default=25 / 350, ge=0, le=1)
    max_norm: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _perceptual_in_colour(self) -> Self:
        if self.perceptual_weight and self.channels != 3:
            raise ValueError("perceptual_weight is for videos in colour: set channels=3, or leave it out")
        return self


_PAPER = SRVPConfig()
_SMALL = {
    "filters": 16,
    "code": 64,
    "inference_width": 128,
    "residual_width": 256,
    "observation_std": 0.04,
    "perceptual_weight": 60.0,
    "perceptual_form": "lpips",
    "perceptual_layers": 5,
    "perceptual_from": 0.2,
    "skip_frame": "last",
    "learning_rate": 1e-3,
    "decay": 0.5,
    "max_norm": 3e7,
}
"""A quarter of the widths. The deviation of the pixels is about the error of predictions in the simulated world: with
the authors' 0.2 the noises stay unused there, and what moves is blurred. LPIPS (VGG) sharpens it within the few steps
that a CPU can take. Without a bound on gradients, a training of 3,750 steps blew up once."""
_DATA = {"size": SIZE, "context": 2, "horizon": 10}

RECIPES = {
    "paper": Recipe(
        model=_PAPER,
        data=_DATA,
        loop={"batch_size": 100, "steps": 350_000},
        summary="VGG with skips, the authors' settings for Human3.6M, for 2 context frames",
    ),
    "paper-bair": Recipe(
        model=_PAPER.model_copy(
            update={"name": "paper-bair", "observation_std": 0.71, "residual_gain": 1.41, "decay": 1 / 3}
        ),
        data=_DATA,
        loop={"batch_size": 192, "steps": 1_500_000},
        summary="VGG with skips, the authors' settings for BAIR, their only one with 2 context frames",
    ),
    "paper-dcgan": Recipe(
        model=_PAPER.model_copy(update={"name": "paper-dcgan", "architecture": "dcgan"}),
        data=_DATA,
        loop={"batch_size": 100, "steps": 350_000},
        summary='as "paper", with the DCGAN encoder and decoder',
    ),
    "small": Recipe(
        model=_PAPER.model_copy(update={"name": "small", **_SMALL}),
        data=_DATA,
        loop={"batch_size": 8, "steps": 20_000},
        summary='as "paper" at a quarter of the widths, with LPIPS (VGG) and the skips of a prediction, for a CPU',
    ),
    "small-dcgan": Recipe(
        model=_PAPER.model_copy(update={"name": "small-dcgan", "architecture": "dcgan", **_SMALL}),
        data=_DATA,
        loop={"batch_size": 8, "steps": 20_000},
        summary='as "small", with the DCGAN encoder and decoder: the fastest to train',
    ),
}
"""Named ways to train. The authors publish no settings for the data sets of the poke paper; their counts of steps,
batch sizes and objectives for Human3.6M and BAIR stand in, with k = 2 conditioning frames."""
