"""The losses that compare with the true frames, on the clips of a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from methods.convolution import while_training
from methods.perceptual import Perceptual, distance
from methods.poking.config import PokingConfig
from methods.poking.decoders import WarpDecoder, strongest_poke
from methods.poking.losses import motion_error, norm_trajectory, poke_error, squared_trajectory
from methods.poking.network import PokingNetwork
from methods.recompute import light
from methods.training import TrainingBatch
from metrics.errors import MethodError

Record = Callable[[str, Tensor], Tensor]
"""Notes a loss by its name and returns it."""

LPIPS_SCALE = 15.0
"""So that in LPIPS's form the maps weigh about as much beside the pixels as in the released program's."""


class Supervision:
    """Image reconstruction, video reconstruction and trajectory of a network under a configuration.

    Frames and states are kept time first, `[T B, ...]`. The object encoder runs without a graph for the video losses,
    unless training is "single" stage: the dynamics losses move it in no other case.
    """

    def __init__(self, network: PokingNetwork, config: PokingConfig) -> None:
        self.network, self.config = network, config
        self.encoder_follows = config.stages_of_training == "single"
        self._perceptual: Perceptual | None = None

    def perceptual(self, device: torch.device | str = "cpu") -> Perceptual:
        """The frozen feature extractor, on `device`; its weights are read when it is first asked for.

        Raises:
            MethodError: they are not on this machine.
        """
        if self._perceptual is None:
            config = self.config
            self._perceptual = Perceptual(config.perceptual, config.perceptual_layers, form=config.perceptual_form)
        return self._perceptual.to(device)

    def image_loss(self, part: TrainingBatch, record: Record, any_frame: bool = False) -> Tensor:
        """The perceptual distance of x0, or of one frame drawn from x0..xT, and its reconstruction."""
        images = signed(_drawn_images(part) if any_frame else part.x0)
        rebuilt = self.network.decode(self.network.encode(images))
        return record("static", self._distance(rebuilt, images))

    def states(self, part: TrainingBatch) -> list[Tensor]:
        """Predicted states of x1..xT, lowest level first.

        Raises:
            MethodError: the batch has no pokes.
        """
        if part.poke is None:
            raise MethodError("poking: expected clips with pokes, found none; train with a poke rule")
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.encoder_follows):
            states = self.network.encode(signed(part.x0))
        return self.network.rollout(states, self.network.encode_poke(part.poke), part.future.shape[1])

    def film(self, part: TrainingBatch, states: list[Tensor], rows: Tensor | None = None) -> Tensor:
        """The frames that `states`, or their `rows`, show, time first."""
        assert part.poke is not None
        x0, poke = signed(part.x0), part.poke
        if not self.config.recompute:
            return self.network.film(states, x0, poke, rows)
        chosen = torch.arange(len(states[0]), device=x0.device) if rows is None else rows
        pieces = zip(chosen.split(len(part)), *(state.split(len(part)) for state in states), strict=True)
        return torch.cat([light(self.network.film, some, x0, poke, which, recompute=True) for which, *some in pieces])

    def video_loss(self, part: TrainingBatch, states: list[Tensor], frames: Tensor | None, record: Record) -> Tensor:
        """The weighted sum of L_rec and L_traj.

        Args:
            states: as `states` returned them.
            frames: what the decoder made of them; None: the frames that L_rec looks at are decoded here.
        """
        config, horizon = self.config, part.future.shape[1]
        sums = config.form == "paper"
        truth, rows = by_time(part), self._looked_at(part)
        if frames is None:
            shown = self.film(part, [_rows(state, rows) for state in states], rows)
        else:
            shown = _rows(frames, rows)
        found = self._distance(shown, _rows(truth, rows), len(part))
        loss = config.reconstruction_weight * record("reconstruction", found * horizon if sums else found)
        if config.trajectory_weight:
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.encoder_follows), while_training():
                targets = self.network.encode(truth)
            found = norm_trajectory(states, targets, horizon) if sums else squared_trajectory(states, targets)
            loss = loss + config.trajectory_weight * record("trajectory", found)
        if config.motion_weight or config.poke_weight:
            found, true_flow, location = self._motion(part, states)
            if config.motion_weight:
                error = motion_error(found, true_flow, config.still_weight)
                loss = loss + config.motion_weight * record("motion", error)
            if config.poke_weight:
                loss = loss + config.poke_weight * record("poke", poke_error(found, true_flow, location))
        return record("dynamics", loss)

    def _motion(self, part: TrainingBatch, states: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The decoder's flow in the last frame, the true flow to it, and the place of the poke."""
        if part.flow is None or part.poke is None or not isinstance(self.network.dec, WarpDecoder):
            raise MethodError("poking: motion_weight and poke_weight need clips with flow, and decoder 'warp'")
        last = [state[-len(part) :] for state in states]
        poke = strongest_poke(part.poke)
        return self.network.dec.flow(last, poke.displacement), part.flow, poke.location

    def _distance(self, images: Tensor, truth: Tensor, piece: int | None = None) -> Tensor:
        """The perceptual distance; `piece`: images of which it is computed at once, with `recompute`."""
        perceptual, pixels = self.perceptual(images.device), self.config.form == "released"
        scale = LPIPS_SCALE if perceptual.form == "lpips" else 1.0

        def part(images: Tensor, truth: Tensor) -> Tensor:
            found, wanted = perceptual(images), perceptual.targets(truth)
            apart = scale * perceptual.between(found, wanted)
            return apart + distance(found[:1], wanted[:1]) if pixels else apart

        if not self.config.recompute or piece is None:
            return part(images, truth)
        pairs = zip(images.split(piece), truth.split(piece), strict=True)
        return torch.stack([light(part, *pair, recompute=True) for pair in pairs]).mean()

    def _looked_at(self, part: TrainingBatch) -> Tensor | None:
        """Rows, time first, of the frames that L_rec looks at; None: all."""
        count, horizon, clips = self.config.perceptual_frames, part.future.shape[1], len(part)
        if count is None or count >= horizon:
            return None

        def rows(part: TrainingBatch) -> Tensor:
            drawn = [torch.randperm(horizon, generator=one)[:count] for one in part.generators("reconstruction frames")]
            return (torch.stack(drawn, dim=1) * clips + torch.arange(clips)).flatten()

        return part.placed(rows)


def signed(frames: Tensor) -> Tensor:
    """[0, 1] to [-1, 1]."""
    return frames * 2 - 1


def by_time(part: TrainingBatch) -> Tensor:
    """x1..xT in [-1, 1], `[T B, 3, H, W]`, time first."""
    return signed(part.future).transpose(0, 1).flatten(0, 1)


def _rows(values: Tensor, rows: Tensor | None) -> Tensor:
    return values if rows is None else values.index_select(0, rows)


def _drawn_images(part: TrainingBatch) -> Tensor:
    """One of the frames x0..xT of each clip, `[B, 3, H, W]`."""

    def rows(part: TrainingBatch) -> Tensor:
        count = part.future.shape[1] + 1
        drawn = [int(torch.randint(count, (1,), generator=generator)) for generator in part.generators("image")]
        return torch.arange(len(part)) * part.frames.shape[1] + part.context - 1 + torch.tensor(drawn)

    return part.frames.flatten(0, 1).index_select(0, part.placed(rows))
