"""Reads frames that are stored as image files.

Frames of a folder are its PNG and JPEG files in natural order of their names ("frame2" before "frame10"). Images
are 8 bit; palettes are expanded; the EXIF orientation is applied. Alpha is refused, since dropping it and
blending it give different pictures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from metrics.errors import DataError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
LOSSLESS_IMAGE_SUFFIXES = frozenset({".png"})

Grey = Literal["repeat", "refuse"]
"""What to do with a grey image: repeat it to three channels, or raise."""


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key that takes runs of digits as numbers: "f2" < "f10" (< "f010", by the name itself)."""
    parts = re.split(r"([0-9]+)", name)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts], name


def image_files(folder: Path) -> list[Path]:
    """The PNG and JPEG files of `folder`, in natural order; hidden files are left out."""
    found = (
        entry
        for entry in folder.iterdir()
        if entry.suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith(".") and entry.is_file()
    )
    return sorted(found, key=lambda entry: natural_key(entry.name))


def folder_frames(folder: Path, *, grey: Grey = "repeat") -> Iterator[NDArray[np.uint8]]:
    """Yields the frames of a frame folder, uint8 `[H, W, 3]`, RGB.

    Raises:
        DataError: no images, an image that cannot be read, or images that differ in size.
    """
    files = image_files(folder)
    if not files:
        raise DataError(f"{folder}: expected PNG or JPEG frames, found none")
    shape: tuple[int, ...] | None = None
    for file in files:
        frame = read_image(file, grey=grey)
        if shape is not None and frame.shape != shape:
            raise DataError(
                f"{folder}: expected frames of one size, found {shape[0]} x {shape[1]} px in {files[0].name} and "
                f"{frame.shape[0]} x {frame.shape[1]} px in {file.name}. Put different videos in different folders."
            )
        shape = frame.shape
        yield frame


def read_image(path: Path, *, grey: Grey = "repeat") -> NDArray[np.uint8]:
    """One image as uint8 `[H, W, 3]`, RGB.

    Raises:
        DataError: empty, damaged, with alpha, more than 8 bits a channel, not RGB, or grey where that is refused.
    """
    from PIL import Image, ImageOps

    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes); write it again")
    try:
        with Image.open(path) as image:
            mode, transparent = image.mode, "transparency" in image.info
            image.load()
            upright = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: the image is damaged or cut short ({error}); write it again") from error
    if "A" in mode or "a" in mode or transparent:
        raise DataError(f"{path}: expected RGB, found an image with alpha ({mode}). Blend or drop the alpha channel.")
    if mode in ("L", "1") and grey == "refuse":
        raise DataError(
            f"{path}: expected RGB, found a grey image ({mode}). Repeat it: np.repeat(grey[..., None], 3, axis=-1)."
        )
    if mode not in ("RGB", "P", "L", "1"):
        raise DataError(f"{path}: expected 8-bit RGB, found mode {mode}. Convert it to 8-bit RGB.")
    return np.asarray(upright.convert("RGB"))
