"""The formulas behind tests/golden/ivrnn.npz, see tests/golden/ivrnn.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from methods.ivrnn.config import IVRNNConfig, Variant
from methods.ivrnn.network import ImprovedVRNN
from methods.ivrnn.official import convert, official_names
from methods.weights_file import fill

VARIANTS: dict[str, Variant] = {"H": "hierarchical", "F": "flat", "V4": "dense-prior"}
BATCH, STEPS = 2, 10
_PERIOD = 1009


@cache
def golden() -> dict[str, NDArray]:
    with np.load(Path(__file__).parents[1] / "golden" / "ivrnn.npz", allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


def raw_values(rank: int) -> NDArray[np.float64]:
    """v of the first 1009 elements of the tensor of that rank; the formula has this period in the element's index."""
    i = np.arange(_PERIOD, dtype=np.int64)
    return ((7919 * i + 31 * i * i + 104729 * rank + int(golden()["c"])) % _PERIOD) / _PERIOD - 0.5


def tiled(period: Tensor, shape: Sequence[int]) -> Tensor:
    """A tensor of that shape that repeats `period` in memory order."""
    count = math.prod(shape)
    return period.repeat(-(-count // _PERIOD))[:count].reshape(tuple(shape))


def official_state(model: str) -> dict[str, Tensor]:
    """The state dict of the authors' module "H", "F" or "V4"."""
    gains = golden()["gain"]
    config = IVRNNConfig(variant=VARIANTS[model])
    own_of = {official: own for own, official in official_names(config).items()}
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in ImprovedVRNN(config).state_dict().items()}
    state = {}
    for rank, key in enumerate(golden()[f"{model}/keys"].tolist()):
        if key not in own_of:
            continue
        shape = shapes[own_of[key]]
        v = raw_values(rank)
        if len(shape) > 1:
            last = key in ("render_nets.5.2.model.weight", "render_net.12.model.weight")
            value = 2 * v * gains[int(last)] / math.sqrt(math.prod(shape[1:]))
        else:
            value = 0.1 * v + (1 if key.endswith(".weight") else 0)
        state[key] = tiled(torch.from_numpy(value.astype(np.float32)), shape)
    return state


def filled(model: str) -> ImprovedVRNN:
    config = IVRNNConfig(variant=VARIANTS[model])
    with torch.device("meta"):
        network = ImprovedVRNN(config)
    network = network.to_empty(device="cpu")
    fill(network, convert(official_state(model), config, "the golden fill"), "the golden fill")
    return network


def frames() -> Tensor:
    """float32 `[2, 12, 3, 64, 64]`."""
    p = golden()["input_params"]
    b, t, k, y, x = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in (2, 12, 3, 64, 64)), indexing="ij")
    first = 0.3 * np.sin(p[0] * (k + 1) * x + p[1] * y + p[2] * b + p[3] * t)
    second = 0.15 * np.sin(p[4] * x - p[5] * (k + 1) * y + p[6] * b - p[7] * t)
    return torch.from_numpy((0.5 + first + second).astype(np.float32))


def noise(model: str, number: int, kind: str, steps: int = STEPS) -> list[Tensor]:
    """Noise of the posterior ("q") or the prior ("p") in pass `number`, by level, `[2, steps, c, H, W]`."""
    table = golden()["noise_table"]
    latents = IVRNNConfig(variant=VARIANTS[model]).latents
    draws = 2 * len(latents)
    found = []
    for level, latent in enumerate(latents):
        draw = level + (0 if kind == "q" else len(latents))
        shape = (BATCH, steps, latent.channels, latent.side, latent.side)
        m = np.arange(np.prod(shape), dtype=np.int64)
        found.append(torch.from_numpy(table[(m + 2741 * (number * draws + draw)) % len(table)].reshape(shape)))
    return found


def error(name: str, found: Tensor) -> float:
    """Largest difference to the stored sub-sample of `name`, over the elements that `found` holds.

    `found` has the stored shape, or is cut in any dimension.
    """
    stored = golden()
    shape = tuple(stored[f"{name}/shape"].tolist())
    assert found.ndim == len(shape)
    where = np.array(np.unravel_index(np.arange(0, np.prod(shape), int(stored[f"{name}/step"])), shape))
    held = (where < np.array(found.shape)[:, None]).all(axis=0)
    assert held.sum() >= 4, f"{name}: too few elements are stored"
    values = found.detach().numpy()[tuple(where[:, held])]
    return float(np.abs(values - stored[f"{name}/sub"][held]).max())


def prediction_error(name: str, found: Tensor) -> float:
    """Largest difference to stored predictions, of which `found` may hold the first clips and steps alone."""
    stored = golden()
    cut = found[..., 1::4, 2::4] if f"{name}/sub4" in stored else found[..., 3::8, 5::8]
    grid = stored[f"{name}/sub4" if f"{name}/sub4" in stored else f"{name}/sub8"]
    return float(np.abs(cut.detach().numpy() - grid[: len(found), : found.shape[1]]).max())
