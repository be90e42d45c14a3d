"""Features of true clips in the user cache, by content: a method that is evaluated later does not compute them again.

One file a clip: the sha256 of what follows, then the features, float32 `[D]`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metrics.base import SetMetric
from metrics.cache import atomic_path, cache_folder, hash_of
from metrics.errors import CacheError

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
"""Rises with every change of the files, and when a feature network computes something else than before."""
_DIGEST = 32


class ReferenceCache:
    """The features of one extractor.

    Where the cache cannot be written, a notice says so, once, and everything is computed.

    Args:
        metric: whose features they are.
        mode: of the protocol; features of different precision are kept apart.
        device: on which they are computed, likewise.
    """

    def __init__(self, metric: SetMetric, mode: str, device: torch.device) -> None:
        facts = [FORMAT_VERSION, metric.extractor, dict(metric.card.weights), mode, device.type]
        self._folder: Path | None = None
        try:
            self._folder = cache_folder("features", f"{metric.extractor}-{hash_of(facts)[:12]}")
        except CacheError as error:
            log.warning("features of true clips are not kept: %s", error)

    def features(self, video: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Features float32 `[B, D]` of true clips.

        Args:
            video: float `[B, T, 3, H, W]` in [0, 1], of frames with 8 bits.
            compute: gives the features of those that are not kept; all of the batch, so that they are what they would
                be without the cache, bit for bit.
        """
        paths = self._paths(video)
        kept = [_read(path) for path in paths]
        found = [features for features in kept if features is not None]
        if found and len(found) == len(video):
            return torch.from_numpy(np.stack(found)).to(video.device)
        made = compute(video)
        for path, features in zip(paths, made.detach().float().cpu().numpy(), strict=bool(paths)):
            self._write(path, features)
        return made

    def _paths(self, video: Tensor) -> list[Path]:
        if self._folder is None:
            return []
        frames = (video * 255).round().to(torch.uint8).cpu().numpy()
        names = [hashlib.sha256(f"{clip.shape}".encode() + clip.tobytes()).hexdigest() for clip in frames]
        return [self._folder / name[:2] / name for name in names]

    def _write(self, path: Path, features: NDArray[np.float32]) -> None:
        if self._folder is None:
            return
        content = np.ascontiguousarray(features, dtype="<f4").tobytes()
        try:
            path.parent.mkdir(exist_ok=True)
            with atomic_path(path) as temporary:
                temporary.write_bytes(hashlib.sha256(content).digest() + content)
        except OSError as error:
            log.warning("features of true clips are not kept: %s cannot be written (%s)", path, error)
            self._folder = None


def _read(path: Path) -> NDArray[np.float32] | None:
    """What is kept; None where nothing is, or (with a notice) something damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("%s cannot be read (%s); its features are computed again", path, error)
        return None
    if len(content) <= _DIGEST or hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
        log.warning("%s is damaged; its features are computed again", path)
        return None
    return np.frombuffer(content[_DIGEST:], "<f4").astype(np.float32)
