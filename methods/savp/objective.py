"""Training of SAVP: reconstruction and KL of the posterior rollout, adversarial terms of both rollouts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from methods.perceptual import PerceptualTerm
from methods.recompute import light
from methods.savp.adapter import Savp
from methods.savp.config import RECIPES, SavpConfig
from methods.savp.discriminator import VideoDiscriminator, discriminators
from methods.savp.draws import Starts, cropped, draw, draw_starts
from methods.savp.losses import (
    SCHEDULE,
    feature_distance,
    kl_share,
    kl_to_prior,
    learning_share,
    least_squares,
    reconstruction,
    tensorflow_epsilon,
    truth_probability,
)
from methods.savp.network import Generator
from methods.savp.rollouts import Rollouts, rollouts
from methods.training import Engine, Recipe, TrainingBatch
from metrics.errors import MethodError


def predictor_losses(
    config: SavpConfig, rolled: Rollouts, frames: Tensor, judges: nn.ModuleDict | None, starts: Starts, kl_weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The generator's objective, and its terms before they are weighted.

    Args:
        frames: the true frames `[N, T, 3, H, W]`.
        judges: the discriminators; no gradient reaches them.
        kl_weight: after annealing.
    """
    true = frames[:, 1:]
    terms = {"reconstruction": reconstruction(rolled.posterior, true, config.reconstruction)}
    total = config.reconstruction_weight * terms["reconstruction"]
    if config.kl_weight and rolled.mean is not None and rolled.log_variance is not None:
        terms["kl"] = kl_to_prior(rolled.mean, rolled.log_variance)
        total = total + kl_weight * terms["kl"]
    weights = {
        "prior": (config.gan_weight, config.gan_feature_weight),
        "posterior": (config.vae_gan_weight, config.vae_gan_feature_weight),
    }
    for name, made in rolled.made().items():
        if judges is None or name not in judges:
            continue
        judge, (weight, feature_weight) = _judge(judges, name), weights[name]
        at_true, at_made = starts[name]
        with torch.no_grad():
            normalised, _ = judge.weights()
        shown = cropped(made, at_made, config.clip_length)
        wanted = cropped(true, at_true, config.clip_length) if feature_weight else None
        gan, features = light(_verdict, judge, normalised, shown, wanted, recompute=config.recompute)
        terms[f"{name}_gan"] = gan
        total = total + weight * gan
        if features is not None:
            terms[f"{name}_features"] = features
            total = total + feature_weight * features
    return total, terms


