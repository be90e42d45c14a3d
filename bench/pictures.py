"""Images that a user names: files, and clips of data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from bench.data.registry import DATASETS, open_dataset
from bench.protocol import Protocol
from methods.conformance.outcome import named
from methods.interface import Clip, MethodCard
from metrics.errors import DataError, MethodError

CONTEXT, HORIZON = (Protocol.model_fields[name].default for name in ("context", "horizon"))
"""Frames up to x0 and after it of the clips that tables are made of, and whose ids records and reports name."""


def named_clip(image: str) -> tuple[str, str] | None:
    """Data set and clip id of "DATASET:CLIP"; None for anything else."""
    name, _, clip_id = image.partition(":")
    return (name, clip_id) if clip_id and name in DATASETS else None


def common_size(cards: Sequence[MethodCard], size: int | None, usual: int, asker: str) -> int:
    """Side in px at which all methods can be shown a picture.

    Args:
        size: as the user asks for; None: `usual` if all can predict it, else the smallest that they can.
        asker: what needs it, for the message.

    Raises:
        MethodError: the methods have no size in common, or not this one.
    """
    limits = [card.sizes for card in cards if card.sizes is not None]
    common = frozenset.intersection(*limits) if limits else frozenset({size or usual})
    if size is None and common:
        return usual if usual in common else min(common)
    if size is not None and size in common:
        return size
    wanted = "one size in common" if size is None else f"methods that predict frames of {size} px"
    found = "; ".join(f"{card.name} predicts {_sizes(card.sizes)}" for card in cards)
    raise MethodError(f"{asker} needs {wanted}: {found}. Give fewer methods, or another size.")


def _sizes(sizes: frozenset[int] | None) -> str:
    return "any size" if sizes is None else f"{named(sizes)} px"


def clip_and_x0(name: str, clip_id: str, size: int) -> tuple[Clip, Tensor]:
    """A clip of a data set under the id that records and reports give it, and its x0, uint8 `[3, size, size]`.

    Other videos of the set that cannot be read are passed over.

    Raises:
        DataError: the data set cannot be opened, or has no such clip.
    """
    clip = open_dataset(name, size=size, length=CONTEXT + HORIZON, skip_unreadable=True).load(clip_id)
    return clip, clip.frames[CONTEXT - 1]


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
