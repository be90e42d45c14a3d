"""Estimated flow on disk: one file for a shard of clips, written atomically, checked by sha256.

A file is one line of JSON (clip ids, shape, sha256 of what follows) and then the flow, float32 `[n, 2, H, W]`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metrics.cache import ENVIRONMENT_VARIABLE, atomic_path
from metrics.errors import CacheError
from metrics.parsing import parse_json

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
"""Rises with every change of the files."""
MOST_HEAD = 1 << 24
"""Longest first line, bytes."""


def write_flow(path: Path, clip_ids: Sequence[str], flow: NDArray[np.float32]) -> None:
    """Stores the flow `[n, 2, H, W]` of `clip_ids`.

    Raises:
        CacheError: the file cannot be written.
    """
    data = np.ascontiguousarray(flow, dtype="<f4")
    head = {"clip_ids": list(clip_ids), "shape": list(data.shape), "sha256": hashlib.sha256(data.data).hexdigest()}
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as out:
            out.write(json.dumps(head).encode() + b"\n")
            out.write(data.data)
    except OSError as error:
        raise CacheError(
            f"the flow file {path} cannot be written ({error.strerror or error}). "
            f"Free some space there, or set {ENVIRONMENT_VARIABLE} to another folder."
        ) from error


def read_flow(path: Path, clip_ids: Sequence[str]) -> NDArray[np.float32] | None:
    """The flow of `clip_ids`, mapped from disk; None where there is no file, or (with a notice) a damaged one."""
    try:
        with path.open("rb") as stream:
            head = parse_json(stream.readline(MOST_HEAD))
            start = stream.tell()
        shape = tuple(head["shape"])
        if head["clip_ids"] != list(clip_ids) or path.stat().st_size != start + 4 * math.prod(shape):
            raise ValueError("it is not of these clips, or cut short")
        mapped = np.memmap(path, "<f4", "r", offset=start, shape=shape)
        if hashlib.sha256(mapped.data).hexdigest() == head["sha256"]:
            return mapped
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        log.warning("the cached flow %s is damaged (%s); estimating it again", path, error)
        return None
    log.warning("the cached flow %s is damaged; estimating it again", path)
    return None
