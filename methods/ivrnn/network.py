"""The networks of IVRNN: encoder, prior, posterior, renderer.

Source: Castrejon, Ballas and Courville, "Improved Conditional VRNNs for Video Prediction", ICCV 2019, as the authors'
program computes it. Frames are `[B, T, 3, 64, 64]` in [0, 1]. An embedding list holds the six levels, from 64 px to
1 px, each `[B, T, C, H, W]`. Latents, their noise and their statistics are lists by level, top first, each
`[B, T, c, H, W]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from methods.ivrnn.config import SIDES, TOP, IVRNNConfig
from methods.ivrnn.layers import Block, ConvLSTM, InitialState, PlainConvLSTM, Residual, State, per_frame
from methods.recompute import light, light_steps

ASYMPTOTE = -40.0
"""Below this, log(softplus(x)) equals x even in float64; softplus itself would underflow far below."""
HEAD_BIAS = 1e-3
"""Standard deviation of the first bias of the last norm of prior and posterior, whose first weight is 0."""


class Gaussian(NamedTuple):
    """A diagonal Gaussian over one level of latents: mean and log variance, `[B, T, c, H, W]`, at least float32."""

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor | None) -> Tensor:
        """Mean plus standard deviation times `noise`; the mean when there is none."""
        return self.mean if noise is None else self.mean + torch.exp(0.5 * self.logvar) * noise


class Pass(NamedTuple):
    """What a training pass gives: frames `[B, T, 3, H, W]`, and by level the two Gaussians and the latents."""

    frames: Tensor
    posterior: list[Gaussian]
    prior: list[Gaussian]
    latents: list[Tensor]


class Encoder(nn.Module):
    """Embeds single frames at six levels."""

    def __init__(self, config: IVRNNConfig) -> None:
        super().__init__()
        widths = config.widths
        self.stem = nn.Conv2d(3, widths[0], 1)
        levels = [nn.Sequential(Residual(widths[0], widths[0], config.block_groups))]
        for level in range(1, len(widths)):
            before, width = widths[level - 1], widths[level]
            # The dense-prior variant widens in the second block of level 3, and joins the channels at 1 px.
            inner = before if config.dense_prior and level == 3 else width
            groups = 1 if config.dense_prior and level == TOP else config.block_groups
            levels.append(nn.Sequential(Residual(before, inner, groups), Residual(inner, width, groups)))
        self.levels = nn.ModuleList(levels)

    def forward(self, frames: Tensor) -> list[Tensor]:
        """`[N, 3, 64, 64]` -> six images `[N, C, H, W]`."""
        found = [self.levels[0](self.stem(frames))]
        for level in range(1, len(self.levels)):
            pooled = functional.max_pool2d(found[-1], 4, 1) if level == TOP else functional.max_pool2d(found[-1], 2)
            found.append(self.levels[level](pooled))
        return found


class LatentBranch(nn.Module):
    """Prior or posterior of one level of latents: a ConvLSTM over embeddings, and a head.

    Args:
        config: of the network.
        index: of the level of latents, 0 is the top.
        dense: whether the head sees the latents above.
    """

    def __init__(self, config: IVRNNConfig, index: int, dense: bool) -> None:
        super().__init__()
        latent = config.latents[index]
        width = config.widths[latent.level]
        groups = config.groups if config.dense_prior and latent.level < TOP else 1
        above = sum(other.channels for other in config.latents[:index]) if dense else 0
        self.dense = dense
        self.latents_first = not config.dense_prior
        self.initial = InitialState(config.context, width, width, groups, config.block_groups)
        self.project = nn.Conv2d(width, width, 1)
        self.project_norm = nn.GroupNorm(groups, width)
        self.lstm = ConvLSTM(width, width, config.groups)
        self.head = nn.Conv2d(width + above, 2 * latent.channels, 1)
        self.head_norm = nn.GroupNorm(groups, 2 * latent.channels)
        nn.init.zeros_(self.head_norm.weight)
        nn.init.normal_(self.head_norm.bias, std=HEAD_BIAS)

    def features(self, embedding: Tensor, state: State) -> tuple[Tensor, State]:
        """What the head sees of the embeddings, `[B, T, C, H, W]`, and the state after them."""
        projected = self.project_norm(self.project(embedding.flatten(0, 1)))
        found: tuple[Tensor, State] = self.lstm(projected.unflatten(0, embedding.shape[:2]), state)
        return found

    def gaussian(self, features: Tensor, above: Sequence[Tensor]) -> Gaussian:
        """The distribution of this level, given features and the latents above (unused by a branch not dense)."""
        seen = [features.flatten(0, 1)]
        if self.dense and above:
            side = features.shape[-1]
            enlarged = [functional.interpolate(z.flatten(0, 1), size=(side, side), mode="nearest") for z in above]
            seen = [*enlarged, *seen] if self.latents_first else [*seen, *enlarged]
        out = self.head_norm(self.head(torch.cat(seen, dim=1)))
        # In half precision softplus would underflow to 0 for many values.
        out = out.to(torch.promote_types(out.dtype, torch.float32)).unflatten(0, features.shape[:2])
        mean, raw = out.chunk(2, dim=2)
        softplus = functional.softplus(raw.clamp(min=ASYMPTOTE))
        return Gaussian(mean, torch.where(raw > ASYMPTOTE, torch.log(softplus), raw))


class RenderBlock(nn.Module):
    """One resolution of the renderer: a ConvLSTM that sees the latent of its level, then a step up in resolution."""

    def __init__(self, config: IVRNNConfig, index: int) -> None:
        super().__init__()
        level = TOP - index
        hidden, kept = config.widths[level], config.widths[max(level - 1, 0)]
        inputs = hidden + sum(latent.channels for latent in config.latents if latent.level == level)
        dense = config.dense_prior
        groups, kernel = config.groups if dense and index else 1, 3 if dense and index == 1 else 1
        block_groups = config.block_groups
        self.initial = InitialState(config.context, hidden, hidden, groups, block_groups, kernel)
        plain = dense and index == 0
        self.lstm = PlainConvLSTM(inputs, hidden) if plain else ConvLSTM(inputs, hidden, config.groups)
        if index == 0:
            self.grow = Block(nn.ConvTranspose2d(hidden, kept, SIDES[TOP - 1]), block_groups)
        elif level > 0:
            self.grow = Block(nn.ConvTranspose2d(hidden, kept, 4, stride=2, padding=1), block_groups)
        else:
            self.grow = Block(nn.Conv2d(hidden, kept, 3, padding=1), block_groups)

    def forward(self, x: Tensor, latent: Tensor | None, state: State) -> tuple[Tensor, State]:
        """`[B, T, C, H, W]` at this resolution -> `[B, T, C', H', W']` at the next, and the state after."""
        seen = x if latent is None else torch.cat([x, latent.to(x.dtype)], dim=2)
        hidden, state = self.lstm(seen, state)
        return per_frame(self.grow, hidden), state


class ImprovedVRNN(nn.Module):
    """All networks of one IVRNN."""

    def __init__(self, config: IVRNNConfig) -> None:
        super().__init__()
        self.config = config
        count = range(len(config.latents))
        self.encoder = Encoder(config)
        self.prior = nn.ModuleList(LatentBranch(config, index, config.dense_prior) for index in count)
        self.posterior = nn.ModuleList(LatentBranch(config, index, True) for index in count)
        self.renderer = nn.ModuleList(RenderBlock(config, index) for index in range(len(SIDES)))
        self.output = nn.Conv2d(config.widths[0], 3, 3, padding=1)

    def encode(self, frames: Tensor) -> list[Tensor]:
        """Embeddings of frames `[B, T, 3, 64, 64]`."""
        if self.config.recompute and torch.is_grad_enabled():
            by_frame = [light(self.encoder, frame, recompute=True) for frame in frames.unbind(1)]
            return [torch.stack(level, dim=1) for level in zip(*by_frame, strict=True)]
        return [level.unflatten(0, frames.shape[:2]) for level in self.encoder(frames.flatten(0, 1))]

    def start(self, branches: nn.ModuleList, context: Sequence[Tensor]) -> list[State]:
        """States of prior or posterior before the first prediction, from the embeddings of the context frames."""
        levels = (latent.level for latent in self.config.latents)
        return [branch.initial(context[level]) for branch, level in zip(_branches(branches), levels, strict=True)]

    def start_renderer(self, context: Sequence[Tensor]) -> list[State]:
        """States of the renderer before the first prediction."""
        return [cast(RenderBlock, block).initial(context[TOP - i]) for i, block in enumerate(self.renderer)]

    def features(
        self, branches: nn.ModuleList, embeddings: Sequence[Tensor], states: Sequence[State]
    ) -> tuple[list[Tensor], list[State]]:
        """What the heads of prior or posterior see, by level, and the states after."""
        inputs = (embeddings[latent.level] for latent in self.config.latents)
        found = [
            light_steps(b.features, [x], s, recompute=self.config.recompute)
            for b, x, s in zip(_branches(branches), inputs, states, strict=True)
        ]
        return [features for features, _ in found], [state for _, state in found]

    def draw(
        self, branches: nn.ModuleList, features: Sequence[Tensor], noise: Sequence[Tensor] | None
    ) -> tuple[list[Gaussian], list[Tensor]]:
        """Distributions and latents of prior or posterior, level after level.

        Args:
            noise: standard normal, by level; None: every latent is its mean.
        """
        gaussians: list[Gaussian] = []
        latents: list[Tensor] = []
        for index, branch in enumerate(_branches(branches)):
            gaussians.append(light(branch.gaussian, features[index], latents[:], recompute=self.config.recompute))
            latents.append(gaussians[-1].sample(None if noise is None else noise[index]))
        return gaussians, latents

    def render(self, top: Tensor, latents: Sequence[Tensor], states: Sequence[State]) -> tuple[Tensor, list[State]]:
        """Frames in [0, 1] from the top embeddings of the frames before them, and the states after."""
        by_level = {latent.level: z for latent, z in zip(self.config.latents, latents, strict=True)}
        x, after = top, []
        for index, (block, state) in enumerate(zip(self.renderer, states, strict=True)):
            x, state = light_steps(block, [x, by_level.get(TOP - index)], state, recompute=self.config.recompute)
            after.append(state)
        return torch.sigmoid(per_frame(self.output, x)), after

    def forward(self, frames: Tensor, noise: Sequence[Tensor] | None) -> Pass:
        """The training pass: latents from the posterior, true frames before each prediction.

        Args:
            frames: `[B, C + T, 3, 64, 64]`.
            noise: for the posterior.
        """
        context, before, after = self._views(frames)
        features, _ = self.features(self.posterior, after, self.start(self.posterior, context))
        posterior, latents = self.draw(self.posterior, features, noise)
        features, _ = self.features(self.prior, before, self.start(self.prior, context))
        # A dense prior is conditioned on what the posterior drew.
        prior = [
            light(b.gaussian, f, latents[:i], recompute=self.config.recompute)
            for i, (b, f) in enumerate(zip(_branches(self.prior), features, strict=True))
        ]
        predicted, _ = self.render(before[TOP], latents, self.start_renderer(context))
        return Pass(predicted, posterior, prior, latents)

    def prior_pass(self, frames: Tensor, noise: Sequence[Tensor] | None) -> tuple[Tensor, list[Gaussian]]:
        """One pass with latents from the prior, given the frame before each prediction.

        Args:
            frames: `[B, C + T, 3, 64, 64]`; the last one is not looked at.
            noise: for the prior.

        Returns:
            Predictions `[B, T, 3, 64, 64]`, and the prior by level.
        """
        context, before, _ = self._views(frames, last=False)
        features, _ = self.features(self.prior, before, self.start(self.prior, context))
        prior, latents = self.draw(self.prior, features, noise)
        predicted, _ = self.render(before[TOP], latents, self.start_renderer(context))
        return predicted, prior

    def _views(self, frames: Tensor, last: bool = True) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Embeddings of the context frames, of the frame before each prediction, of each predicted frame."""
        count, steps = self.config.context, frames.shape[1] - self.config.context
        embeddings = self.encode(frames if last else frames[:, :-1])
        context = [e[:, :count] for e in embeddings]
        before = [e[:, count - 1 : count - 1 + steps] for e in embeddings]
        return context, before, [e[:, count:] for e in embeddings]


def _branches(modules: nn.ModuleList) -> Iterable[LatentBranch]:
    return cast(Iterable[LatentBranch], modules)
