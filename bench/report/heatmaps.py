"""Heatmaps that `bench heatmap` wrote, as pictures of a report."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.heatmap import Heatmap
from bench.heatmap_figure import Row, draw
from bench.report.media import data_uri
from metrics.correlation import FORMS
from metrics.errors import ReportError

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
    image, found, facts = _read_heatmaps(path)
    rows = [Row(image, str(facts["method"]), form, found) for form in FORMS if all(form in one.maps for one in found)]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "heatmap"
        draw(target, rows)
        content = target.with_suffix(".png").read_bytes()
    return _picture(path.stem, content, [(name, _text(value)) for name, value in facts.items()])


def _read_heatmaps(path: Path) -> tuple[Tensor, list[Heatmap], dict[str, Any]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        facts = json.loads(str(arrays["facts"]))
        numbers = sorted({int(name.partition("/")[0]) for name in arrays if "/" in name})
        found = [_heatmap(arrays, number) for number in numbers]
        if not found or "method" not in facts:
            raise KeyError("method, or any place")
        return torch.from_numpy(arrays["image"]), found, facts
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ReportError(
            f"--heatmap {path}: expected an .npz file of `bench heatmap`, but it cannot be read as one: {error!r}"
        ) from error


def _heatmap(arrays: dict[str, NDArray[Any]], number: int) -> Heatmap:
    def by_form(kind: str) -> dict[str, Tensor]:
        head = f"{number}/{kind}/"
        return {name.removeprefix(head): torch.from_numpy(a) for name, a in arrays.items() if name.startswith(head)}

    x, y = arrays[f"{number}/location"].tolist()
    return Heatmap(
        location=(x, y),
        displacements=torch.from_numpy(arrays[f"{number}/displacements"]),
        maps=by_form("map"),
        variances=by_form("variance"),
        foreground=torch.from_numpy(arrays[f"{number}/foreground"]),
        mean_length=torch.from_numpy(arrays[f"{number}/mean_length"]),
        note=str(arrays.get(f"{number}/note", "")),
    )


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items()) or "none"
    return "none" if value is None else str(value)
