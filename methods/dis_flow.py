"""Dense optical flow by OpenCV's DIS: the one place where it is called.

Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016. Preset MEDIUM, taken down to full resolution,
on 8-bit grey frames. The result does not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MIN_SIDE = 12
"""Smallest side, in px, for which OpenCV computes DIS flow."""
PRESET = "medium"
FINEST_SCALE = 0


def dis_flow(first: Tensor, second: Tensor) -> Tensor:
    """Flow from `first` to `second`: first(p) ~ second(p + flow(p)).

    Args:
        first, second: `[3, H, W]`, RGB: uint8, or float in [0, 1]. Sides of at least MIN_SIDE px.

    Returns:
        Float32 `[2, H, W]`: (dx, dy) in pixels, on the CPU.
    """
    return torch.from_numpy(dis_grey(grey8(first), grey8(second))).permute(2, 0, 1)


def dis_grey(
    first: NDArray[np.uint8], second: NDArray[np.uint8], start: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """The same for grey images uint8 `[H, W]`; returns `[H, W, 2]`.

    Args:
        start: float32 `[H, W, 2]`: where the search begins; None: at no motion. It is left as it is.
    """
    import cv2

    estimator: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    estimator.setFinestScale(FINEST_SCALE)
    return estimator.calc(first, second, None if start is None else start.copy())


def grey8(frame: Tensor) -> NDArray[np.uint8]:
    """A frame `[3, H, W]`, uint8 or float in [0, 1], as grey uint8 `[H, W]`."""
    import cv2

    pixels = frame if frame.dtype == torch.uint8 else (frame * 255).round().byte()
    return cv2.cvtColor(np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy()), cv2.COLOR_RGB2GRAY)
