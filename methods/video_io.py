"""Decodes videos: files of any common container, and folders of frames.

Rules, the same on every machine:

- Every frame shown is one frame: time stamps are not used to repeat or drop any. What an edit list cuts off is not
  shown.
- Frames are converted to RGB by libswscale, bit-exact flags on, with the matrix and range that the file
  declares (BT.601, limited, when it declares none). Grey is repeated to three channels, alpha is dropped.
- A rotation in the file's metadata is applied when it is a multiple of 90 degrees, and refused otherwise.
- Pixels are taken as stored: sample aspect ratio and interlacing are not corrected.
- Decoding uses one thread, and stops at the first error that the decoder reports. Not every format can tell damage
  inside a frame: GIF, VP8 and VP9 often, FFV1 always decode what they find.

Frame folders follow `methods.image_io`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from methods.image_io import LOSSLESS_IMAGE_SUFFIXES, MOST_PIXELS, folder_frames, image_files
from metrics.errors import DataError

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm", ".gif"})
LOSSLESS_CODECS = frozenset({"ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "png", "apng", "qtrle"})
RATE_FILE = "frame_rate.txt"
"""A frame folder may hold this file: one number, its frames per second."""

GIF_TRAILER = b"\x3b"
_BINDING_FAULTS = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    LookupError,
    MemoryError,
    RuntimeError,
)
"""What PyAV raises besides FFmpeg's own errors on streams that make no sense."""
MOST_BYTES = 1 << 31
"""Bytes of the longest video that is decoded as a whole, 2 GiB."""


def decode_video(path: Path) -> tuple[NDArray[np.uint8], float | None]:
    """All frames, uint8 `[T, H, W, 3]`, RGB, and the frame rate (None when it is not stated).

    For long or large videos take `video_frames`, which holds one frame at a time.

    Raises:
        DataError: as `video_frames`; or more than MOST_BYTES.
    """
    frames, size = [], 0
    for frame in video_frames(path):
        size += frame.nbytes
        if size > MOST_BYTES:
            raise DataError(f"{path}: the video has more than {MOST_BYTES >> 20} MiB of frames; cut it, or shrink it")
        frames.append(frame)
    return np.stack(frames), video_frame_rate(path)


def video_frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Yields the frames of a video file or frame folder, uint8 `[H, W, 3]`, RGB.

    Raises:
        DataError: missing, empty, damaged, cut short (the container states more than there is), without a video
            stream, or frames that differ in size.
    """
    if path.is_dir():
        yield from folder_frames(path)
        return
    import av

    decoded = 0
    try:
        with _opened(path) as (container, stream):
            for frame in _checked_frames(path, container, stream):
                yield frame
                decoded += 1
    except (av.FFmpegError, *_BINDING_FAULTS) as error:
        raise DataError(
            f"{path}: cannot be decoded beyond frame {decoded} ({_reason(error)}). "
            "The file is damaged, cut short or no video: copy it again, or encode it anew."
        ) from error
    if decoded == 0:
        raise DataError(f"{path}: the video has no frames; encode it anew")


def video_frame_rate(path: Path) -> float | None:
    """Frames per second as the container states it (the average of a variable rate); None when unknown.

    A frame folder states it in RATE_FILE.

    Raises:
        DataError: the file cannot be opened, or RATE_FILE does not hold a positive number.
    """
    if path.is_dir():
        return _stated_rate(path / RATE_FILE)
    import av

    try:
        with _opened(path) as (_, stream):
            rate = stream.average_rate or stream.guessed_rate
            return float(rate) if rate and rate > 0 else None
    except (av.FFmpegError, *_BINDING_FAULTS) as error:
        raise DataError(f"{path}: not a video that can be opened ({_reason(error)}); encode it anew") from error


def is_lossless(path: Path) -> bool:
    """Whether the format keeps RGB frames as they were: a lossless codec on RGB, or PNG frames.

    Raises:
        DataError: the file cannot be opened.
    """
    if path.is_dir():
        return all(file.suffix.lower() in LOSSLESS_IMAGE_SUFFIXES for file in image_files(path))
    import av

    try:
        with _opened(path) as (_, stream):
            context = stream.codec_context
            return context.name in LOSSLESS_CODECS and context.format is not None and bool(context.format.is_rgb)
    except (av.FFmpegError, *_BINDING_FAULTS) as error:
        raise DataError(f"{path}: not a video that can be opened ({_reason(error)}); encode it anew") from error


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream, set to decode with one thread and to stop at errors."""
    import av

    if not path.is_file():
        raise DataError(f"{path}: no such video")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes); copy it again")
    # A file must not make the demuxer open other files or addresses.
    options = {"protocol_whitelist": "file"}
    with av.open(f"file:{path.absolute()}", options=options, metadata_errors="replace") as container:
        if not container.streams.video:
            raise DataError(f"{path}: the file has no video stream")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise DataError(f"{path}: no decoder is known for its video stream; encode it anew")
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"err_detect": "crccheck+explode", "max_pixels": str(MOST_PIXELS)}
        yield container, stream


