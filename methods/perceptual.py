"""The perceptual distance: how far apart frames are in the maps of an image classifier (equation 6 of the paper)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any, Literal, cast

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from methods.convolution import convolve_transformed, pays
from methods.precision import full
from methods.recompute import Recompute, light
from methods.training import TrainingBatch
from methods.weights_file import foreign_state
from methods.winograd import transformed
from metrics.cache import sha256_of, user_path
from metrics.errors import MethodError
from metrics.weight_sources import FOLDER_VARIABLE
from metrics.weights import weights

Net = Literal["vgg19", "vgg16"]
Form = Literal["l1", "lpips"]
"""How maps are compared: `distance`, or `lpips_distance`."""

POOL = -1
BLOCKS: dict[Net, tuple[tuple[int, ...], ...]] = {
    "vgg19": ((0, 2), (POOL, 5, 7), (POOL, 10, 12), (14, 16, POOL, 19, 21), (23, 25, POOL, 28, 30)),
    "vgg16": ((0, 2), (POOL, 5, 7), (POOL, 10, 12, 14), (POOL, 17, 19, 21), (POOL, 24, 26, 28)),
}
"""Convolutions up to each tap, by index in torchvision's `features`. A ReLU follows each. The taps are relu1_2,
relu2_2, relu3_2, relu4_2, relu5_2 of VGG-19 (the released program), and relu1_2, relu2_2, relu3_3, relu4_3, relu5_3
of VGG-16."""

VGG19_FILE = "vgg19-dcbb9e9d.pth"
"""torchvision's VGG-19 for ImageNet; the name holds the first digits of its sha256."""

MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, for RGB in [0, 1]."""

UNIT_FLOOR = 1e-8
"""Added to the squared norm of a position's channels, where LPIPS adds 1e-10 to the norm: so the gradient is finite."""


