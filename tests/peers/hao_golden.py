"""The formula-made weights and inputs of tests/golden/hao.npz, and comparison with what is stored there."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from methods.hao.network import HaoNetwork

FILE = Path(__file__).parents[1] / "golden" / "hao.npz"
PREFIX = "warp_cnn."


@functools.cache
def golden() -> Mapping[str, np.ndarray]:
    with np.load(FILE, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


@functools.cache
def filled_state() -> dict[str, Tensor]:
    """All 181 tensors of the authors' state, float64, by their names."""
    stored = golden()
    c = int(stored["c"])
    state = {}
    for j, (key, text) in enumerate(zip(stored["state/keys"], stored["state/shapes"], strict=True)):
        shape = tuple(int(n) for n in str(text).split(",") if n)
        i = np.arange(int(np.prod(shape, dtype=np.int64)), dtype=np.int64)
        v = ((7919 * i + 104729 * j + c) % 1009) / 1009 - 0.5
        if key.endswith("num_batches_tracked"):
            value = np.zeros(i.shape, np.int64)
        elif key.endswith("running_mean"):
            value = 0.1 * v
        elif key.endswith("running_var"):
            value = 1 + 0.2 * (v + 0.5)
        elif len(shape) > 1:
            value = 2 * v * stored["state/gain"][j] / np.sqrt(np.prod(shape[1:]))
        elif key.endswith("weight"):
            value = 1 + 0.1 * v
        else:
            value = 0.1 * v
        state[str(key)] = torch.from_numpy(value.reshape(shape))
    return state


@functools.cache
def filled_network(batch_norm: bool = True) -> HaoNetwork:
    """The network in float64 with the formula-made weights, in evaluation mode; shared, not to be changed."""
    network = HaoNetwork(64, batch_norm).double()
    state = {key.removeprefix(PREFIX): value.clone() for key, value in filled_state().items()}
    own = network.state_dict().keys()
    network.load_state_dict({key: value for key, value in state.items() if key in own})
    return network.eval()


def frames(t: int, batch: int, channels: int, height: int, width: int, reverse: bool = False) -> Tensor:
    """The formula F of the golden file at time t, float64 `[batch, channels, height, width]`."""
    constants = golden()["frame_constants"]
    a = constants[::-1] if reverse else constants
    b, c, row, column = np.meshgrid(*(np.arange(n) for n in (batch, channels, height, width)), indexing="ij")
    value = (
        0.5
        + 0.3 * np.sin(a[0] * (c + 1) * column + a[1] * row + a[2] * b + a[3] * t)
        + 0.2 * np.sin(a[4] * column - a[5] * (c + 1) * row + a[6] * b - a[7] * t)
    )
    return torch.from_numpy(value)


def scene(size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Frame, target and tracks `[B, 5, 2, 2]` of the record of that size, float64."""
    stored = golden()
    batch = int(stored[f"s{size}/config"][0])
    target = frames(2, batch, 3, size, size)
    target[1, :, :7] = 0.02
    target[1, :, :, -5:] = 0
    return frames(0, batch, 3, size, size), target, torch.from_numpy(stored[f"s{size}/tracks"])


def deviation(found: Tensor, name: str) -> float:
    """Largest difference from the record `name`, against the largest magnitude of the record."""
    stored = golden()
    array = found.detach().numpy()
    if name in stored:
        expected = stored[name]
        assert array.shape == expected.shape, name
        return float(np.abs(array - expected).max() / max(np.abs(expected).max(), 1e-300))
    assert list(array.shape) == stored[f"{name}/shape"].tolist(), name
    sub, stat = stored[f"{name}/sub"], stored[f"{name}/stat"]
    facts = np.array([array.mean(), array.std(), array.min(), array.max(), np.abs(array).mean()])
    scale = max(abs(stat[2]), abs(stat[3]))
    apart = np.abs(array.reshape(-1)[:: int(stored[f"{name}/step"])] - sub).max()
    return float(max(apart, np.abs(facts - stat).max()) / scale)
