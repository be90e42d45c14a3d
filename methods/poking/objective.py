"""The training of the poking model: which losses move which parameters, and when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from methods.poking.adapter import Poking
from methods.poking.adversary import Adversary
from methods.poking.config import PokingConfig
from methods.poking.network import PokingNetwork
from methods.poking.recipes import RECIPES
from methods.poking.supervision import Supervision
from methods.training import Engine, Recipe, TrainingBatch, set_rate
from metrics.errors import MethodError


class PokingTraining:
    """Trains the poking model; see `methods.training.Training` and `PokingConfig`.

    An iteration of "alternating" training, the released program's:

    1. "static": the perceptual distance of x0 and its reconstruction moves the object encoder and the decoder.
    2. The video is rolled out from x0 and the poke. From iteration `gan_start` on, "patch" and "temporal" move the
       discriminators.
    3. "dynamics": reconstruction_weight L_rec + trajectory_weight L_traj, plus the adversarial terms, moves the poke
       encoder, the predictor and the decoder, with an optimiser of its own. The object encoder does not follow
       these losses, so it runs without a graph.

    "two" stages do 1 alone for the first `pretrain_share` of the steps, on one frame drawn from x0..xT of each clip,
    then 2 and 3 alone. "single" does 2 and 3 alone, and the object encoder follows them on both sides of L_traj.

    Rates: `learning_rate` times `rate_factor` for each milestone passed. The decoder's rate in "static" does not
    follow the milestones: in the released program a second schedule overwrites it with its initial value. The released
    schedules of the discriminators count epochs from their start; here they count as the others do, one epoch
    earlier on the authors' data.
    """

    name: ClassVar[str] = "poking"
    inputs: ClassVar[frozenset[str]] = frozenset({"poke"})
    Config: ClassVar[type[PokingConfig]] = PokingConfig
    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES

    def __init__(self, config: PokingConfig, seed: int) -> None:
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.network = PokingNetwork(config)
            self.adversary = Adversary(config) if config.gan else None
        self.networks: dict[str, nn.Module] = {"predictor": self.network}
        self.optimizers: dict[str, Optimizer] = {}
        network = self.network
        moved = [network.dynamics_enc, network.fusion_block, network.dec]
        if config.stages_of_training == "single":
            moved.append(network.shape_enc)
        else:
            self.optimizers["static"] = self._adam([network.shape_enc], [network.dec])
        self.optimizers["dynamics"] = self._adam(moved)
        if self.adversary is not None:
            for name, discriminator in self.adversary.named_children():
                self.networks[name] = discriminator
                self.optimizers[name] = self._adam([discriminator])
        if config.channels_last:
            for module in (network, *([self.adversary.patch] if self.adversary else [])):
                module.to(memory_format=torch.channels_last)
        self.supervision = Supervision(network, config)

    def check(self, size: int, context: int, horizon: int) -> None:
        """See `methods.training.Training.check`; also finds the weights of the perceptual loss.

        Raises:
            MethodError: another size than the configuration's; with discriminators, another horizon; no weights.
        """
        config = self.config
        if size != config.size:
            raise MethodError(f"poking: the configuration is for {config.size} px, found clips of {size} px; set both")
        if context < 1:
            raise MethodError(f"poking: expected at least one context frame, x0, found {context}")
        if config.gan and horizon != config.horizon:
            raise MethodError(
                f"poking: the temporal discriminator is for horizon {config.horizon}, found {horizon}; "
                "set model.horizon and data.horizon to the same"
            )
        self.supervision.perceptual()

    def step(self, parts: Sequence[TrainingBatch], engine: Engine) -> dict[str, Tensor]:
        """One iteration; see the class.

        Scalars: "static"; "reconstruction", "trajectory" and their weighted sum "dynamics"; with discriminators, their
        hinge losses, penalties, and the generator's terms, all before weighting.
        """
        kind, record = self.kind(engine), _Record(len(parts))
        if kind == "images":
            losses = (self.supervision.image_loss(part, record, any_frame=True) for part in parts)
            engine.minimise("static", losses)
            return record.values
        if self.config.stages_of_training == "alternating":
            engine.minimise("static", (self.supervision.image_loss(part, record) for part in parts))
        if self.adversary is not None and kind == "adversarial":
            self._adversarial(self.adversary, parts, engine, record)
        else:
            engine.minimise("dynamics", (self._without_adversary(part, record) for part in parts))
        return record.values

    def kind(self, engine: Engine) -> Literal["images", "videos", "adversarial"]:
        """See `methods.training.Recordable`."""
        self._set_rates(engine)
        start = self.config.gan_start
        if self.config.stages_of_training == "two":
            first = int(self.config.pretrain_share * engine.steps)
            if engine.iteration < first:
                return "images"
            start += first
        return "videos" if self.adversary is None or engine.iteration < start else "adversarial"

    def method(self) -> Poking:
        """A predictor that shares the network."""
        return Poking.sharing(self.network, self.config)

    def _adversarial(
        self, adversary: Adversary, parts: Sequence[TrainingBatch], engine: Engine, record: _Record
    ) -> None:
        """Both discriminators, then the generator against them.

        One part is rolled out once. Several are rolled out again for the generator, so that one graph is held.
        """
        graphs = []
        if len(parts) == 1:
            graphs = [self._video(parts[0])]
            fakes = [graphs[0][1].detach()]
        else:
            with torch.no_grad():
                fakes = [self._video(part)[1] for part in parts]
        pairs = list(zip(parts, fakes, strict=True))
        engine.minimise("patch", (adversary.patch_loss(part, fake, record) for part, fake in pairs))
        adversary.temporal.advance(2)
        engine.minimise("temporal", (adversary.temporal_loss(part, fake, record) for part, fake in pairs))
        adversary.temporal.advance(2)

        def losses() -> Iterator[Tensor]:
            for part in parts:
                states, frames = graphs.pop() if graphs else self._video(part)
                loss = self.supervision.video_loss(part, states, frames, record)
                yield loss + adversary.generator_loss(part, frames, record)
                del states, frames, loss

        engine.minimise("dynamics", losses())

    def _video(self, part: TrainingBatch) -> tuple[list[Tensor], Tensor]:
        """States of x1..xT, and the frames that they show, time first."""
        states = self.supervision.states(part)
        return states, self.supervision.film(part, states)

    def _without_adversary(self, part: TrainingBatch, record: _Record) -> Tensor:
        return self.supervision.video_loss(part, self.supervision.states(part), None, record)

    def _adam(self, modules: Sequence[nn.Module], constant: Sequence[nn.Module] = ()) -> Adam:
        """`constant`: what does not follow the milestones."""
        groups = [
            {"params": [p for module in chosen for p in module.parameters()], "follows_milestones": follows}
            for chosen, follows in ((modules, True), (constant, False))
            if chosen
        ]
        return Adam(groups, self.config.learning_rate, self.config.betas, fused=True)

    def _set_rates(self, engine: Engine) -> None:
        config = self.config
        rate = config.learning_rate
        if config.rate_cooldown:
            rate *= min(1.0, (1 - engine.iteration / engine.steps) / config.rate_cooldown)
        passed = sum(engine.epoch >= milestone for milestone in config.rate_milestones)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                set_rate(group, rate * config.rate_factor ** (passed if group["follows_milestones"] else 0))


class _Record:
    """The mean of each loss over the parts of a step."""

    def __init__(self, parts: int) -> None:
        self.values: dict[str, Tensor] = {}
        self._parts = parts

    def __call__(self, name: str, loss: Tensor) -> Tensor:
        share = loss.detach() / self._parts
        self.values[name] = self.values[name] + share if name in self.values else share
        return loss
