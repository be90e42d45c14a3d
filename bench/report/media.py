"""Frames as data that a page carries in itself."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Sheet:
    """The frames of one video as one PNG, row by row.

    Attributes:
        uri: data URI.
        columns: frames in a row of the sheet.
        frames: number of frames.
    """

    uri: str
    columns: int
    frames: int


def sheet(video: Tensor) -> Sheet:
    """Frames float `[T, 3, H, W]` in [0, 1] as a sheet: rounded to 8 bits, and from there on without loss.

    Near-square sheets, since decoders limit the sides of a picture.
    """
    frames = (video.detach().cpu() * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    count, height, width, _ = frames.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    canvas = np.zeros((rows * height, columns * width, 3), np.uint8)
    for number, frame in enumerate(frames):
        y, x = divmod(number, columns)
        canvas[y * height : (y + 1) * height, x * width : (x + 1) * width] = frame
    return Sheet(png_uri(canvas), columns, count)


def png_uri(picture: NDArray[np.uint8]) -> str:
    """uint8 `[H, W, 3]` as the data URI of a PNG."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", optimize=True)
    return data_uri(stream.getvalue())


def data_uri(png: bytes) -> str:
    """The bytes of a PNG file as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
