"""The optical flow estimators that need no weights. Each looks at one pair of frames unless it says otherwise.

Frames of 64 px are small for all of them: a poked leaf is a few pixels wide. Where it was measured to help, frames
are first enlarged (bicubic, by a whole number) until the shorter side has `least_side` px, and the flow is averaged
back to the size of the frames.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from methods.dis_flow import FINEST_SCALE, PRESET, dis_grey, grey8
from metrics.errors import MethodError

Grey = NDArray[np.uint8]
Field = NDArray[np.float32]


class GreyPairFlow(ABC):
    """An estimator that works on two grey frames at a time, on the CPU.

    Attributes:
        name, version, settings, backend: see `bench.flow.registry.FlowEstimator`.
    """

    name: str
    version = 1
    settings: ClassVar[dict[str, Any]]
    module: str
    least_side = 1

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Works on the CPU, whatever `device` is asked for."""
        self.device = torch.device("cpu")

    @property
    def backend(self) -> str:
        """The library that does the work, and its version."""
        return f"{self.module} {importlib.import_module(self.module).__version__}"

    def estimate(self, first: Tensor, second: Tensor) -> Tensor:
        """See `bench.flow.registry.FlowEstimator`."""
        check_frames(self.name, first, second)
        return torch.stack([self._through([a, b]) for a, b in zip(first, second, strict=True)])

    def _through(self, frames: list[Tensor]) -> Tensor:
        """Flow `[2, H, W]` from the first to the last of `frames`, each `[3, H, W]`."""
        factor = enlargement(frames[0], self.least_side)
        field = self._field([_enlarged(grey8(frame), factor) for frame in frames])
        return torch.from_numpy(_reduced(field, factor)).permute(2, 0, 1).contiguous()

    @abstractmethod
    def _field(self, frames: list[Grey]) -> Field:
        """Flow `[H, W, 2]` from the first to the last of `frames`, each `[H, W]`."""


class DISFlow(GreyPairFlow):
    """Dense Inverse Search (see `methods.dis_flow`), from frames of at least 128 px."""

    name, module, least_side = "dis", "cv2", 128
    settings: ClassVar[dict[str, Any]] = {"preset": PRESET, "finest_scale": FINEST_SCALE, "least_side": least_side}

    def _field(self, frames: list[Grey]) -> Field:
        return dis_grey(frames[0], frames[-1])


class TrackedDISFlow(GreyPairFlow):
    """DIS that goes through the frames between: each frame's flow to the next is chained along the path of the
    points, and the chained flow is where the search from the first to the last frame begins.

    Follows motions that are too large for one step between two frames. `estimate` alone is the same as "dis".
    """

    name, module, least_side = "dis-tracked", "cv2", 128
    settings: ClassVar[dict[str, Any]] = {**DISFlow.settings, "start": "chained"}

    def estimate_through(self, frames: Tensor) -> Tensor:
        """Flow from the first to the last frame.

        Args:
            frames: `[B, F, 3, H, W]`, uint8 or float in [0, 1], F >= 2.

        Returns:
            Float32 `[B, 2, H, W]`.
        """
        check_frames(self.name, frames[:, 0], frames[:, -1])
        return torch.stack([self._through(list(clip)) for clip in frames])

    def _field(self, frames: list[Grey]) -> Field:
        import cv2

        if len(frames) == 2:
            return dis_grey(frames[0], frames[1])
        height, width = frames[0].shape
        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        path = np.zeros((height, width, 2), np.float32)
        for before, after in pairwise(frames):
            step = dis_grey(before, after)
            x, y = columns + path[..., 0], rows + path[..., 1]
            path += cv2.remap(step, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return dis_grey(frames[0], frames[-1], start=path)


class FarnebackFlow(GreyPairFlow):
    """Farneback, "Two-Frame Motion Estimation Based on Polynomial Expansion", SCIA 2003; OpenCV's implementation.

    It falls short of the true motion where the picture is smooth, the more so the more frames are enlarged.
    """

    name, module, least_side = "farneback", "cv2", 128
    settings: ClassVar[dict[str, Any]] = {
        "pyr_scale": 0.5,
        "levels": 5,
        "winsize": 15,
        "iterations": 5,
        "poly_n": 7,
        "poly_sigma": 1.5,
        "least_side": least_side,
    }

    def _field(self, frames: list[Grey]) -> Field:
        import cv2

        s = self.settings
        start: Any = None
        return cv2.calcOpticalFlowFarneback(
            frames[0],
            frames[-1],
            start,
            s["pyr_scale"],
            s["levels"],
            s["winsize"],
            s["iterations"],
            s["poly_n"],
            s["poly_sigma"],
            0,
        ).astype(np.float32)


class TVL1Flow(GreyPairFlow):
    """Zach et al., "A Duality Based Approach for Realtime TV-L1 Optical Flow", DAGM 2007; scikit-image's
    implementation, on frames of their own size. It loses fine texture that moves by several pixels."""

    name, module = "tvl1", "skimage"
    settings: ClassVar[dict[str, Any]] = {
        "attachment": 15,
        "tightness": 0.3,
        "num_warp": 5,
        "num_iter": 10,
        "tol": 1e-4,
    }

    def _field(self, frames: list[Grey]) -> Field:
        from skimage.registration import optical_flow_tvl1

        first, last = (frame.astype(np.float32) / 255 for frame in (frames[0], frames[-1]))
        dy, dx = optical_flow_tvl1(first, last, dtype=np.float32, **self.settings)
        return np.stack([dx, dy], axis=-1)


def check_frames(name: str, first: Tensor, second: Tensor) -> None:
    """Checks a batch of frame pairs.

    Raises:
        MethodError: not two equal batches `[B, 3, H, W]` of uint8 or floating point, or an empty one.
    """
    fit = first.shape == second.shape and first.ndim == 4 and first.shape[1] == 3 and len(first) > 0
    if not fit or any(f.dtype != torch.uint8 and not f.is_floating_point() for f in (first, second)):
        raise MethodError(
            f"flow {name}: expected two batches [B, 3, H, W] of one shape, uint8 or float in [0, 1], found "
            f"{list(first.shape)} {first.dtype} and {list(second.shape)} {second.dtype}"
        )


def enlargement(frame: Tensor, least_side: int) -> int:
    """The whole number by which `frame` `[..., H, W]` is enlarged to a shorter side of at least `least_side`."""
    return -(-least_side // min(frame.shape[-2:]))


def _enlarged(grey: Grey, factor: int) -> Grey:
    import cv2

    return grey if factor == 1 else cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)


def _reduced(field: Field, factor: int) -> Field:
    """The mean flow `[H, W, 2]` of each factor x factor block, in pixels of the smaller size."""
    height, width = (side // factor for side in field.shape[:2])
    return field.reshape(height, factor, width, factor, 2).mean(axis=(1, 3), dtype=np.float32) / np.float32(factor)
