"""The object in a picture, where the data do not say which pixels it has."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Mask = NDArray[np.bool_]

ROUNDS = 5


def grabcut(x0: Tensor, margin: int) -> Mask:
    """The object in x0 by OpenCV's GrabCut, bool `[H, W]`, the same on every call.

    Rother et al., "GrabCut: Interactive Foreground Extraction using Iterated Graph Cuts", SIGGRAPH 2004. Five rounds
    from a rectangle with x from W / 5 on, 3 W / 5 wide, and y from `margin` to H - margin.

    Args:
        x0: uint8, or float in [0, 1], `[3, H, W]`.
    """
    import cv2

    pixels = x0 if x0.dtype == torch.uint8 else (x0 * 255).round().byte()
    picture = np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy()[..., ::-1])
    height, width = picture.shape[:2]
    labels = np.zeros((height, width), np.uint8)
    rectangle = (width // 5, margin, 3 * width // 5, height - 2 * margin)
    models = np.zeros((2, 1, 65), np.float64)
    cv2.setRNGSeed(0)
    cv2.grabCut(picture, labels, rectangle, models[0], models[1], ROUNDS, cv2.GC_INIT_WITH_RECT)
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
