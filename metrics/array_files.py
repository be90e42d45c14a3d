"""Reads .npz and .npy files that come from anywhere: plain arrays only, of the size that their bytes really have."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

LARGEST = 2**31
"""Most bytes of one array: 2 GiB, beyond any clip or map of this program."""
MOST_HEADER = 10_000
"""Longest header of an array, in characters."""
_HEADERS: dict[tuple[int, int], Any] = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
FAULTS = (
    *(OSError, ValueError, EOFError, KeyError, RuntimeError, OverflowError, TypeError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
"""What damaged files raise in `zipfile`, `zlib` and numpy; turned into a ValueError here."""


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an .npz file, by name; the checksum of each is compared.

    No pickle is read, and no memory is taken for what a header only claims.

    Raises:
        ValueError: not an .npz file, damaged, with objects in it, or with an array of more than LARGEST bytes.
        OSError: it cannot be opened.
    """
    with path.open("rb") as stream:
        archive = _opened(stream)
        return {name.removesuffix(".npy"): _array(archive, name) for name in archive.namelist()}


def array_names(path: Path) -> list[str]:
    """Names of the arrays of an .npz file; errors as `read_npz`."""
    with path.open("rb") as stream:
        return [name.removesuffix(".npy") for name in _opened(stream).namelist()]


def _opened(stream: IO[bytes]) -> zipfile.ZipFile:
    head = stream.read(4)
    if head not in (b"PK\x03\x04", b"PK\x05\x06"):
        raise ValueError("a single array without a name" if head == npy.MAGIC_PREFIX[:4] else "no zip file of arrays")
    stream.seek(0)
    try:
        return zipfile.ZipFile(stream)
    except FAULTS as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    try:
        size = archive.getinfo(name).file_size
        with archive.open(name) as member:
            return _read(member, size)
    except FAULTS as error:
        raise ValueError(f"{name}: {str(error) or type(error).__name__}") from error


def _read(stream: IO[bytes], size: int) -> NDArray[Any]:
    """One array in the .npy format, from a stream of `size` bytes."""
    if size > LARGEST:
        raise ValueError(f"it states {size} bytes, more than the {LARGEST} admitted")
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"arrays of the format {version} are not read")
    shape, fortran, dtype = _HEADERS[version](stream, max_header_size=MOST_HEADER)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never read")
    if any(side < 0 for side in shape):
        raise ValueError(f"it states the shape {shape}")
    count = math.prod(shape) * dtype.itemsize
    if count > size:
        raise ValueError(f"its header claims {count} bytes of {size}")
    content = stream.read()  # to the end, so that the checksum is compared
    if len(content) != count:
        raise ValueError(f"expected {count} bytes, found {len(content)}")
    flat: NDArray[Any] = np.frombuffer(bytearray(content), dtype) if count else np.empty(math.prod(shape), dtype)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
