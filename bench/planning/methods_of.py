"""The methods of a suite as they can be measured: with trained weights, or without where they are yet to be trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bench.evaluation.prediction import AnyMethod
from bench.planning.costs import UNTRAINED
from bench.protocol import Protocol
from bench.suite_file import Suite, SuiteTraining
from bench.training.plan import make_plan
from methods.interface import Conditioning, Method, MethodCard
from methods.registry import build_method
from methods.training import TRAININGS
from metrics.errors import PokeBenchError


class Untrained:
    """A method with the weights that its training begins with: it predicts nonsense, and takes as long.

    Args:
        spec: as the suite names it.
        entry: how it is to be trained.
    """

    def __init__(self, spec: str, entry: SuiteTraining, protocol: Protocol) -> None:
        shape = {"size": protocol.size, "context": protocol.context, "horizon": protocol.horizon}
        # The network of a perceptual loss takes no part in predictions; this one's weights are always there.
        known = TRAININGS.get(entry.method).Config.model_fields
        pairs = (*entry.set, *(["model.perceptual=vgg16"] if "perceptual" in known else []))
        self._training = make_plan(entry.method, entry.recipe, pairs, given=shape).build()
        self._method: Method | None = None
        card = self._training.method().card
        self.card: MethodCard = replace(card, name=f"{entry.method}, recipe {entry.recipe}{UNTRAINED}", title=spec)

    def prepare(self, device: torch.device) -> None:
        """Moves the networks to `device`."""
        for network in self._training.networks.values():
            network.to(device)
        self._method = self._training.method()

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        """See `methods.interface.Method`."""
        assert self._method is not None
        return self._method.predict(conditioning, samples, seed)


def measurable(suite: Suite) -> tuple[list[AnyMethod], list[str]]:
    """The methods of a suite that can be built, and of the others what they are and why they cannot."""
    built: list[AnyMethod] = []
    unknown = []
    for spec in suite.methods:
        try:
            built.append(build_method(spec))
        except PokeBenchError as error:
            entry = _training(spec, suite.training)
            if entry is None:
                unknown.append(f"{spec}: {error}")
                continue
            try:
                built.append(Untrained(spec, entry, suite.protocol))
            except PokeBenchError as fault:
                unknown.append(f"{spec}: it is not trained yet, and without its weights, {fault}")
    return built, unknown


def _training(spec: str, entries: Sequence[SuiteTraining]) -> SuiteTraining | None:
    """How the method that `spec` names is trained: the entry whose METHOD-RECIPE is a folder of its checkpoint."""
    name, _, options = spec.partition(":")
    folders = options.replace("\\", "/").split("/")
    fitting = [e for e in entries if e.method == name and f"{e.method}-{e.recipe}" in folders and name in TRAININGS]
    return fitting[0] if fitting else None
