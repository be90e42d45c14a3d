"""What an IVRNN minimises, and how: the negative evidence bound, summed over everything but the clips.

Source: Castrejon et al. (ICCV 2019), as the authors' program computes it. The losses are sums over time, channels,
pixels and latent elements, so that learning rates and weights do not carry over from programs that take means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from methods.ivrnn.adapter import IVRNN
from methods.ivrnn.config import RECIPES, SIDE, IVRNNConfig
from methods.ivrnn.network import Gaussian, ImprovedVRNN, Pass
from methods.perceptual import PerceptualTerm
from methods.training import Engine, Recipe, TrainingBatch
from metrics.errors import MethodError

RAMP_CLIPS = 16
"""The batch for which the learning rate was chosen; the rate of other batches is in proportion."""
RECONSTRUCTIONS: Mapping[str, Callable[..., Tensor]] = {
    "l1": functional.l1_loss,
    "l2": functional.mse_loss,
    "bce": functional.binary_cross_entropy,
}


def reconstruction(predicted: Tensor, target: Tensor, kind: str) -> Tensor:
    """Error of predicted frames, summed over time, channels and pixels, averaged over the batch.

    Args:
        predicted, target: `[B, T, 3, H, W]` in [0, 1].
        kind: "l1", "l2" (squared error without 1/2) or "bce".
    """
    return RECONSTRUCTIONS[kind](predicted, target, reduction="sum") / len(target)


def divergence(q: Gaussian, p: Gaussian, z: Tensor, kind: str) -> Tensor:
    """Divergence of the posterior q from the prior p at one level, summed over time and elements, averaged over clips.

    Args:
        z: the sample of q, `[B, T, c, H, W]`.
        kind: "sampled": log q(z) - log p(z). "closed-form": its expectation over z.
    """
    if kind == "sampled":
        terms = _log_density(q, z) - _log_density(p, z)
    else:
        spread = torch.exp(q.logvar - p.logvar) + (q.mean - p.mean).square() * torch.exp(-p.logvar)
        terms = 0.5 * (p.logvar - q.logvar + spread - 1)
    return terms.sum() / len(z)


def _log_density(gaussian: Gaussian, z: Tensor) -> Tensor:
    """Without the constant, which cancels."""
    return -0.5 * (gaussian.logvar + (z - gaussian.mean).square() * torch.exp(-gaussian.logvar))


def learning_rate(config: IVRNNConfig, iteration: int, clips: int) -> float:
    """The rate of a step: constant, or on the authors' line from `learning_rate` to that of a batch of `clips`.

    Args:
        iteration: steps done before.
        clips: in the batch of all processes.
    """
    if not config.ramp_steps:
        return config.learning_rate
    done = min(1.0, iteration / config.ramp_steps)
    return config.learning_rate * (1 + done * (clips / RAMP_CLIPS - 1))


def beta(config: IVRNNConfig, iteration: int) -> float:
    """Weight of the divergence in a step, after `iteration` steps done; the warm-up counts from 1."""
    return config.beta * min(1.0, (iteration + 1) / config.beta_warmup) if config.beta_warmup else config.beta


class IVRNNTraining:
    """See `methods.training.Training`.

    Scalars of a step: "loss", "reconstruction", "divergence", "divergence_0", ... by level (0 is the top), "beta",
    and "perceptual" where it has a weight.
    """

    name: ClassVar[str] = "ivrnn"
    inputs: ClassVar[frozenset[str]] = frozenset()
    Config: ClassVar[type[IVRNNConfig]] = IVRNNConfig
    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES

    def __init__(self, config: IVRNNConfig, seed: int) -> None:
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = ImprovedVRNN(config)
        self.networks: Mapping[str, nn.Module] = {"predictor": self.network}
        adam = torch.optim.Adam(
            self.network.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(0.9, 0.999),
            fused=True,
        )
        self.optimizers: Mapping[str, Optimizer] = {"predictor": adam}
        self._perceptual = PerceptualTerm(config) if config.perceptual_weight else None

    def check(self, size: int, context: int, horizon: int) -> None:
        """See `methods.training.Training.check`."""
        if size != SIDE:
            raise MethodError(f"ivrnn: expected frames of {SIDE} px, found {size} px. Set data.size={SIDE}.")
        if context != self.config.context:
            raise MethodError(
                f"ivrnn: expected {self.config.context} context frames, for which the networks are built, "
                f"found {context}. Set data.context={self.config.context}, or model.context={context}."
            )
        if horizon < 1:
            raise MethodError(f"ivrnn: expected a horizon of at least 1 frame, found {horizon}")

    def step(self, parts: Sequence[TrainingBatch], engine: Engine) -> dict[str, Tensor]:
        """See `methods.training.Training.step`."""
        rate = learning_rate(self.config, engine.iteration, parts[0].total or sum(len(part) for part in parts))
        for group in self.optimizers["predictor"].param_groups:
            group["lr"] = rate
        weight = beta(self.config, engine.iteration)
        logged: list[dict[str, Tensor]] = []

        def losses() -> Iterator[Tensor]:
            for part in parts:
                terms = self.terms(part)
                total = terms["reconstruction"] + weight * terms["divergence"]
                if "perceptual" in terms:
                    total = total + self.config.perceptual_weight * terms["perceptual"]
                logged.append({"loss": total.detach(), **{name: term.detach() for name, term in terms.items()}})
                yield total

        engine.minimise("predictor", losses())
        scalars = {name: torch.stack([found[name] for found in logged]).mean() for name in logged[0]}
        return {**scalars, "beta": torch.full_like(scalars["loss"], weight)}

    def terms(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """The terms of the objective for one batch, with the posterior's noise of that batch."""
        steps = batch.future.shape[1]
        shapes = [(steps, z.channels, z.side, z.side) for z in self.config.latents]
        noise = [batch.noise(f"posterior/{level}", shape) for level, shape in enumerate(shapes)]
        found = self.network(batch.frames, noise)
        terms = objective(self.config, found, batch.future)
        if self._perceptual is not None:
            apart = self._perceptual(batch, found.frames, batch.future)
            terms["perceptual"] = apart * batch.future[0].numel()
        return terms

    def method(self) -> IVRNN:
        """See `methods.training.Training.method`."""
        return IVRNN.sharing(self.network)


def objective(config: IVRNNConfig, found: Pass, target: Tensor) -> dict[str, Tensor]:
    """The terms of the objective of a training pass, in float32 or better whatever the precision of the pass.

    Args:
        target: the true frames, `[B, T, 3, H, W]`.

    Returns:
        "reconstruction", "divergence" (over all levels), and "divergence_0", ... by level.
    """
    with torch.autocast(target.device.type, enabled=False):
        frames = found.frames.to(target.dtype)
        levels = [
            divergence(q, p, z, config.divergence)
            for q, p, z in zip(found.posterior, found.prior, found.latents, strict=True)
        ]
        return {
            "reconstruction": reconstruction(frames, target, config.reconstruction),
            "divergence": torch.stack(levels).sum(),
            **{f"divergence_{index}": level for index, level in enumerate(levels)},
        }
