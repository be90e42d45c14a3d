"""Objective and training of Hao et al. (CVPR 2018, section 3.3), as their programs compute it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from methods.hao.adapter import Hao
from methods.hao.config import RECIPES, HaoConfig
from methods.hao.network import STRIDE, HaoNetwork, Prediction
from methods.hao.trajectories import trajectory_map
from methods.training import Engine, Recipe, TrainingBatch
from metrics.errors import MethodError

CHARBONNIER = 1e-4
"""Errors well below this count quadratically, those well above linearly."""
DARK = 10 / 255
"""Rows and columns at the border of a target whose mean is no larger than this count as letterbox."""


class Loss(NamedTuple):
    """The objective and its terms: scalars."""

    total: Tensor
    reconstruction: Tensor
    completion: Tensor
    mask: Tensor


def valid_region(target: Tensor) -> Tensor:
    """1 inside the picture of letterboxed frames, 0 in the border around it.

    The picture reaches from the first to the last row whose mean over colours and pixels exceeds DARK, less one pixel
    on either side; columns likewise. A frame that is dark all over counts as picture.

    Args:
        target: float `[N, 3, H, W]` in [0, 1].

    Returns:
        `[N, 1, H, W]`, in the type of `target`.
    """
    grey = target.mean(1)
    rows, columns = _inner_span(grey.mean(2)), _inner_span(grey.mean(1))
    return (rows[:, :, None] & columns[:, None, :])[:, None].to(target.dtype)


def _inner_span(means: Tensor) -> Tensor:
    """Bool `[N, L]`: what lies strictly between the first and the last of `means` `[N, L]` above DARK."""
    bright = (means > DARK).to(torch.uint8)
    length = means.shape[1]
    first, last = bright.argmax(1, keepdim=True), length - 1 - bright.flip(1).argmax(1, keepdim=True)
    place = torch.arange(length, device=means.device)
    return (place > first) & (place < last)


def hao_loss(prediction: Prediction, target: Tensor, config: HaoConfig) -> Loss:
    """The objective: reconstruction + completion_weight * completion + mask_weight * mask.

    * reconstruction: mean of sqrt(((frame - target) V)^2 + CHARBONNIER^2) over all pixels and colours, where V is the
      valid region of the target. Pixels outside count as CHARBONNIER.
    * completion: mean squared distance of the completion from [0, 1]. The authors compute it after the completion was
      clamped to [0, 1], where it is 0 and has no gradient; see `HaoConfig.completion_penalty`.
    * mask: mean of (mask - 1)^2, in favour of warping.

    Args:
        prediction: what `HaoNetwork.predict` returned.
        target: the true frames `[N, 3, H, W]` in [0, 1].
    """
    valid = valid_region(target) if config.letterbox else torch.ones_like(target[:, :1])
    reconstruction = (((prediction.frame - target) * valid).square() + CHARBONNIER**2).sqrt().mean()
    shown = prediction.completion if config.completion_penalty == "clamped" else prediction.heads.completion
    completion = (shown - shown.clamp(0, 1)).square().mean()
    mask = (prediction.mask - 1).square().mean()
    total = reconstruction + config.completion_weight * completion + config.mask_weight * mask
    return Loss(total, reconstruction, completion, mask)


class Pairs(NamedTuple):
    """A source and a target frame of each clip, and the trajectories between them.

    Attributes:
        source, target: `[B, 3, H, W]`.
        trajectories: `[B, 6, H, W]`.
    """

    source: Tensor
    target: Tensor
    trajectories: Tensor


def draw_pairs(batch: TrainingBatch, config: HaoConfig) -> Pairs:
    """Draws two frames of each clip, and some of its trajectories in random order, from (seed, clip id) alone.

    All pairs of frames from x0 on that lie at most `max_interval` frames apart are equally likely, so that short
    intervals are more frequent than long ones: interval i with weight L - i in a clip of L frames.

    Raises:
        MethodError: the batch has no trajectories `[B, k, T + 1, 2]`.
    """
    length = batch.future.shape[1] + 1
    tracks = batch.tracks
    if tracks is None or tracks.ndim != 4 or tracks.shape[2] != length or tracks.shape[1] < config.min_tracks:
        found = "none" if tracks is None else list(tracks.shape)
        raise MethodError(
            f"hao: expected trajectories [B, k, {length}, 2] of at least {config.min_tracks} points in each clip, "
            f"found {found}; train with a rule that gives them"
        )
    available = tracks.shape[1]
    pairs = [(a, b) for a in range(length) for b in range(a + 1, min(length, a + config.max_interval + 1))]
    frames, orders, counts = [], [], []
    for generator in batch.generators("pair"):
        frames.append(pairs[int(torch.randint(len(pairs), (1,), generator=generator))])
        orders.append(torch.randperm(available, generator=generator))
        wanted = int(torch.randint(config.min_tracks, config.max_tracks + 1, (1,), generator=generator))
        counts.append(min(wanted, available))
    device = batch.frames.device
    when = torch.tensor(frames).to(device, non_blocking=True)
    order = torch.stack(orders).to(device, non_blocking=True)
    kept = (torch.arange(available) < torch.tensor(counts)[:, None]).to(device, non_blocking=True)
    row = torch.arange(len(batch), device=device)
    start, end = (tracks[row[:, None], order, moment[:, None]] for moment in when.unbind(1))
    source, target = (batch.frames[row, batch.context - 1 + moment] for moment in when.unbind(1))
    height, width = source.shape[-2:]
    return Pairs(source, target, trajectory_map(start, end, height, width, kept))


class HaoTraining:
    """Training of the network on pairs of frames; see `methods.training.Training`.

    Adam with a constant rate, no clipping. Batch norm sees the clips of all processes together, a part at a time; in
    the authors' programs, half of a batch of 32 on each of two devices.
    """

    name: ClassVar[str] = "hao"
    inputs: ClassVar[frozenset[str]] = frozenset({"tracks"})
    Config: ClassVar[type[HaoConfig]] = HaoConfig
    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES

    def __init__(self, config: HaoConfig, seed: int) -> None:
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = HaoNetwork(config.width, config.batch_norm, config.recompute)
        self.networks = {"predictor": self.network}
        adam = Adam(self.network.parameters(), lr=config.learning_rate, fused=True)
        self.optimizers: dict[str, Optimizer] = {"predictor": adam}

    def check(self, size: int, context: int, horizon: int) -> None:
        """See `methods.training.Training`."""
        if size % STRIDE or self.config.size not in (None, size):
            wanted = f"{self.config.size} px" if self.config.size else f"a multiple of {STRIDE} px"
            raise MethodError(f"hao {self.config.name}: expected frames of {wanted}, found {size} px; change `size`")

    def step(self, parts: Sequence[TrainingBatch], engine: Engine) -> dict[str, Tensor]:
        """One step of Adam; returns the terms of the objective."""
        self.network.train()
        found: list[Loss] = []

        def losses() -> Iterator[Tensor]:
            for part in parts:
                source, target, trajectories = draw_pairs(part, self.config)
                loss = hao_loss(self.network.predict(source, trajectories), target, self.config)
                found.append(Loss(*(term.detach() for term in loss)))
                yield loss.total

        engine.minimise("predictor", losses())
        shares = [len(part) / sum(map(len, parts)) for part in parts]
        means = [
            torch.stack([share * term for share, term in zip(shares, terms, strict=True)]).sum()
            for terms in zip(*found, strict=True)
        ]
        return dict(zip(("loss", *Loss._fields[1:]), means, strict=True))

    def method(self) -> Hao:
        """See `methods.training.Training`."""
        return Hao.sharing(self.config, self.network)
