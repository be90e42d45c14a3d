"""Packs a clip into bytes and back without loss.

The bytes of a clip are its arrays in a fixed order and layout, so their sha256 identifies the content. For storage
they are filtered (differences in time, between neighbours and between colours) and deflated.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from bench.data.sim.clips import FLOW_UNIT, LENGTH, TRACKS, SimClip, TruePoke
from metrics.errors import DataError

MODES = ("", "pull", "impulse", "background")
LEVEL, WINDOW_BITS, MEMORY = 6, -15, 9


def content(clip: SimClip) -> bytes:
    """The canonical bytes of a clip; only its names are not in them."""
    return b"".join(np.ascontiguousarray(a).tobytes() for a in (clip.frames, *_others(clip)))


def pack(clip: SimClip) -> bytes:
    """A clip as compressed bytes."""
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, WINDOW_BITS, MEMORY, zlib.Z_FILTERED)
    raw = b"".join(np.ascontiguousarray(a).tobytes() for a in (_filtered(clip.frames), *_others(clip)))
    return deflate.compress(raw) + deflate.flush()


def unpack(packed: bytes, size: int, clip_id: str, source: str, kind: str) -> SimClip:
    """The clip that `pack` made at `size` px.

    Raises:
        DataError: the bytes are damaged.
    """
    try:
        raw = zlib.decompress(packed, WINDOW_BITS)
    except zlib.error as error:
        raise DataError(f"the stored clip {clip_id} is damaged ({error})") from error
    layout = list(_layout(size))
    if len(raw) != sum(count * np.dtype(kind_).itemsize for kind_, count in layout):
        raise DataError(f"the stored clip {clip_id} has {len(raw)} bytes, which is not the length of a {size} px clip")
    pieces, start = [], 0
    for dtype, count in layout:
        pieces.append(np.frombuffer(raw, dtype, count, start))
        start += count * np.dtype(dtype).itemsize
    frames, flow, visible, parts, tracks, mode, location, vectors = pieces
    name = MODES[int(mode[0])]
    poke = TruePoke(name, (int(location[0]), int(location[1])), vectors[:2], vectors[2:]) if name else None
    return SimClip(
        clip_id=clip_id,
        source=source,
        kind=kind,
        frames=_unfiltered(frames.reshape(LENGTH, 3, size, size)),
        flow=flow.reshape(2, size, size).astype(np.float32) * np.float32(FLOW_UNIT),
        visible=np.unpackbits(visible, count=size * size).reshape(size, size).astype(bool),
        parts=parts.reshape(size, size).copy(),
        tracks=tracks.reshape(TRACKS, LENGTH, 2).astype(np.float32) * np.float32(FLOW_UNIT),
        poke=poke,
    )


def _layout(size: int) -> Iterator[tuple[str, int]]:
    """Type and length of every array, in order."""
    area = size * size
    yield "<u1", LENGTH * 3 * area
    yield "<i2", 2 * area
    yield "<u1", -(-area // 8)
    yield "<u1", area
    yield "<i4", TRACKS * LENGTH * 2
    yield "<u1", 1
    yield "<i2", 2
    yield "<f8", 4


def _others(clip: SimClip) -> list[np.ndarray]:
    flow = np.round(clip.flow.astype(np.float64) / FLOW_UNIT)
    if np.abs(flow).max() > np.iinfo(np.int16).max:
        raise DataError(f"the flow of {clip.clip_id} exceeds {np.iinfo(np.int16).max * FLOW_UNIT:.0f} px")
    poke = clip.poke
    location = np.array(poke.location if poke else (0, 0), "<i2")
    vectors = np.concatenate([poke.displacement, poke.force]) if poke else np.zeros(4)
    return [
        flow.astype("<i2"),
        np.packbits(clip.visible),
        clip.parts,
        np.round(clip.tracks.astype(np.float64) / FLOW_UNIT).astype("<i4"),
        np.array([MODES.index(poke.mode if poke else "")], np.uint8),
        location,
        vectors.astype("<f8"),
    ]


def _filtered(frames: np.ndarray) -> np.ndarray:
    """Differences, modulo 256: red and blue from green, every frame from the one before, x0 from the left."""
    change = frames.copy()
    change[:, 0::2] -= frames[:, 1:2]
    result = change.copy()
    result[1:] -= change[:-1]
    result[0, :, :, 1:] -= change[0, :, :, :-1]
    return result


def _unfiltered(result: np.ndarray) -> np.ndarray:
    frames = result.copy()
    frames[0] = np.cumsum(result[0], axis=-1, dtype=np.uint8)
    for before, after in pairwise(frames):
        after += before
    frames[:, 0] += frames[:, 1]
    frames[:, 2] += frames[:, 1]
    return frames
