"""The method of Hao et al. as a row of the tables: x0 and the motion of a few points to every predicted frame."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from methods.hao.config import HaoConfig
from methods.hao.network import STRIDE, HaoNetwork
from methods.hao.official import read_official
from methods.hao.trajectories import trajectory_map
from methods.interface import Conditioning, MethodCard
from methods.weights_file import check_one_file, load_weights
from metrics.cache import sha256_of
from metrics.errors import MethodError

PAPER = (
    "Z. Hao, X. Huang, S. Belongie: Controllable Video Generation with Sparse Trajectories. CVPR 2018, pp. 7854-7863"
)


class Hao:
    """Every frame x_t is x0 warped by the network for the trajectories from x0 to x_t, independent of all others.

    It is shown where the points really are in every predicted frame, as in Table 2 of the poke paper; a method that
    sees a poke knows much less.

    Args:
        checkpoint: weights of `bench train`, .safetensors.
        official: a checkpoint of the authors' programs.
        batch_norm: False for an official checkpoint of the KITTI programs.
    """

    card: MethodCard

    def __init__(self, checkpoint: Path | None = None, official: Path | None = None, batch_norm: bool = True) -> None:
        check_one_file("hao", checkpoint, official)
        if official is not None:
            config, network = read_official(official, batch_norm)
            self._set(config, network, {official.name: sha256_of(official)}, "Apache-2.0")
        elif checkpoint is not None:
            if not batch_norm:
                raise MethodError("hao: a checkpoint of `bench train` says whether it has batch norm; leave it out")
            file = load_weights(checkpoint, "hao")
            config = file.configured(HaoConfig)
            network = HaoNetwork(config.width, config.batch_norm)
            file.fill(network)
            self._set(config, network, {file.path.name: file.sha256}, "")
            self.card = file.titled(self.card)

    @classmethod
    def sharing(cls, config: HaoConfig, network: HaoNetwork) -> Self:
        """The method with a network that somebody else trains; nothing is copied."""
        method = cls.__new__(cls)
        method._set(config, network, {}, "")
        return method

    def _set(self, config: HaoConfig, network: HaoNetwork, weights: dict[str, str], licence: str) -> None:
        self.config, self.network = config, network
        self.card = MethodCard(
            name=f"hao-{config.name}",
            title="Hao et al.",
            revision="1",
            inputs=frozenset({"context", "tracks"}),
            paper=PAPER,
            licence=licence,
            sizes=None if config.size is None else frozenset({config.size}),
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            weights=weights,
            notes="Sees the true motion of a few points in every predicted frame. Warps x0 to each frame on its own.",
        )

    def prepare(self, device: torch.device) -> None:
        """Moves the network to `device`."""
        self.network.to(device)

    @torch.no_grad()
    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        """The predicted frames, `[B, 1, T, 3, H, W]`.

        The frames of a clip go through the network together and the clips one by one, so that a clip is predicted
        alike in any batch.

        Raises:
            MethodError: there are no trajectories, they do not suit the horizon, or the size is not that of the
                network.
        """
        tracks = self._checked(conditioning)
        was_training = self.network.training
        self.network.eval()
        try:
            clips = [self._clip(x0, points) for x0, points in zip(conditioning.x0, tracks, strict=True)]
        finally:
            self.network.train(was_training)
        return torch.stack(clips)[:, None]

    def _clip(self, x0: Tensor, points: Tensor) -> Tensor:
        """Frames `[T, 3, H, W]` from x0 `[3, H, W]` and `points` `[k, T + 1, 2]`."""
        end = points[:, 1:].transpose(0, 1)
        start = points[:, :1].transpose(0, 1).expand_as(end)
        trajectories = trajectory_map(start, end, *x0.shape[-2:])
        return self.network.predict(x0.expand(len(end), -1, -1, -1), trajectories).frame.clamp(0, 1)

    def _checked(self, conditioning: Conditioning) -> Tensor:
        tracks, x0 = conditioning.tracks, conditioning.x0
        expected = f"[{len(x0)}, k, {conditioning.horizon + 1}, 2]"
        if tracks is None:
            raise MethodError(
                f"hao: expected trajectories {expected}, found none; use a protocol with a rule for `tracks`"
            )
        fits = tracks.ndim == 4 and (len(tracks), *tracks.shape[2:]) == (len(x0), conditioning.horizon + 1, 2)
        if not fits or tracks.shape[1] == 0:
            raise MethodError(
                f"hao: expected trajectories {expected} in x0 and every predicted frame, found {list(tracks.shape)}"
            )
        if not bool(torch.isfinite(tracks).all()):
            raise MethodError("hao: expected finite trajectories; give points that are known in every frame")
        height, width = x0.shape[-2:]
        size = self.config.size
        if height % STRIDE or width % STRIDE or (size is not None and (height, width) != (size, size)):
            wanted = f"sides that are multiples of {STRIDE} px" if size is None else f"{size} x {size} px"
            raise MethodError(
                f"{self.card.name}: expected frames of {wanted}, found {height} x {width}; "
                "use a protocol of that size, or weights for this one"
            )
        return tracks
