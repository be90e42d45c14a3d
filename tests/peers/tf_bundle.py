"""Writes TensorFlow checkpoints in the bundle format, for tests of what reads them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TYPES = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int64": 9}


def write_bundle(prefix: Path, tensors: Mapping[str, NDArray[Any]], entries_per_block: int = 16) -> None:
    """Writes PREFIX.index and PREFIX.data-00000-of-00001; keys share prefixes as LevelDB's tables do."""
    data = b""
    records = [(b"", _varint_field(1, 1))]
    for name in sorted(tensors):
        content = np.ascontiguousarray(tensors[name])
        dimensions = b"".join(_bytes_field(2, _varint_field(1, side)) for side in content.shape)
        entry = _varint_field(1, TYPES[content.dtype.name]) + _bytes_field(2, dimensions)
        entry += _varint_field(4, len(data)) + _varint_field(5, content.nbytes) + bytes([6 << 3 | 5]) + b"\0\0\0\0"
        records.append((name.encode(), entry))
        data += content.tobytes()
    table = b""
    handles = []
    for low in range(0, len(records), entries_per_block):
        block = _block(records[low : low + entries_per_block])
        handles.append(
            (records[min(low + entries_per_block, len(records)) - 1][0], _varint(len(table)) + _varint(len(block)))
        )
        table += block + b"\0" * 5
    index = _block(handles)
    place = _varint(len(table)) + _varint(len(index))
    table += index + b"\0" * 5
    footer = (_varint(0) + _varint(0) + place).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    Path(f"{prefix}.index").write_bytes(table + footer)
    Path(f"{prefix}.data-00000-of-00001").write_bytes(data)


def _block(records: list[tuple[bytes, bytes]]) -> bytes:
    content, before = b"", b""
    for key, value in records:
        shared = 0
        while shared < min(len(key), len(before)) and key[shared] == before[shared]:
            shared += 1
        content += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        before = key
    return content + struct.pack("<II", 0, 1)


def _varint(value: int) -> bytes:
    found = b""
    while value >= 0x80:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


def _varint_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value) if value else b""


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value
