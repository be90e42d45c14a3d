"""Reads frames that are stored as image files.

Frames of a folder are its PNG and JPEG files in natural order of their names ("frame2" before "frame10"). Images
are 8 bit; palettes are expanded; the EXIF orientation is applied. Alpha is refused, since dropping it and
blending it give different pictures.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from metrics.errors import DataError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
LOSSLESS_IMAGE_SUFFIXES = frozenset({".png"})
MOST_PIXELS = 1 << 26
"""Pixels of the largest frame that is read, 8192 x 8192: a file of a few kB can claim any number of them."""
_SIGNATURES = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff"}

_DECODER_FAULTS = (RuntimeError, AttributeError, AssertionError, MemoryError, struct.error, zlib.error)
"""Pillow passes on whatever its decoders, and those of metadata, stumble over."""

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
        DataError: empty, damaged, with alpha, more than 8 bits a channel, not RGB, grey where that is refused, or of
            more than MOST_PIXELS.
    """
    try:
        empty = path.stat().st_size == 0
    except OSError as error:
        raise DataError(f"{path}: the image cannot be read ({error.strerror or error})") from error
    if empty:
        raise DataError(f"{path}: the file is empty (0 bytes); write it again")
    return _read(path, str(path), grey, None, MOST_PIXELS)


def decode_image(data: bytes, name: str, *, most_pixels: int, grey: Grey = "repeat") -> NDArray[np.uint8]:
    """As `read_image`, from the bytes of a PNG or JPEG file that comes from anywhere.

    The first bytes must be those of the format, no other decoder is tried, and an image of more than `most_pixels`
    is refused by what its header states, before any pixel is decoded.

    Args:
        data: the whole file.
        name: what errors call it.

    Raises:
        DataError: as `read_image`; neither PNG nor JPEG; too many pixels.
    """
    kind = next((kind for kind, signature in _SIGNATURES.items() if data.startswith(signature)), None)
    if kind is None:
        raise DataError(f"{name}: expected a PNG or JPEG image, found something else; choose another file")
    return _read(io.BytesIO(data), name, grey, kind, most_pixels)


def _read(source: Path | BinaryIO, name: str, grey: Grey, kind: str | None, most_pixels: int) -> NDArray[np.uint8]:
    """`kind`: the only decoder to be tried; None: any."""
    from PIL import Image, ImageOps

    try:
        with Image.open(source, formats=None if kind is None else (kind,)) as image:
            mode, transparent = image.mode, "transparency" in image.info
            if image.width * image.height > most_pixels:
                raise DataError(
                    f"{name}: expected at most {most_pixels / 1e6:g} million pixels, found {image.width} x "
                    f"{image.height}; make it smaller"
                )
            image.load()
            upright = ImageOps.exif_transpose(image)
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: the image has too many pixels to be decoded; make it smaller") from error
    except (*(OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError), *_DECODER_FAULTS) as error:
        raise DataError(f"{name}: the image is damaged or cut short ({error}); write it again") from error
    if "A" in mode or "a" in mode or transparent:
        raise DataError(f"{name}: expected RGB, found an image with alpha ({mode}). Blend or drop the alpha channel.")
    if mode in ("L", "1") and grey == "refuse":
        raise DataError(
            f"{name}: expected RGB, found a grey image ({mode}). Repeat it: np.repeat(grey[..., None], 3, axis=-1)."
        )
    if mode not in ("RGB", "P", "L", "1"):
        raise DataError(f"{name}: expected 8-bit RGB, found mode {mode}. Convert it to 8-bit RGB.")
    return np.asarray(upright.convert("RGB"))
