"""Estimators of optical flow by name, and what one is.

Flow is float32 `[2, H, W]`, (dx, dy) in pixels, such that first(p) ~ second(p + flow(p)).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from metrics.registry import Registry

EXACT = "exact"
"""The name that stands for the flow that the data set itself knows."""
DEFAULT = "dis"


class FlowEstimator(Protocol):
    """An optical flow estimator. Built by the registry as `factory(device)`.

    Attributes:
        name: as the registry knows it.
        version: rises with every change that moves its results.
        settings: its parameters, JSON-able; part of a protocol.
        backend: libraries and versions that may move the last digits; part of the cache key alone.
    """

    name: str
    version: int

    @property
    def settings(self) -> dict[str, Any]: ...

    @property
    def backend(self) -> str: ...

    def estimate(self, first: Tensor, second: Tensor) -> Tensor:
        """Flow from `first` to `second`, independent of how clips are batched.

        Args:
            first, second: `[B, 3, H, W]`, RGB, uint8 or float in [0, 1].

        Returns:
            Float32 `[B, 2, H, W]`, (dx, dy) in pixels, on the CPU.

        Raises:
            MethodError: the frames are of another shape or type.
        """


@runtime_checkable
class ThroughFrames(Protocol):
    """An estimator that also looks at the frames between."""

    def estimate_through(self, frames: Tensor) -> Tensor:
        """Flow float32 `[B, 2, H, W]` from the first to the last of `frames` `[B, F, 3, H, W]`."""


Factory = Callable[[torch.device | str], FlowEstimator]


def _fault(found: Any) -> str:
    return "" if callable(found) else "it cannot be called as factory(device)"


FLOWS: Registry[Factory] = Registry("flow estimator", "pokebench.flows", _fault)
"""Factories of flow estimators by name."""

FLOWS.register("dis", "bench.flow.estimators:DISFlow", "dense inverse search (OpenCV)")
FLOWS.register("dis-tracked", "bench.flow.estimators:TrackedDISFlow", "the same, led through the frames between")
FLOWS.register("farneback", "bench.flow.estimators:FarnebackFlow", "polynomial expansion (OpenCV)")
FLOWS.register("tvl1", "bench.flow.estimators:TVL1Flow", "total variation, L1 data term (scikit-image), slow")
FLOWS.register("raft", "bench.flow.raft:RAFTFlow", "RAFT (torchvision raft_large; weights needed)")
FLOWS.register("raft-small", "bench.flow.raft:SmallRAFTFlow", "RAFT (torchvision raft_small; weights needed)")


def flow_between(estimator: FlowEstimator, frames: Tensor) -> Tensor:
    """Flow float32 `[B, 2, H, W]` from the first to the last of `frames` `[B, F, 3, H, W]`; those between are given
    to estimators that use them."""
    if isinstance(estimator, ThroughFrames):
        return estimator.estimate_through(frames)
    return estimator.estimate(frames[:, 0], frames[:, -1])
