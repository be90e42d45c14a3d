"""Heatmaps that `bench heatmap` wrote, as pictures of a report."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.heatmap.figure import Row, draw
from bench.heatmap.file import read_heatmaps
from bench.report.media import data_uri
from metrics.correlation import FORMS
from metrics.errors import DataError, ReportError

PNG_HEAD = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """A figure with what is known of it.

    Attributes:
        title: of the figure.
        uri: data URI of a PNG.
        width, height: px.
        facts: (label, value) of how it was made.
    """

    title: str
    uri: str
    width: int
    height: int
    facts: tuple[tuple[str, str], ...] = ()


def heatmap_picture(path: Path) -> Picture:
    """What `bench heatmap` wrote, its .png as it is or its .npz drawn again.

    Raises:
        ReportError: no such file, or not a heatmap.
    """
    if not path.is_file():
        raise ReportError(f"--heatmap {path}: there is no such file; give a .png or .npz that `bench heatmap` wrote")
    if path.suffix == ".npz":
        return _drawn(path)
    content = path.read_bytes()
    if path.suffix != ".png" or not content.startswith(PNG_HEAD):
        raise ReportError(f"--heatmap {path}: expected a PNG or .npz file of `bench heatmap`")
    return _picture(path.stem, content)


def _picture(title: str, content: bytes, facts: Sequence[tuple[str, str]] = ()) -> Picture:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            width, height = image.size
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ReportError(f"--heatmap {title}: the picture is damaged ({error}); make it again") from error
    return Picture(title, data_uri(content), width, height, tuple(facts))


def _drawn(path: Path) -> Picture:
    try:
        image, found, facts = read_heatmaps(path)
    except DataError as error:
        raise ReportError(f"--heatmap {error}") from error
    rows = [Row(image, str(facts["method"]), form, found) for form in FORMS if all(form in one.maps for one in found)]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "heatmap"
        draw(target, rows)
        content = target.with_suffix(".png").read_bytes()
    return _picture(path.stem, content, [(name, _text(value)) for name, value in facts.items()])


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items()) or "none"
    return "none" if value is None else str(value)
