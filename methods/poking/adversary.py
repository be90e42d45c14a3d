"""The discriminators at work: what each is shown, their own losses, and the generator's terms against them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods.poking.config import PokingConfig
from methods.poking.discriminators import PatchDiscriminator, TemporalDiscriminator
from methods.poking.losses import fake_hinge, feature_matching, generator_term, gradient_penalty, real_hinge
from methods.poking.supervision import Record, by_time
from methods.training import TrainingBatch


class Adversary(nn.Module):
    """Both discriminators, with hinge losses and penalties on gradients at real inputs.

    The patch discriminator sees `patch_frames` real and as many predicted frames in an iteration, drawn independently
    and with replacement from all clips and frames of the batch of all processes and parts. Each part takes the draws
    that fall on its clips; its loss is scaled so that the mean over parts and processes is the mean over the draws.
    The generator is judged on the same draws, after the discriminators moved.
    """

    def __init__(self, config: PokingConfig) -> None:
        super().__init__()
        self.config = config
        self.patch = PatchDiscriminator()
        self.temporal = TemporalDiscriminator(config.horizon)

    def patch_loss(self, part: TrainingBatch, fakes: Tensor, record: Record) -> Tensor:
        """Of the patch discriminator. `fakes`: `[T B, 3, H, W]`, time first, detached."""
        index, weight = self._draws(part, "real frames")
        real = by_time(part).index_select(0, index)
        loss, penalty = _real_loss(self.patch, real, weight, self.config.patch_penalty)
        index, weight = self._draws(part, "fake frames")
        scores, _ = self.patch(fakes.index_select(0, index))
        loss = record("patch", loss + (weight * fake_hinge(scores)).sum())
        return loss + self.config.patch_penalty * record("patch_penalty", penalty)

    def temporal_loss(self, part: TrainingBatch, fakes: Tensor, record: Record) -> Tensor:
        """Of the temporal discriminator. `fakes` as in `patch_loss`."""
        real = as_clips(by_time(part), len(part))
        weight = real.new_full((len(part),), 1 / len(part))
        with self.temporal.sharing():
            loss, penalty = _real_loss(self.temporal, real, weight, self.config.temporal_penalty)
            scores, _ = self.temporal(as_clips(fakes, len(part)))
        loss = record("temporal", loss + fake_hinge(scores).mean())
        return loss + self.config.temporal_penalty * record("temporal_penalty", penalty)

    def generator_loss(self, part: TrainingBatch, fakes: Tensor, record: Record) -> Tensor:
        """The weighted terms of the generator. `fakes` as in `patch_loss`, with their graph."""
        config = self.config
        index, weight = self._draws(part, "fake frames")
        scores, _ = self.patch(fakes.index_select(0, index))
        loss = config.patch_weight * record("patch_generator", (weight * generator_term(scores)).sum())
        with self.temporal.sharing():
            scores, maps = self.temporal(as_clips(fakes, len(part)))
            if config.temporal_matching:
                with torch.no_grad():
                    _, wanted = self.temporal(as_clips(by_time(part), len(part)))
        loss = loss + config.temporal_weight * record("temporal_generator", generator_term(scores).mean())
        if config.temporal_matching:
            matching = record("temporal_matching", feature_matching(maps, wanted))
            loss = loss + config.temporal_matching * matching
        return loss

    def _draws(self, part: TrainingBatch, tag: str) -> tuple[Tensor, Tensor]:
        """Which frames of `part` are drawn, as rows of a tensor `[T B, ...]`, and what each counts for, `[n]`.

        Where none is drawn, the first frame is returned and counts for nothing.
        """
        clips, horizon, total = len(part), part.future.shape[1], part.total or len(part)
        count = self.config.patch_frames

        def rows(part: TrainingBatch) -> Tensor:
            drawn = torch.randint(total * horizon, (count,), generator=part.common_generator(tag))
            clip, frame = drawn // horizon - part.first, drawn % horizon
            return (frame * clips + clip)[(clip >= 0) & (clip < clips)]

        if clips == total:
            found = part.placed(rows)
            return found, torch.full((count,), 1 / count, dtype=part.frames.dtype, device=found.device)
        own = rows(part)
        weight = torch.full((len(own),), total / (clips * count), dtype=part.frames.dtype)
        if not len(own):
            own, weight = own.new_zeros(1), weight.new_zeros(1)
        device = part.frames.device
        return own.to(device, non_blocking=True), weight.to(device, non_blocking=True)


def as_clips(frames: Tensor, clips: int) -> Tensor:
    """`[T B, 3, H, W]`, time first, as `[B, 3, T, H, W]`."""
    return frames.unflatten(0, (-1, clips)).permute(1, 2, 0, 3, 4)


def _real_loss(network: nn.Module, real: Tensor, weight: Tensor, penalty_weight: float) -> tuple[Tensor, Tensor]:
    """Hinge on real samples and their gradient penalty, sums weighted by `weight`.

    In full precision: the penalty is differentiated twice.
    """
    with torch.autocast(real.device.type, enabled=False):
        real = real.requires_grad_(penalty_weight > 0)
        scores, _ = network(real)
        penalty = gradient_penalty(scores, real) if penalty_weight else torch.zeros_like(weight)
        return (weight * real_hinge(scores)).sum(), (weight * penalty).sum()
