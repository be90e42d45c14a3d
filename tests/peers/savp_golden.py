"""Weights, inputs and noise of the golden file of SAVP; see golden/savp.md for the formulas."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods.savp.config import SavpConfig
from methods.savp.discriminator import discriminators
from methods.savp.network import Generator
from methods.savp.official import Place, converted, discriminator_places, generator_places

FOLDER = Path(__file__).parents[1] / "golden"
CONFIG = SavpConfig()
CLIPS, FRAMES, SIDE = 2, 12, 64


@cache
def golden() -> dict[str, NDArray[Any]]:
    """All arrays by name."""
    with np.load(FOLDER / "savp.npz", allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


def places() -> dict[str, tuple[str, Place]]:
    """Variable name -> (network, place)."""
    found = {name: ("generator", place) for name, place in generator_places(CONFIG).items()}
    for which in ("prior", "posterior"):
        for name, place in discriminator_places(which, CONFIG.discriminator_width).items():
            found[name] = (which, place)
    return found


@cache
def shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of all variables in TensorFlow's layout, from those of the networks."""
    with torch.device("meta"):
        judges = discriminators(CONFIG)
        assert judges is not None
        networks = {"generator": Generator(CONFIG), "prior": judges["prior"], "posterior": judges["posterior"]}
    states = {name: network.state_dict() for name, network in networks.items()}

    def official(key: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if key.endswith(".u") or len(shape) == 1 else (*shape[2:], shape[1], shape[0])

    return {
        name: official(place.key, tuple(states[network][place.key].shape))
        for name, (network, place) in places().items()
    }


@cache
def raw(name: str) -> NDArray[np.float64]:
    """The formula's values v for one variable, in TensorFlow's layout."""
    stored = golden()
    j = sorted(stored["names"].tolist()).index(name)
    i = np.arange(np.prod(shapes()[name], dtype=np.int64))
    value = ((7919 * i + 31 * i * i + 104729 * j + int(stored["c"])) % 1009) / 1009 - 0.5
    return value.reshape(shapes()[name])


def variable(name: str) -> NDArray[np.float32]:
    """The weights that the official graph was given."""
    stored, v, last = golden(), raw(name), name.rsplit("/", 1)[-1]
    if last == "u":
        value = v / np.linalg.norm(v)
    elif last == "gamma":
        value = 1 + 0.1 * v
    elif last in ("bias", "beta"):
        value = 0.1 * v
    else:
        special = dict(zip(stored["special_gain_names"].tolist(), stored["special_gains"].tolist(), strict=True))
        gain = special.get(name, float(stored["gain"]))
        value = 2 * v * gain / np.sqrt(np.prod(v.shape[:-1], dtype=np.int64))
    return value.astype(np.float32)


def fill_formula(generator: Generator, judges: nn.ModuleDict) -> None:
    """Gives all networks the weights of the formula."""
    networks: dict[str, nn.Module] = {
        "generator": generator,
        "prior": judges["prior"],
        "posterior": judges["posterior"],
    }
    found = places()
    for network, module in networks.items():
        own = {name: place for name, (where, place) in found.items() if where == network}
        module.load_state_dict(converted({name: variable(name) for name in own}, own))


def frames() -> Tensor:
    """The input, float32 `[2, 12, 3, 64, 64]`."""
    p = golden()["input_params"]
    b, t, k, y, x = np.meshgrid(*[np.arange(n) for n in (CLIPS, FRAMES, 3, SIDE, SIDE)], indexing="ij")
    wave = 0.3 * np.sin(p[0] * (k + 1) * x + p[1] * y + p[2] * b + p[3] * t)
    ripple = 0.15 * np.sin(p[4] * x - p[5] * (k + 1) * y + p[6] * b - p[7] * t)
    return torch.from_numpy((0.5 + wave + ripple).astype(np.float32))


def noise(name: str) -> Tensor:
    """`[2, steps, 8]` of the noise that is stored by time first."""
    return torch.from_numpy(golden()[f"noise/{name}"]).transpose(0, 1).contiguous()
