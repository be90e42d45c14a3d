"""How a frame of any size becomes a square frame of the protocol's size.

Crop, then area averaging (OpenCV INTER_AREA on 8-bit values). Frames are only ever shrunk.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metrics.errors import DataError

Fit = Literal["centre-crop", "stretch"]


@dataclass(frozen=True)
class Box:
    """A square of the source frame, in px of it: left, top, and side."""

    left: int
    top: int
    side: int


@dataclass(frozen=True)
class Preparation:
    """What is done to every frame of a source.

    Attributes:
        size: side of the result, px.
        fit: "centre-crop" takes the largest centred square (an odd pixel falls off right or below); "stretch" takes
            the whole frame and changes its proportions.
        box: takes this square instead.
    """

    size: int
    fit: Fit = "centre-crop"
    box: Box | None = None

    def facts(self) -> dict[str, Any]:
        """All of it, for a hash."""
        return asdict(self)


def prepare_frame(frame: NDArray[np.uint8], preparation: Preparation) -> NDArray[np.uint8]:
    """One frame, uint8 `[H, W, 3]`, as uint8 `[size, size, 3]`.

    Raises:
        DataError: what is taken of the frame is smaller than `size`, or the box lies outside the frame.
    """
    import cv2

    size = preparation.size
    part = _cropped(frame, preparation)
    height, width = part.shape[:2]
    if min(height, width) < size:
        raise DataError(
            f"its frames give {height} x {width} px, fewer than the {size} x {size} px wanted; "
            "frames are never enlarged: choose a smaller size"
        )
    if (height, width) == (size, size):
        return np.ascontiguousarray(part)
    return np.asarray(cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _cropped(frame: NDArray[np.uint8], preparation: Preparation) -> NDArray[np.uint8]:
    height, width = frame.shape[:2]
    if preparation.box is not None:
        box = preparation.box
        if min(box.left, box.top) < 0 or box.left + box.side > width or box.top + box.side > height:
            raise DataError(f"its frames are {height} x {width} px, too small for the crop {box}")
        left, top, side = box.left, box.top, box.side
    elif preparation.fit == "centre-crop":
        side = min(height, width)
        left, top = (width - side) // 2, (height - side) // 2
    else:
        return frame
    return frame[top : top + side, left : left + side]
