"""SRVP as a row of the tables: predicts from context frames alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from methods.interface import Conditioning, MethodCard
from methods.perceptual import CARD_NOTE, CARD_TITLE
from methods.srvp.config import SIZE, SRVPConfig
from methods.srvp.network import SRVPNetwork, sampled
from methods.srvp.official import load_official
from methods.srvp.variant import check_variant
from methods.weights_file import check_one_file, fill, load_weights
from metrics.errors import MethodError

PAPER = (
    "J.-Y. Franceschi, E. Delasalles, M. Chen, S. Lamprier, P. Gallinari: Stochastic Latent Residual Video "
    "Prediction. ICML 2020"
)
ROLLED_TOGETHER = 20
"""Samples whose latent states are computed in one batch. Always so many, and always one sample to decode, so that a
sample comes out the same, to the last bit, however many are drawn."""


class SRVP:
    """Predicts by rolling the latent dynamics out and decoding each state; nothing is autoregressive in pixels.

    All context frames are used: the first k for the first state, the last k for the content, the last one for the
    skips, and each but the first for its noise. The context of a clip is encoded once for all samples.

    Args:
        checkpoint: weights of `bench train`, .safetensors.
        official: a checkpoint of the authors' program, with their config.json beside it.
        euler_steps: Euler steps a frame that an official checkpoint was trained with; needed without config.json.
    """

    card: MethodCard

    def __init__(
        self, checkpoint: Path | None = None, official: Path | None = None, euler_steps: int | None = None
    ) -> None:
        check_one_file("srvp", checkpoint, official)
        if official is not None:
            read = load_official(official, euler_steps)
            network = SRVPNetwork(read.config)
            fill(network, read.tensors, str(official))
            self._set(network, {official.name: read.sha256}, "Apache-2.0")
        elif checkpoint is not None:
            if euler_steps is not None:
                raise MethodError(
                    "srvp: a checkpoint of `bench train` says its Euler steps; leave the option euler_steps out"
                )
            file = load_weights(checkpoint, "srvp")
            config: SRVPConfig = file.configured(SRVPConfig)
            check_variant(config, file.tensors, str(file.path), "its own configuration")
            network = SRVPNetwork(config)
            file.fill(network)
            self._set(network, {file.path.name: file.sha256}, "")
            self.card = file.titled(self.card)

    @classmethod
    def sharing(cls, network: SRVPNetwork) -> Self:
        """The method with a network that somebody else trains; nothing is copied."""
        method = cls.__new__(cls)
        method._set(network, {}, "")
        return method

    def _set(self, network: SRVPNetwork, weights: dict[str, str], licence: str) -> None:
        config = network.config
        self.network = network
        grey = " Sees the red channel of the context alone and predicts grey frames." if config.channels == 1 else ""
        self.card = MethodCard(
            name=f"srvp-{config.name}",
            title="SRVP" + (CARD_TITLE if config.perceptual_weight else ""),
            revision="1",
            stochastic=True,
            paper=PAPER,
            licence=licence,
            min_context=config.conditioning,
            sizes=frozenset({SIZE}),
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            weights=weights,
            notes=f"Latent residual dynamics, {config.architecture.upper()} encoder and decoder "
            f"{'with' if config.skips else 'without'} skips; sees no poke.{grey}"
            f"{CARD_NOTE if config.perceptual_weight else ''}",
        )

    def prepare(self, device: torch.device) -> None:
        """Moves the network to `device`."""
        self.network.to(device)

    @torch.no_grad()
    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        """Predicted frames `[B, samples, T, 3, 64, 64]`; see `methods.interface.Method`.

        Raises:
            MethodError: too few context frames, another size than 64 px, or no frame to predict.
        """
        self._check(conditioning)
        config, context = self.network.config, conditioning.context
        steps = context.shape[1] + conditioning.horizon - 1
        with _evaluating(self.network):
            clips = [
                self._clip(clip[:, : config.channels], noise.to(context.device))
                for clip, noise in zip(context, self._noise(conditioning, samples, seed, steps), strict=True)
            ]
        return torch.stack(clips).expand(-1, -1, -1, 3, -1, -1).contiguous()

    def _noise(self, conditioning: Conditioning, samples: int, seed: int, steps: int) -> Iterator[Tensor]:
        """For each clip, standard normal noise of y_0, then of every step: `[samples, state + steps noise]`."""
        config = self.network.config
        for generator in conditioning.generators(seed):
            drawn = [torch.randn(config.state + steps * config.noise, generator=generator) for _ in range(samples)]
            yield torch.stack(drawn)

    def _clip(self, context: Tensor, noise: Tensor) -> Tensor:
        """Samples `[S, T, C, 64, 64]` of a clip from its context `[C', C, 64, 64]` and noise `[S, ...]`."""
        network, shown = self.network, len(context)
        config = network.config
        codes, features = network.encode(context.unsqueeze(0))
        content = network.content(codes[:, -config.conditioning :])
        terms = network.decoder.skip_terms([feature[:, -1] for feature in features])
        first = network.first_parameters(codes)
        posteriors = network.posterior_parameters(codes).expand(ROLLED_TOGETHER, -1, -1)

        filled = functional.pad(noise, (0, 0, 0, -len(noise) % ROLLED_TOGETHER))
        states = []
        for group in filled.split(ROLLED_TOGETHER):
            start = sampled(first, group[:, : config.state])
            eps = group[:, config.state :].unflatten(1, (-1, config.noise))
            states.append(network.evolve(start, posteriors, eps).states[:, shown:])
        decoded = [network.decode(content, sample, terms) for sample in torch.cat(states)[: len(noise)].split(1)]
        return torch.cat(decoded)

    def _check(self, conditioning: Conditioning) -> None:
        shown, (height, width) = conditioning.context.shape[1], conditioning.context.shape[-2:]
        k = self.network.config.conditioning
        if (height, width) != (SIZE, SIZE):
            raise MethodError(
                f"{self.card.name}: expected frames of {SIZE} x {SIZE} px, found {height} x {width}. "
                f"Use a protocol with size={SIZE}."
            )
        if shown < k:
            raise MethodError(
                f"{self.card.name}: these weights infer the first state from {k} context frames, found {shown}. "
                f"Use a protocol with context={k} or more, or weights trained with conditioning = {shown}."
            )
        if conditioning.horizon < 1:
            raise MethodError(
                f"{self.card.name}: expected at least 1 frame to predict, found a horizon of {conditioning.horizon}"
            )


@contextmanager
def _evaluating(network: SRVPNetwork) -> Iterator[None]:
    """The network in evaluation mode, and back in its former one afterwards."""
    before = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(before)
