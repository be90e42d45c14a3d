"""Reads tests/golden/srvp.npz, described in tests/golden/srvp.md."""

from __future__ import annotations

from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from methods.srvp.config import SRVPConfig
from methods.srvp.network import SRVPNetwork
from methods.srvp.objective import Draws
from methods.srvp.official import renamed

PATH = Path(__file__).parents[1] / "golden" / "srvp.npz"
VARIANTS = ("vgg", "dcgan")


class Golden:
    """One of the two records, time-major as it is stored."""

    def __init__(self, variant: str) -> None:
        self.variant = variant
        with np.load(PATH, allow_pickle=False) as stored:
            self.c = int(stored["c"])
            self.constants = stored["frame_constants"]
            self.values = {
                key.removeprefix(f"{variant}/"): stored[key] for key in stored.files if key.startswith(variant)
            }

    def __getitem__(self, key: str) -> NDArray:
        return self.values[key]

    def tensor(self, key: str) -> Tensor:
        """A stored array, clips first."""
        return torch.from_numpy(self.values[key]).transpose(0, 1).contiguous()

    @cached_property
    def config(self) -> SRVPConfig:
        channels, state, noise, k, skips, _, _, _, _, steps = (int(value) for value in self["config"])
        std, beta_y, beta_z, weight, rate = (float(value) for value in self["hparams"])
        return SRVPConfig(
            name="golden",
            architecture=self.variant,
            skips=bool(skips),
            channels=channels,
            state=state,
            noise=noise,
            conditioning=k,
            euler_steps=steps,
            residual_gain=1.41,
            observation_std=std,
            beta_y=beta_y,
            beta_z=beta_z,
            residual_weight=weight,
            learning_rate=rate,
            decay=0,
        )

    @cached_property
    def official_state(self) -> dict[str, Tensor]:
        """The formula-made weights under the authors' names, float64."""
        state = {}
        for j, (key, shape, gain) in enumerate(
            zip(self["state/keys"], self["state/shapes"], self["state/gain"], strict=True)
        ):
            dims = tuple(int(side) for side in str(shape).split(",") if side)
            i = np.arange(int(np.prod(dims)), dtype=np.int64)
            v = ((7919 * i + 104729 * j + self.c) % 1009) / 1009 - 0.5
            if key.endswith("num_batches_tracked"):
                state[str(key)] = torch.tensor(0)
                continue
            if key.endswith("running_mean"):
                v = 0.1 * v
            elif key.endswith("running_var"):
                v = 1 + 0.2 * (v + 0.5)
            elif len(dims) > 1:
                v = 2 * v * gain / np.sqrt(np.prod(dims[1:]))
            elif key.endswith("weight"):
                v = 1 + 0.1 * v
            else:
                v = 0.1 * v
            state[str(key)] = torch.from_numpy(v.reshape(dims))
        return state

    def network(self) -> SRVPNetwork:
        """The filled network, float64."""
        with torch.device("meta"):
            network = SRVPNetwork(self.config)
        network = network.to_empty(device="cpu").double()
        network.load_state_dict(renamed(self.official_state, "golden"))
        return network

    def frames(self, length: int) -> Tensor:
        """The formula-made frames `[B, T, C, 64, 64]`, float64."""
        a, (channels, clips) = self.constants, (self.config.channels, int(self["config"][5]))
        t, b, c, row, col = np.ogrid[:length, :clips, :channels, :64, :64]
        wave = 0.3 * np.sin(a[0] * (c + 1) * col + a[1] * row + a[2] * b + a[3] * t)
        ripple = 0.2 * np.sin(a[4] * col - a[5] * (c + 1) * row + a[6] * b - a[7] * t)
        return torch.from_numpy(0.5 + wave + ripple).transpose(0, 1).contiguous()

    def draws(self) -> Draws:
        """What is random in the training steps."""
        clips = int(self["config"][5])
        skip = torch.from_numpy(self["train/skip_t"]) if self.config.skips else torch.zeros(clips, dtype=torch.int64)
        return Draws(torch.from_numpy(self["train/eps_y0"]), self.tensor("train/eps_z"), self.tensor("train/w_t"), skip)

    def assert_close(self, key: str, found: Tensor, tolerance: float = 1e-9, clips_first: bool = True) -> None:
        """Compares with a stored array, relative to its largest magnitude, and its statistics where it is sampled."""
        value = found.detach().transpose(0, 1) if clips_first else found.detach()
        array = value.contiguous().double().numpy()
        if key in self.values:
            known = self[key]
            assert array.shape == known.shape, key
            np.testing.assert_allclose(array, known, rtol=0, atol=tolerance * np.abs(known).max(), err_msg=key)
            return
        assert array.shape == tuple(self[f"{key}/shape"]), key
        known, scale = self[f"{key}/sub"], np.abs(self[f"{key}/stat"]).max()
        thinned = array.reshape(-1)[:: int(self[f"{key}/step"])]
        np.testing.assert_allclose(thinned, known, rtol=0, atol=tolerance * scale, err_msg=key)
        statistics = [array.mean(), array.std(), array.min(), array.max(), np.abs(array).mean()]
        np.testing.assert_allclose(statistics, self[f"{key}/stat"], rtol=0, atol=tolerance * scale, err_msg=key)


@cache
def golden_record(variant: str) -> Golden:
    """The record, read and filled once."""
    return Golden(variant)
