"""The objective of SRVP (section 3.4 and appendix of the paper) and its training.

Every term is a sum over frames, channels, pixels or latent dimensions, and a mean over clips alone: a mean over
anything else would change the weight of the divergences by orders of magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from methods.interface import Method
from methods.perceptual import PerceptualTerm
from methods.srvp.config import RECIPES, SIZE, SRVPConfig
from methods.srvp.network import Path, SRVPNetwork, mean_and_std, sampled
from methods.training import Engine, Recipe, TrainingBatch
from metrics.errors import MethodError


@dataclass(frozen=True)
class Draws:
    """All that is random in a training step.

    Attributes:
        first: standard normal noise of y_0, `[B, state]`.
        noises: standard normal noise of z_1..z_{T-1}, `[B, T - 1, noise]`.
        content_frames: int64 `[B, k]`: the frames that show the content, all different.
        skip_frame: int64 `[B]`: the frame whose features the decoder sees.
    """

    first: Tensor
    noises: Tensor
    content_frames: Tensor
    skip_frame: Tensor


@dataclass(frozen=True)
class Reconstruction:
    """The forward pass of a training step.

    Attributes:
        frames: all T frames decoded, `[B, T, C, 64, 64]` in [0, 1].
        codes: `[B, T, code]`.
        content: w, `[B, inference_width]`.
        first: parameters of q(y_0), `[B, 2 state]`.
        posteriors, priors: parameters of q(z_t) and p(z_t), t = 1..T-1, `[B, T - 1, 2 noise]`.
        path: states, noises and residuals.
    """

    frames: Tensor
    codes: Tensor
    content: Tensor
    first: Tensor
    posteriors: Tensor
    priors: Tensor
    path: Path


@dataclass(frozen=True)
class Terms:
    """The terms of the objective, each a scalar, a mean over clips."""

    loss: Tensor
    likelihood: Tensor
    divergence_y: Tensor
    divergence_z: Tensor
    residual: Tensor


def draw(config: SRVPConfig, batch: TrainingBatch) -> Draws:
    """The draws for a batch, from its own generators.

    Frames of content, and of skips where `config.skip_frame` is "any", are drawn from the whole clip, the frames to be
    predicted included.
    """
    length, device = batch.frames.shape[1], batch.frames.device
    shown = [torch.randperm(length, generator=g)[: config.conditioning] for g in batch.generators("content")]
    if config.skip_frame == "any":
        skips = [torch.randint(length, (), generator=g) for g in batch.generators("skip")]
    else:
        skips = [torch.tensor(config.conditioning - 1)] * len(batch.frames)
    return Draws(
        first=batch.noise("first", (config.state,)),
        noises=batch.noise("noises", (length - 1, config.noise)),
        content_frames=torch.stack(shown).to(device, non_blocking=True),
        skip_frame=torch.stack(skips).to(device, non_blocking=True),
    )


def reconstruct(network: SRVPNetwork, frames: Tensor, draws: Draws) -> Reconstruction:
    """The forward pass of a training step: every noise comes from its posterior, every frame is decoded.

    Args:
        frames: `[B, T, C, 64, 64]` in [0, 1].
    """
    codes, features = network.encode(frames)
    clips = torch.arange(len(frames), device=frames.device)
    skips = [feature[clips, draws.skip_frame] for feature in features]
    content = network.content(codes[clips[:, None], draws.content_frames])
    first, posteriors = network.first_parameters(codes), network.posterior_parameters(codes)
    path = network.evolve(sampled(first, draws.first), posteriors, draws.noises)
    decoded = network.decode(content, path.states, network.decoder.skip_terms(skips))
    priors = network.prior_parameters(path.states[:, :-1])
    return Reconstruction(decoded, codes, content, first, posteriors, priors, path)


def divergence(q: Tensor, p: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the Gaussian with parameters `q` from that with `p`, element by element."""
    (q_mean, q_std), (p_mean, p_std) = mean_and_std(q), mean_and_std(p)
    ratio = (q_std / p_std) ** 2
    return 0.5 * (ratio + ((q_mean - p_mean) / p_std) ** 2 - 1 - ratio.log())


