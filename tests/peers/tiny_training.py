"""A training small enough for tests of the loop: two networks, two optimisers that alternate, noise, a schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from methods.interface import Conditioning, MethodCard
from methods.training import Engine, Recipe, TrainingBatch
from metrics.errors import MethodError


class TinyConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = 4
    lr: float = 1e-2
    noise: float = 0.05
    max_norm: float | None = None
    break_at: int | None = None
    """Iteration whose loss is not a number."""


class TinyTraining:
    """Predicts frame t as a convolution of x0 and a constant map of the poke; the critic scores frames."""

    name: ClassVar[str] = "tiny"
    inputs: ClassVar[frozenset[str]] = frozenset({"poke"})
    Config: ClassVar[type[BaseModel]] = TinyConfig
    recipes: ClassVar[dict[str, Recipe]] = {
        "small": Recipe(TinyConfig(), {"size": 32, "validation_clips": 6}, {"steps": 12, "batch_size": 4}, "for tests"),
        "clipped": Recipe(TinyConfig(max_norm=0.1)),
    }

    def __init__(self, config: TinyConfig, seed: int) -> None:
        self.config = config
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            predictor = nn.Sequential(nn.Conv2d(5, config.width, 3, padding=1), nn.Conv2d(config.width, 3, 1))
            critic = nn.Conv2d(3, 1, 5)
        self.networks = {"predictor": predictor, "critic": critic}
        self.optimizers = {
            "predictor": torch.optim.Adam(predictor.parameters(), config.lr),
            "critic": torch.optim.SGD(critic.parameters(), config.lr, momentum=0.9),
        }

    def check(self, size: int, context: int, horizon: int) -> None:
        if size > 64:
            raise MethodError(f"tiny: expected at most 64 px, found {size}")

    def step(self, parts: Sequence[TrainingBatch], engine: Engine) -> dict[str, Tensor]:
        for group in self.optimizers["predictor"].param_groups:
            group["lr"] = self.config.lr * (1 - 0.5 * engine.iteration / engine.steps)
        said: dict[str, Tensor] = {}

        def critic(part: TrainingBatch) -> Tensor:
            fake = predicted(self.networks["predictor"], part.x0, part.poke.displacement).detach()
            critic = self.networks["critic"]
            said["critic"] = (critic(fake).mean() - critic(part.future[:, -1]).mean()).detach()
            return (1 - critic(part.future[:, -1])).relu().mean() + (1 + critic(fake)).relu().mean()

        def loss(part: TrainingBatch) -> Tensor:
            noise = self.config.noise * part.noise("input", part.x0.shape[1:])
            made = predicted(self.networks["predictor"], part.x0 + noise, part.poke.displacement)
            found = (made - part.future[:, -1]).square().mean() - 0.01 * self.networks["critic"](made).mean()
            said["loss"] = found.detach()
            return found * torch.nan if engine.iteration == self.config.break_at else found

        engine.minimise("critic", (critic(part) for part in parts))
        engine.minimise("predictor", (loss(part) for part in parts), self.config.max_norm)
        return said

    def method(self) -> TinyMethod:
        return TinyMethod(self.networks["predictor"])


class TinyMethod:
    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.card = MethodCard(name="tiny", title="Tiny", revision="1", inputs=frozenset({"context", "poke"}))

    def prepare(self, device: torch.device) -> None:
        self.network.to(device)

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        frame = predicted(self.network, conditioning.x0, conditioning.poke.displacement).clamp(0, 1)
        return frame[:, None, None].expand(-1, 1, conditioning.horizon, -1, -1, -1)


def predicted(network: nn.Module, x0: Tensor, displacement: Tensor) -> Tensor:
    shifted = (displacement / 10)[:, :, None, None].expand(-1, -1, *x0.shape[-2:])
    return x0 + network(torch.cat([x0, shifted], dim=1))