def _verdict(
    judge: VideoDiscriminator, weights: list[Tensor], made: Tensor, true: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """How far made clips are from being taken for true, and, where there are true ones, the distance of features."""
    logits, features = judge(made, weights)
    if true is None:
        return least_squares(logits, 1.0), None
    with torch.no_grad():
        _, expected = judge(true, weights)
    return least_squares(logits, 1.0), feature_distance(features, expected)


def discriminator_losses(
    config: SavpConfig, made: Mapping[str, Tensor], frames: Tensor, judges: nn.ModuleDict, starts: Starts
) -> tuple[Tensor, dict[str, Tensor], dict[str, list[Tensor]]]:
    """The discriminators' objective, its terms before they are weighted, and the next singular vectors.

    Args:
        made: predictions by the discriminator that judges them, without a graph.
        frames: the true frames `[N, T, 3, H, W]`.
    """
    terms: dict[str, Tensor] = {}
    estimates: dict[str, list[Tensor]] = {}
    total = frames.new_zeros(())
    for name, weight in (("prior", config.gan_weight), ("posterior", config.vae_gan_weight)):
        if name not in judges:
            continue
        judge = _judge(judges, name)
        at_true, at_made = starts[name]
        normalised, estimates[name] = judge.weights()
        true_clips = cropped(frames[:, 1:], at_true, config.clip_length)
        made_clips = cropped(made[name], at_made, config.clip_length)
        both = torch.cat([true_clips, made_clips])
        true, fake = light(_logits, judge, both, normalised, recompute=config.recompute).chunk(2)
        terms[f"{name}_discriminator"] = least_squares(true, 1.0) + least_squares(fake, 0.0)
        total = total + weight * terms[f"{name}_discriminator"]
    return total, terms, estimates


def _logits(judge: VideoDiscriminator, clips: Tensor, weights: list[Tensor]) -> Tensor:
    logits: Tensor = judge(clips, weights)[0]
    return logits


def _judge(judges: nn.ModuleDict, name: str) -> VideoDiscriminator:
    judge = judges[name]
    assert isinstance(judge, VideoDiscriminator)
    return judge


class SavpTraining:
    """Trains SAVP and its ablations (see `RECIPES`).

    A step updates the discriminators on clips of the present generator, then the generator against the updated ones,
    on the same rollouts and other clips of them. The singular vectors of the spectral norm are replaced once, between
    the two. Schedules follow the authors' 300,000 steps, scaled to the length of the training. With a
    `perceptual_weight`, the perceptual distance of posterior reconstructions joins the generator's objective.
    """

    name: ClassVar[str] = "savp"
    inputs: ClassVar[frozenset[str]] = frozenset()
    Config: ClassVar[type[SavpConfig]] = SavpConfig
    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES

    def __init__(self, config: SavpConfig, seed: int) -> None:
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.generator = Generator(config)
            self.judges = discriminators(config)
        self._perceptual = PerceptualTerm(config) if config.perceptual_weight else None
        self.networks: dict[str, nn.Module] = {"predictor": self.generator}
        if self.judges is not None:
            self.networks["discriminator"] = self.judges
        self.optimizers: dict[str, Optimizer] = {
            name: Adam(network.parameters(), lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=True)
            for name, network in self.networks.items()
        }

    def check(self, size: int, context: int, horizon: int) -> None:
        """Refuses clips of another size or context, and such as are too short for the discriminators.

        Raises:
            MethodError: what was expected, what was found.
        """
        config = self.config
        if size != config.size:
            raise MethodError(f"savp: expected frames of {config.size} x {config.size} px, found {size} x {size}")
        if context != config.context:
            raise MethodError(
                f"savp: the configuration has {config.context} context frames, the data {context}; set one to the other"
            )
        shortest = max(config.clip_length + 1 - context, 1) if config.adversarial else 1
        if horizon < shortest:
            raise MethodError(
                f"savp: discriminators see {config.clip_length} predicted frames, so clips need a horizon of at least "
                f"{shortest} after {context} context frames, found {horizon}; lengthen the clips or lower clip_length"
            )

    def step(self, parts: Sequence[TrainingBatch], engine: Engine) -> dict[str, Tensor]:
        """One step of the discriminators, if there are any, and one of the generator."""
        position = engine.iteration * SCHEDULE / engine.steps
        self._set_optimizers(learning_share(position), engine.iteration)
        probability, kl_weight = truth_probability(position), self.config.kl_weight * kl_share(position)
        log: dict[str, Tensor] = {}

        def note(total: str, loss: Tensor, terms: Mapping[str, Tensor]) -> None:
            for name, value in {total: loss, **terms}.items():
                share = value.detach() / len(parts)
                log[name] = log[name] + share if name in log else share

        def rolled(part: TrainingBatch) -> Rollouts:
            draws = draw(part, self.config, probability)
            return rollouts(self.generator, part.frames, part.context, draws)

        # One part: both phases use one graph. Several parts: memory holds one graph, so the rollouts are made again.
        kept = rolled(parts[0]) if len(parts) == 1 else None
        if self.judges is not None:
            judges, estimates = self.judges, {}

            def against() -> Iterator[Tensor]:
                for part in parts:
                    with torch.no_grad():
                        found = kept or rolled(part)
                    made = {name: video.detach() for name, video in found.made().items()}
                    starts = draw_starts(part, self.config, "discriminator")
                    loss, terms, new = discriminator_losses(self.config, made, part.frames, judges, starts)
                    estimates.update(new)
                    note("discriminator", loss, terms)
                    yield loss

            engine.minimise("discriminator", against())
            for name, new in estimates.items():
                _judge(judges, name).store(new)
            # Autocast keeps copies of weights: those of before the update, and such as were made without a graph.
            torch.clear_autocast_cache()

        def towards() -> Iterator[Tensor]:
            for part in parts:
                starts = draw_starts(part, self.config, "predictor") if self.judges is not None else {}
                found = kept or rolled(part)
                loss, terms = predictor_losses(self.config, found, part.frames, self.judges, starts, kl_weight)
                if self._perceptual is not None:
                    terms["perceptual"] = self._perceptual(part, found.posterior[:, part.context - 1 :], part.future)
                    loss = loss + self.config.perceptual_weight * terms["perceptual"]
                note("predictor", loss, terms)
                yield loss

        engine.minimise("predictor", towards())
        return log

    def method(self) -> Savp:
        """A predictor that shares the generator."""
        return Savp.sharing(self.generator, self.config)

    def _set_optimizers(self, share: float, iteration: int) -> None:
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = self.config.learning_rate * share
                group["eps"] = tensorflow_epsilon(iteration + 1, self.config.beta2)