class Perceptual(nn.Module):
    """Images `[N, 3, H, W]` in [-1, 1] -> the normalised input and the first maps of a frozen classifier.

    Args:
        net: which classifier.
        layers: how many maps; nothing behind the last one is computed.
        tensors: "features.<i>.weight" and ".bias" as in torchvision; None: those found on this machine.
        form: how its maps are to be compared; "lpips" is for "vgg16".

    Attributes:
        form: as given.
    """

    def __init__(
        self, net: Net, layers: int = 5, tensors: Mapping[str, Tensor] | None = None, form: Form = "l1"
    ) -> None:
        super().__init__()
        self.blocks, self.form = BLOCKS[net][:layers], form
        self._points: dict[int, Tensor] = {}  # weights as transformed when they were first needed
        found = perceptual_weights(net) if tensors is None else tensors
        for index in (index for block in self.blocks for index in block if index != POOL):
            # Channels last is faster here, on the CPU too, where the networks with norms are faster without.
            weight = found[f"features.{index}.weight"].contiguous(memory_format=torch.channels_last)
            self.register_buffer(f"weight_{index}", weight, persistent=False)
            self.register_buffer(f"bias_{index}", found[f"features.{index}.bias"], persistent=False)
        for level, head in enumerate(lpips_heads(layers) if form == "lpips" else ()):
            self.register_buffer(f"head_{level}", head, persistent=False)
        mean, spread = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(SPREAD).view(3, 1, 1)
        self.register_buffer("factor", 0.5 / spread, persistent=False)
        self.register_buffer("offset", (0.5 - mean) / spread, persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = torch.addcmul(self.get_buffer("offset"), images, self.get_buffer("factor"))
        x = x.contiguous(memory_format=torch.channels_last)
        maps = [x]
        for block in self.blocks:
            for index in block:
                if index == POOL:
                    x = F.max_pool2d(x, 2)
                else:
                    x = self._convolve(x, index).relu_()
            maps.append(x)
        return maps

    def _convolve(self, x: Tensor, index: int) -> Tensor:
        weight, bias = self.get_buffer(f"weight_{index}"), self.get_buffer(f"bias_{index}")
        if not pays(x, weight.shape, uses=inf):
            return F.conv2d(x, weight, bias, padding=1)
        points = self._points.get(index)
        if points is None or points.dtype != weight.dtype:
            points = self._points[index] = transformed(weight)
        return convolve_transformed(x, points, bias)

    def between(self, maps: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """How far apart its maps are in its form, the input itself left out; a scalar."""
        if self.form == "l1":
            return distance(maps, targets, pixels=False)
        return lpips_distance(maps, targets, [self.get_buffer(f"head_{level}") for level in range(len(self.blocks))])

    @torch.no_grad()
    def targets(self, images: Tensor) -> list[Tensor]:
        """As `forward`, without gradient."""
        return self(images)


CARD_NOTE = " A perceptual distance was added to the authors' objective."
"""What cards of models say that were trained with a `PerceptualTerm`."""
CARD_TITLE = " + perceptual"
"""What the titles of these models end with."""


class PerceptualConfig(BaseModel):
    """What there is to choose about a `PerceptualTerm`.

    Attributes:
        perceptual_weight: weight of the perceptual distance, which the authors do not have; 0: as they do.
        perceptual_form: how it compares maps, by mean absolute differences ("l1") or as LPIPS does ("lpips").
        perceptual_layers: maps of VGG-16 that it compares, from the first on, 1 to 5.
        perceptual_frames: frames of each clip that it looks at in a step, drawn anew in each.
        recompute: its maps are not kept for the backward pass, but computed again there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    perceptual_weight: float = Field(default=0.0, ge=0)
    perceptual_form: Form = "l1"
    perceptual_layers: int = Field(default=3, ge=1, le=5)
    perceptual_frames: int = Field(default=2, ge=1)
    recompute: Recompute = False


class PerceptualTerm:
    """The perceptual distance of some predicted frames from the true ones, without the input itself.

    Objectives that are sums over pixels weigh it times the numbers of a clip.
    """

    def __init__(self, config: PerceptualConfig) -> None:
        self._net = Perceptual("vgg16", config.perceptual_layers, form=config.perceptual_form)
        self._frames, self._recompute = config.perceptual_frames, config.recompute

    def __call__(self, batch: TrainingBatch, made: Tensor, truth: Tensor) -> Tensor:
        """A scalar, the mean over clips and the frames looked at.

        Args:
            batch: of the clips, for the draws.
            made, truth: `[B, T, 3, H, W]` in [0, 1].
        """
        steps = truth.shape[1]
        drawn = [torch.randperm(steps, generator=one)[: self._frames] for one in batch.generators("perceptual frames")]
        rows = torch.stack(drawn).to(truth.device, non_blocking=True)
        clips = torch.arange(len(truth), device=truth.device)[:, None]
        net = self._net.to(truth.device)
        shown, wanted = ((2 * video[clips, rows] - 1).flatten(0, 1) for video in (made, truth))
        found: Tensor = light(_between, net, shown, wanted, recompute=self._recompute)
        return found


def _between(net: Perceptual, made: Tensor, truth: Tensor) -> Tensor:
    return net.between(net(made), net.targets(truth))


def distance(maps: Sequence[Tensor], targets: Sequence[Tensor], pixels: bool = True) -> Tensor:
    """The sum over maps of mean absolute differences, a scalar; all weigh 1.

    Args:
        maps, targets: what `Perceptual` returned.
        pixels: whether the normalised input counts as a map, as in the released program.
    """
    pairs = list(zip(maps, targets, strict=True))[0 if pixels else 1 :]
    return torch.stack([mean_difference(found, wanted) for found, wanted in pairs]).sum()


def mean_difference(found: Tensor, wanted: Tensor) -> Tensor:
    """The mean absolute difference of two maps of one shape, a scalar: `functional.l1_loss` in fewer passes.

    Maps of half precision stay as they are, each difference rounded once; their mean is taken in float32.
    """
    return cast(Tensor, _MeanDifference.apply(found, wanted))


class _MeanDifference(torch.autograd.Function):
    """Keeps the difference in place of both maps, and has its gradient from two passes over it."""

    @staticmethod
    def forward(ctx: Any, found: Tensor, wanted: Tensor) -> Tensor:
        difference = found - wanted
        ctx.save_for_backward(difference)
        return difference.abs().mean(dtype=torch.promote_types(difference.dtype, torch.float32))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (difference,) = ctx.saved_tensors
        of_found = difference.sign().mul_(gradient / difference.numel())
        of_first, of_second = ctx.needs_input_grad
        return of_found if of_first else None, -of_found if of_second else None


def lpips_heads(layers: int) -> list[Tensor]:
    """The weights that LPIPS v0.1 gives to the channels of the first maps of VGG-16, each `[C, 1, 1]`.

    Raises:
        WeightsError: as `metrics.weights.weights`.
    """
    found = weights("lpips-vgg16")
    return [found[f"heads.{level}.weight"][0] for level in range(layers)]


def lpips_distance(maps: Sequence[Tensor], targets: Sequence[Tensor], heads: Sequence[Tensor]) -> Tensor:
    """LPIPS of Zhang et al. (2018, equation 1), the mean over images, with its gradient; a scalar.

    With all five maps it is LPIPS (VGG). Unlike mean absolute differences, it does not reward maps that are faint where
    the truth is uncertain: each position's channels are divided by their norm.

    Args:
        maps, targets: what `Perceptual` returned; the first, the input itself, is not compared.
        heads: what `lpips_heads` returned.
    """
    levels = zip(maps[1:], targets[1:], heads, strict=True)
    return torch.stack([((_unit(x) - _unit(y)).square() * head).sum(1).mean() for x, y, head in levels]).sum()


def _unit(x: Tensor) -> Tensor:
    x = full(x)
    return x / (x.square().sum(1, keepdim=True) + UNIT_FLOOR).sqrt()


def perceptual_weights(net: Net) -> dict[str, Tensor]:
    """The classifier's tensors. VGG-16 is that of LPIPS. VGG-19 is never fetched: it must be on this machine.

    Raises:
        MethodError: VGG-19 is not there, or its file is damaged.
        WeightsError: as `metrics.weights.weights`.
    """
    if net == "vgg16":
        return weights("lpips-vgg16")
    path = _vgg19_file()
    digest = sha256_of(path)
    if not digest.startswith(VGG19_FILE.removeprefix("vgg19-").removesuffix(".pth")):
        raise MethodError(f"{path} is damaged: expected a sha256 as in its name, found {digest[:8]}; replace it")
    return foreign_state(path)


def _vgg19_file() -> Path:
    places = [Path(torch.hub.get_dir()) / "checkpoints" / VGG19_FILE]
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        places.insert(0, user_path(chosen) / VGG19_FILE)
    for place in places:
        if place.is_file():
            return place
    raise MethodError(
        f"the weights of VGG-19 are not on this machine: expected {' or '.join(map(str, places))}. Put torchvision's "
        f"{VGG19_FILE} there (https://download.pytorch.org/models/{VGG19_FILE}), name its folder in "
        f"${FOLDER_VARIABLE}, or train with perceptual=vgg16."
    )
