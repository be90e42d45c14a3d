"""Answers as files: a PNG strip for the page, and mp4, gif, PNG frames and npz to keep."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench import provenance
from bench.data.show import RED, draw_poke
from bench.poke_page.answers import Answer
from bench.poke_page.errors import PageError
from bench.poke_page.scenes import FRAME_RATE
from bench.pokes import Draw
from bench.store import slug

TYPES = {"mp4": "video/mp4", "gif": "image/gif", "png": "application/zip", "npz": "application/octet-stream"}
"""Format -> media type; "png" is a zip file of PNG frames."""
VIDEOS = ("mp4", "gif")
SCALES = (1, 2, 4, 8)
"""By how much videos may be enlarged; every pixel becomes a square."""
GAP = 2
"""White px of x0 between two answers side by side."""

Frames = NDArray[np.uint8]


def strip(frames: Frames) -> bytes:
    """`[T, S, S, 3]` as one PNG file, the frames below each other."""
    return _png(frames.reshape(-1, *frames.shape[2:]))


def save(answers: Sequence[Answer], form: str, scale: int, poke: bool) -> tuple[bytes, str]:
    """A file to keep, and a name for it.

    Videos hold x0 and the predicted frames. The zip file holds the same as x00.png, x01.png, ...; the npz file
    `x0` uint8 `[S, S, 3]`, `video` uint8 `[T, S, S, 3]`, `location`, `displacement` (px) and `facts` (JSON). Those two
    are exact; gif has at most 256 colours, and mp4 is compressed.

    Args:
        answers: one, or two of equal size to be shown side by side in a video.
        form: of TYPES.
        scale: of SCALES; for videos.
        poke: draw the poke into the video.

    Raises:
        PageError: an unknown form or scale; two answers in a form that is for one; an mp4 of odd sides.
    """
    if form not in TYPES:
        raise PageError(f"Expected one of the forms {', '.join(TYPES)}, found {form!r}.", 404)
    name = slug("_".join([*(answer.label for answer in answers), answers[0].clip_id]))
    if form in VIDEOS:
        return _video(answers, form, scale, poke), f"{name}.{form}"
    if len(answers) > 1 or scale != 1 or poke:
        raise PageError(f"{form} files hold the exact frames of one answer: choose one, without enlarging or drawing.")
    if form == "npz":
        return _npz(answers[0]), f"{name}.npz"
    return _zip(answers[0]), f"{name}.zip"


def _video(answers: Sequence[Answer], form: str, scale: int, poke: bool) -> bytes:
    if scale not in SCALES:
        raise PageError(f"Videos can be enlarged {', '.join(map(str, SCALES))} times, found {scale}.")
    length = max(len(answer.frames) for answer in answers)
    shown = [_enlarged(answer, length, scale, poke) for answer in answers]
    white = np.full((length, shown[0].shape[1], GAP * scale, 3), 255, np.uint8)
    frames = shown[0] if len(shown) == 1 else np.concatenate([shown[0], white, shown[1]], axis=2)
    return _gif(frames) if form == "gif" else _mp4(frames)


def _enlarged(answer: Answer, length: int, scale: int, poke: bool) -> Frames:
    """`[length, S * scale, S * scale, 3]`; an answer that is shorter holds its last frame."""
    from PIL import Image, ImageDraw

    index = np.minimum(np.arange(length), len(answer.frames) - 1)
    frames = answer.frames[index].repeat(scale, axis=1).repeat(scale, axis=2)
    if not poke:
        return frames
    drawn = []
    for frame in frames:
        picture = Image.fromarray(frame)
        location, displacement = torch.tensor([answer.location]), torch.tensor([answer.displacement])
        draw_poke(picture, Draw(location, displacement, "strong"), scale)
        x, y = ((location + displacement + 0.5) * scale)[0].tolist()
        radius = max(1.0, frame.shape[0] / 64)
        ImageDraw.Draw(picture).ellipse([x - radius, y - radius, x + radius, y + radius], fill=RED)
        drawn.append(np.asarray(picture))
    return np.stack(drawn)


def _mp4(frames: Frames) -> bytes:
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise PageError(f"mp4 needs even sides, found {width} x {height} px; enlarge it 2 times.")
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=round(FRAME_RATE), options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def _gif(frames: Frames) -> bytes:
    """An endless gif with the 256 colours that suit these frames best."""
    import av

    height, width = frames.shape[1:3]
    graph = av.filter.Graph()
    rate = round(FRAME_RATE)
    source = graph.add_buffer(width=width, height=height, format="rgb24", time_base=f"1/{rate}")
    split, palette = graph.add("split"), graph.add("palettegen", "stats_mode=full")
    use, sink = graph.add("paletteuse", "dither=bayer:bayer_scale=4"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="gif") as container:
        stream: Any = container.add_stream("gif", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "pal8"
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts = number
            source.push(picture)
        source.push(None)
        for number in range(len(frames)):
            picture = sink.pull()
            picture.pts = number
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return buffer.getvalue()


def _zip(answer: Answer) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, frame in enumerate(answer.frames):
            archive.writestr(f"x{number:02d}.png", _png(frame))
        archive.writestr("facts.json", json.dumps(_facts(answer), indent=1))
    return buffer.getvalue()


def _npz(answer: Answer) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        x0=answer.frames[0],
        video=answer.frames[1:],
        location=np.asarray(answer.location, np.float32),
        displacement=np.asarray(answer.displacement, np.float32),
        facts=np.asarray(json.dumps(_facts(answer))),
    )
    return buffer.getvalue()


def _facts(answer: Answer) -> dict[str, Any]:
    return {
        "method": answer.card.name,
        "revision": answer.card.revision,
        "weights": dict(answer.card.weights),
        "picture": answer.clip_id,
        "location": list(answer.location),
        "displacement": list(answer.displacement),
        "seed": answer.seed,
        "frame_rate": FRAME_RATE,
        "note": answer.note,
        "commit": provenance.commit(),
    }


def _png(pixels: Frames) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
