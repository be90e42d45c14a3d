"""The poking model as a method of the benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from methods.compiled import NOTE, check_compiler, compiled_form
from methods.interface import Conditioning, MethodCard, Poke
from methods.poking.config import PokingConfig
from methods.poking.network import PokingNetwork
from methods.poking.official import read_generator
from methods.poking.poke_map import check_poke
from methods.poking.predictor import Convolutions, plain_step
from methods.weights_file import check_one_file, load_weights
from metrics.cache import sha256_of
from metrics.errors import MethodError

NAME = "poking"
CHUNK = 16
"""Clips rolled out and drawn at a time: at full size, 64 px and ten frames, the largest map then takes 0.3 GB."""
GPU_CHUNK = 64
"""The same on a GPU, which few clips do not keep busy."""
MANY = 8
"""From so many pokes on one image, transforming the weights of the predictor pays off on a CPU."""
LPIPS_NOTE = " It was trained with LPIPS (VGG) in place of mean absolute differences between maps."
PAPER = (
    "A. Blattmann, T. Milbich, M. Dorkenwald, B. Ommer: Understanding Object Dynamics for Interactive Image-to-Video "
    "Synthesis. CVPR 2021"
)


class Poking:
    """The poking model: x0 and a poke in, a video of any length out; deterministic.

    Args:
        checkpoint: a .safetensors file of a training here.
        official: a generator checkpoint of the authors, instead.
        size: side of its frames in px, for `official`; None: 64 with three levels, 128 with four, as released.
        compiled: the steps of the GRUs go through torch.compile, once for each level and number of clips.
    """

    card: MethodCard

    def __init__(
        self,
        checkpoint: Path | None = None,
        official: Path | None = None,
        size: int | None = None,
        compiled: bool = False,
    ) -> None:
        check_one_file("poking", checkpoint, official)
        if checkpoint is not None:
            if size is not None:
                raise MethodError("poking: size is for official=FILE; a checkpoint knows its own. Leave it out.")
            found = load_weights(checkpoint, NAME)
            config = found.configured(PokingConfig)
            network = PokingNetwork(config)
            found.fill(network)
            self._take(network, config, {checkpoint.name: found.sha256}, compiled)
            self.card = found.titled(self.card)
        else:
            assert official is not None
            config, tensors = read_generator(official, size)
            network = PokingNetwork(config)
            network.load_state_dict(tensors)
            self._take(network, config, {official.name: sha256_of(official)}, compiled)

    @classmethod
    def sharing(cls, network: PokingNetwork, config: PokingConfig) -> Poking:
        """A predictor that uses `network` as it is, and as it becomes."""
        method = cls.__new__(cls)
        method._take(network, config, {})
        return method

    def _take(
        self, network: PokingNetwork, config: PokingConfig, weights: dict[str, str], compiled: bool = False
    ) -> None:
        self.network, self.config = network, config
        self._step = compiled_form("poking", plain_step) if compiled else None
        self.card = MethodCard(
            name=f"poking-{config.recipe}",
            title=f"Poking ({config.recipe})",
            revision="1+compiled" if compiled else "1",
            inputs=frozenset({"context", "poke"}),
            paper=PAPER,
            licence="MIT (the authors' code)",
            sizes=frozenset({config.size}),
            parameters=sum(p.numel() for p in network.parameters()),
            weights=weights,
            notes="Sees x0 alone of the context. "
            + (
                "Its poke encoder sees the length of pokes."
                if config.poke_encoder == "plus"
                else "Its poke encoder hardly sees the length of pokes; a poke of length zero gives phi = 0."
            )
            + (" It moves x0 along a flow, and draws anew where that does not do." if config.decoder == "warp" else "")
            + (f" Its update gates begin {config.hold:g} lower than the authors'." if config.hold else "")
            + (LPIPS_NOTE if config.perceptual_form == "lpips" else "")
            + (NOTE if compiled else ""),
        )

    def prepare(self, device: torch.device) -> None:
        """Moves the network to `device`.

        Raises:
            MethodError: it is to be compiled, and there is no compiler.
        """
        if self._step is not None:
            check_compiler("poking", device)
        self.network.to(device)

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        """The video, `[B, 1, T, 3, H, W]` in [0, 1].

        Raises:
            MethodError: no poke, a poke outside the image, or frames of another size.
        """
        x0, poke = conditioning.x0, conditioning.poke
        if poke is None:
            raise MethodError(f"{self.card.name}: expected pokes, found none; use a protocol with a poke rule")
        if poke.location.shape[0] != x0.shape[0]:
            raise MethodError(
                f"{self.card.name}: expected one poke for each of {x0.shape[0]} clips, found {poke.location.shape[0]}"
            )
        self._check(x0, poke)
        with torch.no_grad():
            signed = self._signed(x0)
            return self._videos(self.network.encode(signed), signed, poke, conditioning.horizon).unsqueeze(1)

    def rollout_pokes(self, x0: Tensor, pokes: Poke, horizon: int, frames: Sequence[int] | None = None) -> Tensor:
        """The videos of K pokes on one image, which is encoded once; equal to those of `predict` to 1e-4.

        Args:
            x0: float `[3, H, W]` in [0, 1], on the device given to `prepare`.
            pokes: location and displacement `[K, 2]`, on the same.
            horizon: T.
            frames: numbers of the frames to draw, from 1 to T, in any order; None: all.

        Returns:
            `[K, F, 3, H, W]` in [0, 1], F the number of frames drawn.

        Raises:
            MethodError: as `predict`, or there is no such frame.
        """
        self._check(x0[None], pokes)
        drawn = list(range(1, horizon + 1)) if frames is None else list(frames)
        if not drawn or not all(1 <= frame <= horizon for frame in drawn):
            raise MethodError(f"{self.card.name}: expected frames from 1 to {horizon}, found {drawn}")
        count = pokes.location.shape[0]
        with torch.no_grad():
            signed = self._signed(x0[None])
            states = [state.expand(count, -1, -1, -1) for state in self.network.encode(signed)]
            convolutions = self.network.fusion_block.transformed(states) if count >= MANY else None
            return self._videos(states, signed.expand(count, -1, -1, -1), pokes, horizon, drawn, convolutions)

    def _videos(
        self,
        states: list[Tensor],
        x0: Tensor,
        pokes: Poke,
        horizon: int,
        drawn: Sequence[int] | None = None,
        convolutions: Sequence[Convolutions] | None = None,
    ) -> Tensor:
        """Float32 `[B, F, 3, H, W]` in [0, 1] from x0 in [-1, 1] and its states, a few clips at a time."""
        pokes = Poke(pokes.location.to(self._type), pokes.displacement.to(self._type))
        phi = self.network.encode_poke(pokes)
        videos, chunk = [], GPU_CHUNK if phi.is_cuda else CHUNK
        for low in range(0, len(phi), chunk):
            these = slice(low, low + chunk)
            driven, *given = (_laid_out(values[these]) for values in (phi, *states))
            rolled = self.network.rollout(given, driven, horizon, convolutions, self._step)
            poke, rows = Poke(pokes.location[these], pokes.displacement[these]), None
            if drawn is not None:
                clips = len(phi[these])
                rows = torch.cat([torch.arange(clips, device=phi.device) + (frame - 1) * clips for frame in drawn])
                rolled = [state.index_select(0, rows) for state in rolled]
            frames = self.network.film(rolled, x0[these], poke, rows).unflatten(0, (-1, len(poke.location)))
            videos.append(((frames.transpose(0, 1) + 1) / 2).clamp(0, 1).float())
        return torch.cat(videos)

    def _check(self, x0: Tensor, poke: Poke) -> None:
        side = self.config.size
        if x0.ndim != 4 or x0.shape[1:] != (3, side, side):
            raise MethodError(
                f"{self.card.name}: expected frames of {side} x {side} px, [B, 3, {side}, {side}], found "
                f"{list(x0.shape)}; use a protocol of that size, or weights trained for this one"
            )
        check_poke(poke, side)

    @property
    def _type(self) -> torch.dtype:
        return self.network.dec.out_conv.conv.weight.dtype

    def _signed(self, images: Tensor) -> Tensor:
        return images.to(self._type) * 2 - 1


def _laid_out(x: Tensor) -> Tensor:
    """With channels innermost, which a GPU's kernels ask for, where it multiplies in half precision."""
    half = x.is_cuda and torch.is_autocast_enabled("cuda")
    return x.contiguous(memory_format=torch.channels_last) if half else x
