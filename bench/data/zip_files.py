"""Unpacks zip files, also those handed out in parts, of any size.

Python's own reader refuses large archives in parts, so the directory is read here, by the PKWARE specification
(APPNOTE 6.3, sections 4.3 to 4.5): offsets of an archive in parts count from the start of a part.

Every file is written whole or not at all, its checksum compared, and one that is there with the stated size is not
written again: an interrupted unpacking goes on where it stopped.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.data.archives import MOST_EXPANSION, PIECE, SPARE, inside
from metrics.cache import atomic_path
from metrics.errors import DataError

STORED, DEFLATED = 0, 8
ENCRYPTED, UTF8 = 0x1, 0x800
FULL16, FULL32 = 0xFFFF, 0xFFFFFFFF
"""Values that send the reader to a 64-bit field."""


class _BadZip(ValueError):
    """The archive is not what it should be."""


@dataclass(frozen=True)
class _Member:
    """A file in the archive: its name, where its header lies in all parts together, and how it is packed."""

    name: str
    position: int
    flags: int
    method: int
    checksum: int
    packed: int
    size: int


def zip_parts(folder: Path) -> list[Path]:
    """The one zip file of `folder` with its parts, in order; [] when there is none.

    Known are NAME.z01, NAME.z02, ..., NAME.zip (written by a splitting zip program) and NAME.zip.001, NAME.zip.002, ...
    (one zip file cut into pieces).

    Raises:
        DataError: several zip files, or a part is missing.
    """
    pieces = sorted(path for path in folder.iterdir() if re.fullmatch(r".+\.zip(\.\d{3})?", path.name, re.IGNORECASE))
    stems = {re.sub(r"\.zip(\.\d{3})?$", "", path.name, flags=re.IGNORECASE) for path in pieces}
    if len(stems) > 1:
        raise DataError(f"{folder}: expected one zip file, found {', '.join(sorted(stems))}; leave one there")
    if not stems:
        return []
    stem = stems.pop()
    split = sorted(
        (path for path in folder.iterdir() if re.fullmatch(re.escape(stem) + r"\.z\d{2,}", path.name, re.IGNORECASE)),
        key=lambda path: int(path.suffix[2:]),
    )
    if split and len(pieces) > 1:
        raise DataError(f"{folder}: found both {split[0].name} and {pieces[-1].name}; leave the parts of one zip file")
    numbered = split or [path for path in pieces if path.suffix[1:].isdecimal()]
    found = [int(re.sub(r"\D", "", path.suffix)) for path in numbered]
    if found != list(range(1, len(found) + 1)):
        missing = sorted(set(range(1, max(found) + 1)) - set(found))
        raise DataError(f"{folder}: parts {missing} of {stem}.zip are missing; download them too")
    return [*split, *pieces]


def unpack_zip(parts: Sequence[Path], target: Path, wanted: Callable[[str], bool]) -> None:
    """Writes the files of a zip file, given as its parts in order, into `target`.

    Args:
        wanted: takes the name in the archive; only these files are written.

    Raises:
        DataError: the archive is damaged or a part is missing, it names a file outside of `target`, or a file in it
            expands beyond all reason.
    """
    with _Joined(parts) as stream:
        try:
            for member in _members(stream):
                path = inside(target, member.name)
                if member.name.endswith("/") or not wanted(member.name):
                    continue
                if not (path.is_file() and path.stat().st_size == member.size):
                    _inflate(stream, member, path)
        except (_BadZip, zlib.error, struct.error, UnicodeDecodeError, OverflowError) as error:
            raise DataError(
                f"{parts[-1]}: the zip file cannot be unpacked ({error}). A part is damaged or missing (found: "
                f"{', '.join(part.name for part in parts)}): download it again; or unpack it with another program "
                "and give the folder of its videos."
            ) from error


class _Joined(io.RawIOBase):
    """Several files read as one."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._files = [part.open("rb") for part in parts]
        sizes = [part.stat().st_size for part in parts]
        self.starts = [sum(sizes[:index]) for index in range(len(sizes))]
        self._size, self._position = sum(sizes), 0

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def read(self, count: int = -1) -> bytes:
        left = self._size - self._position if count is None or count < 0 else count
        pieces = []
        while left > 0 and self._position < self._size:
            index = bisect_right(self.starts, self._position) - 1
            self._files[index].seek(self._position - self.starts[index])
            piece = self._files[index].read(left)
            pieces.append(piece)
            left -= len(piece)
            self._position += len(piece)
        return b"".join(pieces)

    def exactly(self, count: int) -> bytes:
        """The next `count` bytes."""
        data = self.read(count)
        if len(data) != count:
            raise _BadZip("it ends early")
        return data

    def place(self, part: int, offset: int) -> int:
        """Position in all parts together of an offset into one."""
        if part >= len(self.starts):
            raise _BadZip(f"it names part {part + 1} of {len(self.starts)}")
        return self.starts[part] + offset


