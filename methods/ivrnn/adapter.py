"""IVRNN as a method of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor

from methods.compiled import NOTE, check_compiler, compiled_form
from methods.interface import Conditioning, MethodCard
from methods.ivrnn.config import SIDE, IVRNNConfig, Variant
from methods.ivrnn.network import ImprovedVRNN
from methods.ivrnn.official import read_official
from methods.ivrnn.sampler import SAMPLERS, SampleNoise, Steps, incremental, look, released, show
from methods.perceptual import CARD_NOTE, CARD_TITLE
from methods.weights_file import check_one_file, fill, load_weights
from metrics.cache import sha256_of
from metrics.errors import MethodError

Sampler = Literal["incremental", "released"]

ROWS = 64
"""Samples predicted at once, to bound memory; they are those of one clip or more."""
PAPER = 'Castrejon, Ballas, Courville: "Improved Conditional VRNNs for Video Prediction", ICCV 2019'
TITLES: dict[Variant, str] = {
    "hierarchical": "IVRNN",
    "flat": "IVRNN (one level)",
    "dense-prior": "IVRNN (dense prior)",
}


class IVRNN:
    """The improved conditional VRNN: K samples a clip from the learned prior.

    Args:
        checkpoint: a weights file of ours.
        official: in its place, a checkpoint of the authors' program.
        variant: what the weights are expected to be; None: whatever they are.
        sampler: "incremental" carries states on and is linear in the horizon; "released" is the authors' procedure, a
            pass over the whole clip for each frame with fresh noise.
        compiled: a step of the incremental sampler goes through torch.compile, once for each number of rows.

    Raises:
        MethodError: neither or both files are given, the file cannot be read, it is of another variant, or another
            sampler is to be compiled.
    """

    card: MethodCard

    def __init__(
        self,
        checkpoint: Path | None = None,
        official: Path | None = None,
        variant: Variant | None = None,
        sampler: Sampler = "incremental",
        compiled: bool = False,
    ) -> None:
        check_one_file("ivrnn", checkpoint, official)
        if compiled and sampler != "incremental":
            raise MethodError(
                f"ivrnn: compiled=true is for sampler=incremental, found {sampler}; leave one of them out"
            )
        if sampler not in SAMPLERS:
            raise MethodError(f"ivrnn: expected a sampler of {', '.join(SAMPLERS)}, found {sampler!r}")
        if checkpoint is not None:
            file = load_weights(checkpoint, "ivrnn")
            path, sha256, licence = file.path, file.sha256, ""
            config, tensors = file.configured(IVRNNConfig), file.tensors
        else:
            assert official is not None
            path = Path(official)
            config, tensors = read_official(path)
            sha256, licence = sha256_of(path), "weights: CC BY-NC 4.0"
        if variant is not None and config.variant != variant:
            raise MethodError(
                f"{path}: expected weights of the variant {variant!r}, found the variant {config.variant!r}. "
                f"Write variant={config.variant}, or take another file."
            )
        with torch.device("meta"):
            network = ImprovedVRNN(config)
        network = network.to_empty(device="cpu")
        fill(network, tensors, str(path))
        self._hold(network, sampler, licence, {path.name: sha256}, compiled)
        if checkpoint is not None:
            self.card = file.titled(self.card)

    @classmethod
    def sharing(cls, network: ImprovedVRNN, sampler: Sampler = "incremental") -> Self:
        """The method with a network that somebody else trains or made; nothing is copied."""
        method = cls.__new__(cls)
        method._hold(network, sampler, "", {})
        return method

    def _hold(
        self,
        network: ImprovedVRNN,
        sampler: Sampler,
        licence: str,
        weights: Mapping[str, str],
        compiled: bool = False,
    ) -> None:
        self.network, self.sampler = network, sampler
        self._steps = Steps(compiled_form("ivrnn", show), compiled_form("ivrnn", look)) if compiled else Steps()
        self._compiled = compiled
        config = network.config
        released = sampler == "released"
        self.card = MethodCard(
            name=f"ivrnn-{config.recipe}{'-released-sampler' if released else ''}",
            title=TITLES[config.variant] + (CARD_TITLE if config.perceptual_weight else ""),
            revision="1+compiled" if compiled else "1",
            stochastic=True,
            paper=PAPER,
            licence=licence,
            min_context=config.context,
            sizes=frozenset({SIDE}),
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            weights=dict(weights),
            notes=f"Sees the last {config.context} context frames. Sampler: {sampler}"
            + (", the authors' procedure: a whole pass for each frame, with fresh noise." if released else ".")
            + (CARD_NOTE if config.perceptual_weight else "")
            + (" The unused det_init_net of the authors' program is not counted." if config.dense_prior else "")
            + (NOTE if compiled else ""),
        )

    def prepare(self, device: torch.device) -> None:
        """See `Method.prepare`; the weights were read when the method was built.

        Raises:
            MethodError: it is to be compiled, and there is no compiler.
        """
        if self._compiled:
            check_compiler("ivrnn", device)
        self.network.to(device).eval()

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        """See `Method.predict`.

        Raises:
            MethodError: too few context frames, frames of another size, no frame to predict, no sample.
        """
        context = self._checked(conditioning, samples)
        generators = conditioning.generators(seed)
        clips = max(1, ROWS // samples)
        predictions = []
        for start in range(0, len(context), clips):
            part = context[start : start + clips]
            noise = SampleNoise(generators[start : start + clips], samples, self.network.config.latents, context.device)
            inputs = self.network, part, conditioning.horizon, samples, noise
            predictions.append(
                incremental(*inputs, self._steps) if self.sampler == "incremental" else released(*inputs)
            )
        return torch.cat(predictions).float().unflatten(0, (len(context), samples))

    def _checked(self, conditioning: Conditioning, samples: int) -> Tensor:
        """The context frames that the networks take."""
        context, count = conditioning.context, self.network.config.context
        if context.shape[1] < count:
            raise MethodError(
                f"{self.card.name}: expected at least {count} context frames, for which the networks are built, "
                f"found {context.shape[1]}. Use a protocol with more context, or weights trained with less."
            )
        if tuple(context.shape[-2:]) != (SIDE, SIDE):
            height, width = context.shape[-2:]
            raise MethodError(
                f"{self.card.name}: expected frames of {SIDE} x {SIDE} px, found {height} x {width}. "
                "Use a protocol of that size."
            )
        if conditioning.horizon < 1 or samples < 1:
            raise MethodError(
                f"{self.card.name}: expected a horizon and samples of at least 1, found horizon {conditioning.horizon} "
                f"and {samples} samples"
            )
        return context[:, -count:]
