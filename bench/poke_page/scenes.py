"""The pictures of the page: x0 of simulated scenes, of clips of data sets, image files, and what is uploaded."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.data.interface import Progress
from bench.pictures import clip_and_x0, image_file, named_clip, resized
from bench.poke_page.errors import PageError
from methods.image_io import decode_image, read_image
from metrics.errors import DataError

FRAME_RATE = 10.0
"""Frames per second of the answers: that of the simulated sets, and of the paper's Poking-Plants."""
MOST_PIXELS = 40_000_000
"""Largest picture that is decoded: a large phone photograph."""
DEFAULT_SCENES = (
    ("sim-pokes", 8),
    ("sim-pokes", 3),
    ("sim-pokes", 18),
    ("sim-pokes", 13),
    ("sim-pokes", 20),
    ("sim-pokes", 0),
    ("sim-plants", 4),
    ("sim-plants", 9),
    ("sim-humans", 4),
    ("sim-humans", 1),
)
"""Simulated set and number of the scene; all are of test splits."""


@dataclass(frozen=True)
class Scene:
    """A picture to poke.

    Attributes:
        clip_id: what methods are told; that of the data set for its clips, else made from the pixels.
        label: what the page calls it.
        x0: uint8 `[3, S, S]`, RGB.
        origin: the data set, "" for a picture of none.
        poke: location (x, y) and displacement (dx, dy) in px of the poke that the data have for it; None: unknown.
        remark: what was done to the pixels before, "" when nothing.
    """

    clip_id: str
    label: str
    x0: Tensor
    origin: str = ""
    poke: tuple[tuple[float, float], tuple[float, float]] | None = None
    remark: str = ""

    @property
    def size(self) -> int:
        """Side S in px."""
        return self.x0.shape[-1]


def default_scenes(size: int, progress: Progress | None = None) -> list[Scene]:
    """The scenes of DEFAULT_SCENES, drawn at `size` px.

    Raises:
        DataError: the simulated world is not drawn at this size.
    """
    scenes = []
    for number, (split, scene) in enumerate(DEFAULT_SCENES):
        if progress is not None:
            progress(number, len(DEFAULT_SCENES), "scenes")
        scenes.append(_simulated(split, scene, 0, size))
    return scenes


def named_scenes(images: Sequence[str], size: int) -> list[Scene]:
    """The scenes that a user names, in that order.

    Args:
        images: each a square image file, which is resized to `size` px, or "DATASET:CLIP".

    Raises:
        DataError: no such image or clip, or an image that is not square.
    """
    return [_named(image, size) for image in images]


def uploaded_scene(data: bytes, size: int, crop: bool) -> Scene:
    """A picture of the user's own.

    Args:
        data: a PNG or JPEG file.
        size: side in px to which the square is resized (bilinear, antialiased).
        crop: take the middle square of a picture that is not square.

    Raises:
        DataError: not an image, damaged, or of more than MOST_PIXELS.
        PageError: not square, and `crop` is not asked for; `crop` of the error is then the side of the square.
    """
    return _picture("Your picture", decode_image(data, "your picture", most_pixels=MOST_PIXELS), size, crop)


def _simulated(name: str, scene: int, clip: int, size: int) -> Scene:
    """Drawn anew, which takes less time than to make the whole set."""
    from bench.data.sim.clips import CONTEXT
    from bench.data.sim.splits import SPLITS, make_scene

    found = make_scene(SPLITS[name], scene, size)[clip]
    known = found.poke
    poke = None
    if known is not None:
        (x, y), (dx, dy) = known.location, known.displacement.tolist()
        poke = ((float(x), float(y)), (dx, dy))
    x0 = torch.from_numpy(found.frames[CONTEXT - 1].copy())
    return Scene(found.clip_id, found.kind.replace("_", " "), x0, name, poke)


def _named(image: str, size: int) -> Scene:
    from bench.data.sim.splits import SPLITS

    if clip_of := named_clip(image):
        name, clip_id = clip_of
        if name in SPLITS:
            return _simulated(name, *SPLITS[name].locate(clip_id), size)
        clip, x0 = clip_and_x0(name, clip_id, size)
        return Scene(clip.clip_id, clip.clip_id, x0, name)
    path = image_file(image)
    try:
        return _picture(path.name, read_image(path), size, crop=False)
    except PageError as error:
        raise DataError(f"{path}: {error} Crop it first, or upload it on the page, which can crop it.") from error


def _picture(label: str, pixels: NDArray[np.uint8], size: int, crop: bool) -> Scene:
    """uint8 `[H, W, 3]` as a scene. Its id depends on what is shown alone, so stochastic methods repeat themselves."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    if height != width and not crop:
        raise PageError(f"This picture has {width} x {height} px, and methods take square ones.", crop=side)
    top, left = (height - side) // 2, (width - side) // 2
    x0 = torch.from_numpy(pixels[top : top + side, left : left + side].copy()).permute(2, 0, 1).contiguous()
    done = [f"the middle {side} x {side} px of {width} x {height}"] if height != width else []
    if side != size:
        done.append(f"resized from {side} to {size} px")
        x0 = resized(x0.float(), size).clamp(0, 255).round().to(torch.uint8)
    digest = hashlib.sha256(x0.numpy().tobytes()).hexdigest()[:12]
    return Scene(f"picture-{digest}", label, x0, remark=", ".join(done).capitalize())


def check_poke(scene: Scene, location: Sequence[float], displacement: Sequence[float]) -> None:
    """Refuses pokes that begin outside the picture, or are longer than its side.

    Raises:
        PageError: so it is, or a value is not finite.
    """
    last = scene.size - 1
    if not all(math.isfinite(value) for value in (*location, *displacement)):
        raise PageError("A poke is four finite numbers: x and y of the point, dx and dy of its displacement, in px.")
    if not all(0 <= value <= last for value in location):
        x, y = location
        raise PageError(f"The poke begins at ({x:g}, {y:g}), outside the picture; give 0 <= x, y <= {last}.")
    if math.hypot(*displacement) > math.sqrt(2) * scene.size:
        raise PageError(f"The poke is {math.hypot(*displacement):.0f} px long, longer than the picture; pull less far.")