def _members(stream: _Joined) -> list[_Member]:
    """The directory of the archive."""
    end = stream.seek(0, io.SEEK_END)
    tail_start = stream.seek(max(end - FULL16 - 22, 0))
    tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0:
        raise _BadZip("its end record is not there")
    part, _, count, _, offset = struct.unpack_from("<HHHII", tail, at + 6)
    stream.seek(max(tail_start + at - 20, 0))
    locator = stream.read(20)
    if locator[:4] == b"PK\x06\x07":
        stream.seek(stream.place(*struct.unpack_from("<IQ", locator, 4)))
        record = stream.exactly(56)
        if record[:4] != b"PK\x06\x06":
            raise _BadZip("its 64-bit end record is not there")
        part, _, count, _, offset = struct.unpack_from("<IQQQQ", record, 20)
    stream.seek(stream.place(part, offset))
    return [_member(stream) for _ in range(count)]


def _member(stream: _Joined) -> _Member:
    """The next entry of the directory."""
    header = stream.exactly(46)
    if header[:4] != b"PK\x01\x02":
        raise _BadZip("its directory is damaged")
    flags, method, _, checksum, packed, size, name, extra, comment, part = struct.unpack_from("<HHIIIIHHHH", header, 8)
    (offset,) = struct.unpack_from("<I", header, 42)
    text = stream.exactly(name).decode("utf-8" if flags & UTF8 else "cp437")
    fields = _wide_fields(stream.exactly(extra))
    stream.exactly(comment)
    # The 64-bit field holds only those values that do not fit above, in this order.
    size, fields = _wide(size, FULL32, "<Q", fields)
    packed, fields = _wide(packed, FULL32, "<Q", fields)
    offset, fields = _wide(offset, FULL32, "<Q", fields)
    part, fields = _wide(part, FULL16, "<I", fields)
    return _Member(text, stream.place(part, offset), flags, method, checksum, packed, size)


def _wide_fields(extra: bytes) -> bytes:
    """The 64-bit field among the extra fields of an entry, or b""."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            return extra[4 : 4 + length]
        extra = extra[4 + length :]
    return b""


def _wide(value: int, full: int, form: str, fields: bytes) -> tuple[int, bytes]:
    """`value`, or the next of the wide fields where it is `full`; and the fields that are left."""
    if value != full:
        return value, fields
    return struct.unpack_from(form, fields)[0], fields[struct.calcsize(form) :]


def _inflate(stream: _Joined, member: _Member, path: Path) -> None:
    """Writes one file."""
    stream.seek(member.position)
    header = stream.exactly(30)
    if header[:4] != b"PK\x03\x04":
        raise _BadZip(f"{member.name} is not where the directory says")
    if member.flags & ENCRYPTED or member.method not in (STORED, DEFLATED):
        raise _BadZip(f"{member.name} is encrypted, or packed by method {member.method}")
    stream.seek(sum(struct.unpack_from("<HH", header, 26)), io.SEEK_CUR)
    if member.size > MOST_EXPANSION * member.packed + SPARE:
        raise _BadZip(f"{member.name} states {member.size} bytes, packed into {member.packed}")
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS) if member.method == DEFLATED else None
    left, checksum, written = member.packed, 0, 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("wb") as out:
        while left:
            packed = stream.exactly(min(left, PIECE))
            left -= len(packed)
            while packed:
                data = unpacker.decompress(packed, PIECE) if unpacker else packed
                packed = unpacker.unconsumed_tail if unpacker else b""
                checksum, written = zlib.crc32(data, checksum), written + len(data)
                if written > member.size:
                    raise _BadZip(f"{member.name} holds more than the {member.size} bytes that it states")
                out.write(data)
        if unpacker:
            data = unpacker.flush()
            checksum, written = zlib.crc32(data, checksum), written + len(data)
            out.write(data)
        if checksum != member.checksum or written != member.size:
            raise _BadZip(f"{member.name} has a wrong checksum")
