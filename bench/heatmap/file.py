"""Heatmaps on disk: one .npz of plain arrays for each method and image."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.heatmap.maps import Heatmap
from bench.output import output_path
from metrics.array_files import read_npz
from metrics.errors import DataError
from metrics.parsing import parse_json

_FIELDS = ("location", "displacements", "foreground", "mean_length", "exact", "empty", "note")


def write_heatmaps(path: Path, image: Tensor, found: Sequence[Heatmap], facts: Mapping[str, object]) -> None:
    """Writes "image", "facts" (JSON), and "N/FIELD" for the fields of `Heatmap` of each place N, from 0.

    Args:
        image: x0, float `[3, H, W]` in [0, 1].
        facts: of how they were made; JSON-able.

    Raises:
        OutputError: the file cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {"image": image.cpu().numpy(), "facts": np.array(json.dumps(facts))}
    for number, one in enumerate(found):
        arrays |= {f"{number}/{name}": np.asarray(getattr(one, name)) for name in _FIELDS}
        arrays |= {f"{number}/map/{form}": values.numpy() for form, values in one.maps.items()}
        arrays |= {f"{number}/variance/{form}": values.numpy() for form, values in one.variances.items()}
    with output_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]


def read_heatmaps(path: Path) -> tuple[Tensor, list[Heatmap], dict[str, Any]]:
    """What `write_heatmaps` wrote: image, the heatmap of each place, facts.

    Raises:
        DataError: no such file, damaged, or something else.
    """
    try:
        arrays = read_npz(path)
        facts = parse_json(str(arrays["facts"]))
        numbers = sorted({int(name.partition("/")[0]) for name in arrays if "/" in name})
        found = [_heatmap(arrays, number) for number in numbers]
        if not found or "method" not in facts:
            raise KeyError("method, or any place")
        return torch.from_numpy(arrays["image"]), found, facts
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: expected an .npz file of `bench heatmap`, but it cannot be read as one: {error!r}. Make it again."
        ) from error


def _heatmap(arrays: Mapping[str, NDArray[Any]], number: int) -> Heatmap:
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
        exact=bool(arrays[f"{number}/exact"]),
        empty=bool(arrays[f"{number}/empty"]),
        note=str(arrays[f"{number}/note"]),
    )
