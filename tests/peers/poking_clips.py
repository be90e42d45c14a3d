"""Formula-made weights and inputs for the poking model, and batches, classifiers and trainings that tests share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods.interface import Poke
from methods.perceptual import BLOCKS, MEAN, POOL, SPREAD, Net, Perceptual
from methods.poking.config import PokingConfig
from methods.poking.objective import PokingTraining
from methods.training import TrainingBatch

CHANNELS = {"vgg19": (64, 64, 128, 128, *[256] * 4, *[512] * 8), "vgg16": (64, 64, 128, 128, *[256] * 3, *[512] * 6)}


def filled(module: nn.Module) -> nn.Module:
    """`module` in float64, with the weights of tests/golden/poking.md."""
    state = module.double().state_dict()
    for number, key in enumerate(sorted(state)):
        shape = state[key].shape
        index = torch.arange(state[key].numel())
        value = ((7919 * index + 104729 * number + 13) % 1009).double() / 1009 - 0.5
        if key.endswith(("weight_u", "weight_v")):
            value = value / value.norm()
        elif len(shape) > 1:
            value = 2 * value / shape[1:].numel() ** 0.5
        elif key.endswith("weight"):
            value = 1 + 0.1 * value
        else:
            value = 0.1 * value
        state[key] = value.view(shape)
    module.load_state_dict(state)
    return module.eval()


def wave(side: int, phase: float = 0.0) -> Tensor:
    """The two images of tests/golden/poking.md, float64 `[2, 3, side, side]`."""
    axis = torch.arange(side, dtype=torch.float64)
    clip, channel = axis[:2].view(2, 1, 1, 1), axis[:3].view(3, 1, 1)
    return torch.sin(0.13 * (channel + 1) * axis + 0.21 * axis[:, None] + clip + phase)


def pokes(location: tuple[float, float], displacement: tuple[float, float], count: int = 2) -> Poke:
    """The same poke for `count` clips, float64."""
    place, shift = (torch.tensor([values] * count, dtype=torch.float64) for values in (location, displacement))
    return Poke(place, shift)


def batch(
    clips: int = 2, horizon: int = 3, side: int = 32, context: int = 1, dtype: torch.dtype = torch.float64
) -> TrainingBatch:
    """Smooth random clips with pokes."""
    generator = torch.Generator().manual_seed(11)
    coarse = torch.rand(clips * (context + horizon), 3, 8, 8, generator=generator, dtype=torch.float64)
    frames = nn.functional.interpolate(coarse, size=side, mode="bilinear").unflatten(0, (clips, -1))
    location = torch.randint(3, side - 3, (clips, 2), generator=generator).to(dtype)
    displacement = 4 * torch.randn(clips, 2, generator=generator, dtype=torch.float64)
    names = tuple(f"clip{index}" for index in range(clips))
    return TrainingBatch(frames.to(dtype), context, names, 5, poke=Poke(location, displacement.to(dtype)), total=clips)


def classifier(net: Net = "vgg16", dtype: torch.dtype = torch.float64, shrink: int = 1) -> dict[str, Tensor]:
    """Random weights of a VGG, its widths divided by `shrink`."""
    generator = torch.Generator().manual_seed(3)
    indices = [index for block in BLOCKS[net] for index in block if index != POOL]
    indices += [32, 34] if net == "vgg19" else []
    tensors, below = {}, 3
    for index, full in zip(indices, CHANNELS[net], strict=True):
        width = full // shrink
        weight = torch.randn(width, below, 3, 3, generator=generator, dtype=torch.float64)
        tensors[f"features.{index}.weight"] = (weight * (2 / (9 * below)) ** 0.5).to(dtype)
        tensors[f"features.{index}.bias"] = (0.1 * torch.randn(width, generator=generator)).to(dtype)
        below = width
    return tensors


def training(
    tensors: dict[str, Tensor] | None = None, dtype: torch.dtype = torch.float64, **changes: object
) -> PokingTraining:
    """A small training at 32 px whose feature extractor has random weights."""
    values: dict[str, object] = {
        "size": 32,
        "width": 64,
        "min_side": 8,
        "perceptual": "vgg16",
        "horizon": 3,
        "gan_start": 0,
    }
    values |= {"patch_frames": 6, **changes}
    config = PokingConfig.model_validate(values)
    made = PokingTraining(config, seed=0)
    for network in made.networks.values():
        network.to(dtype)
    found = classifier(config.perceptual, dtype, shrink=8) if tensors is None else tensors
    network = Perceptual(config.perceptual, config.perceptual_layers, found).to(dtype)
    mean, spread = (torch.tensor(values, dtype=dtype).view(3, 1, 1) for values in (MEAN, SPREAD))
    network.factor, network.offset = 0.5 / spread, (0.5 - mean) / spread  # not as rounded to float32
    made.supervision._perceptual = network
    return made