def divergence_from_standard(q: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the Gaussian with parameters `q` from N(0, 1), element by element."""
    mean, std = mean_and_std(q)
    return 0.5 * (std**2 + mean**2 - 1) - std.log()


def objective(config: SRVPConfig, frames: Tensor, made: Reconstruction) -> Terms:
    """The negative evidence lower bound and the penalty of the residuals.

    The likelihood is that of a Gaussian with its constants, over all frames, the context included. The penalty is the
    sum of the norms, not squared, of what the Euler steps added.

    Args:
        frames: the truth `[B, T, C, 64, 64]`.
    """
    clips, std = len(frames), config.observation_std
    constant = math.log(std) + 0.5 * math.log(2 * math.pi)
    squared = ((frames - made.frames) ** 2).sum()
    likelihood = squared / (2 * std**2 * clips) + frames[0].numel() * constant
    divergence_y = divergence_from_standard(made.first).sum() / clips
    divergence_z = divergence(made.posteriors, made.priors).sum() / clips
    residual = torch.linalg.vector_norm(made.path.residuals, dim=-1).sum() / clips
    loss = likelihood + config.beta_y * divergence_y + config.beta_z * divergence_z + config.residual_weight * residual
    return Terms(loss, likelihood, divergence_y, divergence_z, residual)


def learning_rate(config: SRVPConfig, iteration: int, steps: int) -> float:
    """The rate of the step after `iteration` steps, of `steps` in all: constant, then linear to 0 in the last step."""
    decay = round(config.decay * steps)
    if decay == 0:
        return config.learning_rate
    return config.learning_rate * min(1.0, max(0, steps - iteration - 1) / decay)


class SRVPTraining:
    """One Adam optimiser over all networks of SRVP; see `methods/training.py`."""

    name: ClassVar[str] = "srvp"
    inputs: ClassVar[frozenset[str]] = frozenset()
    Config: ClassVar[type[BaseModel]] = SRVPConfig
    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES

    def __init__(self, config: SRVPConfig, seed: int) -> None:
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = SRVPNetwork(config)
        self.networks: dict[str, nn.Module] = {"predictor": self.network}
        adam = Adam(self.network.parameters(), lr=config.learning_rate, fused=True)
        self.optimizers: dict[str, Optimizer] = {"srvp": adam}
        self._perceptual = PerceptualTerm(config) if config.perceptual_weight else None

    def check(self, size: int, context: int, horizon: int) -> None:
        """Refuses clips that the configuration does not fit.

        Raises:
            MethodError: another size than 64 px, less context than the conditioning frames, or no frame to predict.
        """
        k = self.config.conditioning
        if size != SIZE:
            raise MethodError(f"srvp: expected frames of {SIZE} px, found {size} px. Train with data size {SIZE}.")
        if context < k:
            raise MethodError(
                f"srvp: its configuration infers the first state from {k} frames, found {context} context frames. "
                f"Give {k} or more, or a configuration with conditioning = {context}."
            )
        if horizon < 1:
            raise MethodError(f"srvp: expected at least 1 frame to predict, found a horizon of {horizon}")

    def step(self, parts: Sequence[TrainingBatch], engine: Engine) -> dict[str, Tensor]:
        """One Adam step; see `methods.training.Training`."""
        rate = learning_rate(self.config, engine.iteration, engine.steps)
        for group in self.optimizers["srvp"].param_groups:
            group["lr"] = rate
        perceptual = None if engine.iteration < round(self.config.perceptual_from * engine.steps) else self._perceptual
        self.network.train()
        found: list[dict[str, Tensor]] = []

        def losses() -> Iterator[Tensor]:
            for part in parts:
                frames = part.frames[:, :, : self.config.channels]
                made = reconstruct(self.network, frames, draw(self.config, part))
                terms = objective(self.config, frames, made)
                loss, scalars = terms.loss, vars(terms)
                if perceptual is not None:
                    apart = perceptual(part, made.frames, frames) * frames[0].numel()
                    loss = loss + self.config.perceptual_weight * apart
                    scalars = {**scalars, "loss": loss, "perceptual": apart}
                found.append({name: value.detach() for name, value in scalars.items()})
                yield loss

        engine.minimise("srvp", losses(), self.config.max_norm)
        return {name: torch.stack([scalars[name] for scalars in found]).mean() for name in found[0]}

    def method(self) -> Method:
        """A predictor that shares the networks."""
        from methods.srvp.adapter import SRVP

        return SRVP.sharing(self.network)
