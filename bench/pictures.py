"""Images that a user names: files, and clips of data sets."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from bench.data.registry import DATASETS
from metrics.errors import DataError


def named_clip(image: str) -> tuple[str, str] | None:
    """Data set and clip id of "DATASET:CLIP"; None for anything else."""
    name, _, clip_id = image.partition(":")
    return (name, clip_id) if clip_id and name in DATASETS else None


def image_file(image: str) -> Path:
    """The file that a user names.

    Raises:
        DataError: there is none.
    """
    path = Path(image).expanduser()
    if not path.is_file():
        raise DataError(f"there is no image file {image}, nor is it DATASET:CLIP with a data set of `bench data list`")
    return path


def resized(image: Tensor, size: int) -> Tensor:
    """A square image, float `[3, S, S]`, at `size` px: bilinear, antialiased; itself where that is its size."""
    if image.shape[-1] == size:
        return image
    return torch.nn.functional.interpolate(image[None], size=(size, size), mode="bilinear", antialias=True)[0]