def _checked_frames(path: Path, container: Any, stream: Any) -> Iterator[NDArray[np.uint8]]:
    """Frames of an open stream; raises at the first sign that some are missing or damaged."""
    from av.video.reformatter import Interpolation, VideoReformatter

    # Without these flags the result depends on the instruction set of the CPU.
    exact = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INT
    reformatter = VideoReformatter()
    packets, decoded, end, size = 0, 0, 0.0, None
    for packet in container.demux(stream):
        if packet.size:
            packets += 1
            if packet.pts is not None and not packet.is_discard:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        for frame in packet.decode():
            if packet.is_corrupt or frame.is_corrupt:
                raise DataError(f"{path}: frame {decoded} is damaged; copy the file again, or encode it anew")
            if size not in (None, (frame.height, frame.width)):
                raise DataError(f"{path}: the frame size changes at frame {decoded}; encode it anew at one size")
            size = (frame.height, frame.width)
            rgb = reformatter.reformat(frame, format="rgb24", interpolation=exact, threads=1)
            yield _rotated(path, np.asarray(rgb.to_ndarray(), dtype=np.uint8), frame.rotation)
            decoded += 1
    missing = _missing(path, container, stream, packets, end)
    if missing:
        raise DataError(f"{path}: the file is cut short: {missing}; copy it again, or encode it anew")


def _missing(path: Path, container: Any, stream: Any, packets: int, end: float) -> str:
    """What the container states beyond what it holds; "" when that is nothing, or it states nothing."""
    if "gif" in container.format.name:  # its frame count is not stated but counted; its last byte is fixed
        return "" if _ends_with_gif_trailer(path) else "the GIF trailer is missing"
    rate = stream.average_rate or stream.guessed_rate
    frame = float(1 / rate) if rate else 0.0
    if stream.frames > packets:
        # The edit list of an mp4 leaves frames out on purpose; then the edited duration says what must be there.
        editable = "mp4" in container.format.name and stream.duration
        duration = float(stream.duration * stream.time_base) if editable else 0.0
        trimmed = 0 < duration < (stream.frames - 0.5) * frame
        if not (trimmed and end > duration - 1.5 * frame):
            return f"it states {stream.frames} frames and holds {packets}"
    if "matroska" in container.format.name:
        stated = _stated_end(container, stream)
        if stated is not None and stated - end > 0.75 * frame > 0:
            return f"it states {stated:.3f} s and ends at {end:.3f} s"
    return ""


def _ends_with_gif_trailer(path: Path) -> bool:
    """Whether the last byte, zero padding apart, is the trailer."""
    with path.open("rb") as stream:
        stream.seek(max(path.stat().st_size - 4096, 0))
        return stream.read().rstrip(b"\0").endswith(GIF_TRAILER)


def _stated_end(container: Any, stream: Any) -> float | None:
    """End of the video in a Matroska file, in seconds: from its own tag, or from the file if it is alone there."""
    tag = stream.metadata.get("DURATION", "")
    try:
        hours, minutes, seconds = (float(part) for part in tag.split(":"))
    except ValueError:
        alone = len(container.streams) == 1 and container.duration
        return container.duration / 1e6 if alone else None
    return 3600 * hours + 60 * minutes + seconds


def _rotated(path: Path, frame: NDArray[np.uint8], degrees: int) -> NDArray[np.uint8]:
    """`frame` turned counterclockwise by `degrees`."""
    if degrees % 90:
        raise DataError(f"{path}: its metadata ask for a rotation by {degrees} degrees; encode it anew, upright")
    return np.ascontiguousarray(np.rot90(frame, degrees // 90))


def _stated_rate(file: Path) -> float | None:
    if not file.is_file():
        return None
    try:
        text = file.read_text(encoding="utf-8").strip()
        rate = float(text)
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: expected one positive number, the frames per second, found no text") from error
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise DataError(f"{file}: expected one positive number, the frames per second, found {text[:40]!r}")
    return rate
