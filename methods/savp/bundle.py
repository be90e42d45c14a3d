"""Reads TensorFlow checkpoints (the "bundle" format of `tf.train.Saver`) without TensorFlow.

A checkpoint PREFIX is PREFIX.index, a sorted string table (the LevelDB table format) that maps tensor names to
protocol buffers (`BundleEntryProto` of tensorflow/core/protobuf/tensor_bundle.proto), and the data files
PREFIX.data-00000-of-00001, ..., which hold the tensors' bytes. Nothing in them is executed.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metrics.errors import MethodError

TABLE_MAGIC = 0xDB4775248B80FB57
FOOTER_BYTES = 48
TRAILER_BYTES = 5
"""Compression type and checksum after each block."""

MOST_AXES = 8
"""Most axes of a tensor; a variable of a network has five at most."""
TYPES: dict[int, type[np.generic]] = {1: np.float32, 2: np.float64, 3: np.int32, 9: np.int64}
"""Numbers of `tensorflow.DataType` for what checkpoints hold."""


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies.

    Attributes:
        dtype: number of its `tensorflow.DataType`.
        shape: its shape.
        shard, offset, size: data file, and the bytes in it.
        sliced: whether it is stored in slices.
    """

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    sliced: bool


class Bundle:
    """A checkpoint, opened: its names, and its tensors on demand.

    Args:
        path: the prefix, the `.index` file, or a folder that holds exactly one checkpoint.

    Raises:
        MethodError: there is no such checkpoint, it is damaged, or of a kind that is not read here.
    """

    def __init__(self, path: Path | str) -> None:
        self.prefix = _prefix(Path(path))
        index = Path(f"{self.prefix}.index")
        try:
            table = dict(_table(index.read_bytes()))
            header = dict(_fields(table.pop(b"")))
            self.entries = {name.decode(): _entry(value) for name, value in table.items()}
            self._shards, self._endianness = _number(header.get(1, 0)), _number(header.get(2, 0))
        except (OSError, ValueError, LookupError, TypeError, OverflowError, struct.error) as error:
            raise MethodError(
                f"{index} is not the index of a TensorFlow checkpoint, or damaged ({error}); copy the checkpoint again"
            ) from error
        if self._endianness != 0:
            raise MethodError(f"{index}: big-endian checkpoints are not read; save it again on a common machine")

    def read(self, name: str) -> NDArray[np.generic]:
        """The tensor `name`, in TensorFlow's layout.

        Raises:
            MethodError: it is of an unusual type or stored in slices, or the data file is missing or too short.
        """
        entry = self.entries[name]
        if entry.sliced or entry.dtype not in TYPES:
            kind = "is stored in slices" if entry.sliced else f"has the TensorFlow type number {entry.dtype}"
            raise MethodError(f"{self.prefix}: {name} {kind}, expected whole tensors of float or integer type")
        dtype = np.dtype(TYPES[entry.dtype]).newbyteorder("<")
        count = math.prod(entry.shape)
        data = self.prefix.with_name(f"{self.prefix.name}.data-{entry.shard:05d}-of-{self._shards:05d}")
        try:
            if entry.shard >= self._shards or not data.is_file():
                raise MethodError(f"the data file {data} is missing; keep it beside the .index file")
            # Before anything is read, for an entry may claim any size.
            if entry.size != count * dtype.itemsize or entry.offset + entry.size > data.stat().st_size:
                raise MethodError(f"{data} is too short for {name}, or damaged; copy the checkpoint again")
            found = np.fromfile(data, dtype, count, offset=entry.offset)
            return found.reshape(entry.shape)
        except (OSError, ValueError) as error:
            raise MethodError(f"{data} cannot be read ({error}); copy the checkpoint again") from error


def _prefix(path: Path) -> Path:
    if path.is_dir():
        found = sorted(path.glob("*.index"))
        if len(found) != 1:
            names = ", ".join(file.stem for file in found[-4:]) or "none"
            raise MethodError(f"{path}: expected one checkpoint in the folder, found {names}; give FOLDER/model-N")
        path = found[0]
    prefix = path.with_suffix("") if path.suffix == ".index" else path
    if not Path(f"{prefix}.index").is_file():
        raise MethodError(
            f"there is no checkpoint {prefix}: expected {prefix.name}.index and {prefix.name}.data-*; "
            "give the prefix, such as FOLDER/model-300000"
        )
    return prefix


def _table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a sorted string table."""
    footer = content[-FOOTER_BYTES:]
    if len(footer) < FOOTER_BYTES or struct.unpack("<Q", footer[-8:])[0] != TABLE_MAGIC:
        raise ValueError("it does not end like one")
    _, place = _handle(footer, 0)
    root, _ = _handle(footer, place)
    for _, value in _block(content, root):
        handle, _ = _handle(value, 0)
        yield from _block(content, handle)


def _handle(content: bytes, place: int) -> tuple[tuple[int, int], int]:
    """(offset, size) of a block, and the place after it."""
    offset, place = _varint(content, place)
    size, place = _varint(content, place)
    return (offset, size), place


def _block(content: bytes, handle: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    offset, size = handle
    if offset + size + TRAILER_BYTES > len(content):
        raise ValueError("a block lies outside of it")
    if content[offset + size] != 0:
        raise ValueError("its blocks are compressed, which TensorFlow's Saver does not do")
    block = content[offset : offset + size]
    restarts = struct.unpack("<I", block[-4:])[0]
    place, end, key = 0, len(block) - 4 * (restarts + 1), b""
    while place < end:
        shared, place = _varint(block, place)
        fresh, place = _varint(block, place)
        length, place = _varint(block, place)
        key = key[:shared] + block[place : place + fresh]
        place += fresh
        yield key, block[place : place + length]
        place += length


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[place]
        if shift > 63:
            raise ValueError("a number has more than 64 bits")
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of a protocol buffer."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == 0:
            value, place = _varint(message, place)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, place = _varint(message, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a protocol buffer has a field of kind {kind}")
        yield tag >> 3, message[place : place + length]
        place += length


def _entry(message: bytes) -> Entry:
    """A BundleEntryProto: dtype = 1, shape = 2, shard_id = 3, offset = 4, size = 5, slices = 7."""
    fields = list(_fields(message))
    found = dict(fields)
    shape: list[int] = []
    for number, value in _fields(_bytes(found.get(2, b""))):
        if number == 2:
            shape.append(_number(dict(_fields(_bytes(value))).get(1, 0)))
    if len(shape) > MOST_AXES:
        raise ValueError(f"a tensor has {len(shape)} axes")
    dtype, shard, offset, size = (_number(found.get(number, 0)) for number in (1, 3, 4, 5))
    return Entry(dtype, tuple(shape), shard, offset, size, 7 in found)


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("a protocol buffer holds bytes where a number belongs")
    return value


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a protocol buffer holds a number where bytes belong")
    return value
