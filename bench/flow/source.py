"""Optical flow from x0 to the last frame of the clips of a data set, estimated once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.data.interface import DataSet, Progress
from bench.flow.registry import DEFAULT, EXACT, FLOWS, FlowEstimator, flow_between
from bench.flow.store import FORMAT_VERSION, read_flow, write_flow
from methods.interface import Clip
from metrics.cache import cache_folder, hash_of
from metrics.errors import DataError

CLIPS_PER_FILE = 64


class FlowSource:
    """The flow from x0 to the last frame of every clip of a data set.

    Estimated once, in files of CLIPS_PER_FILE clips in the user cache, under a key made of the content of the data,
    the frames used, and the estimator with its settings and libraries. What is missing is estimated when it is first
    asked for, or all at once by `prepare`.

    Args:
        dataset: an opened data set.
        estimator: a name of FLOWS, or "exact" for the flow that the clips carry.
        context: number of frames up to x0; None where the data set itself says it (`dataset.context`).
        device: where estimators that use a GPU work.

    Raises:
        DataError: `context` is not given and not known, does not suit the data set, or leaves no frame to go to.
        RegistryError: no such estimator.
    """

    def __init__(
        self,
        dataset: DataSet,
        estimator: str = DEFAULT,
        *,
        context: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.dataset, self.name = dataset, estimator
        self.context = context_of(dataset, context)
        self._ids = [ref.clip_id for ref in dataset.clips()]
        self._rows = {clip_id: row for row, clip_id in enumerate(self._ids)}
        self._opened: dict[int, NDArray[np.float32]] = {}
        self._estimator = None if estimator == EXACT else FLOWS.get(estimator)(device)

    @property
    def facts(self) -> dict[str, Any]:
        """What a protocol says of the flow: estimator, version, settings."""
        if self._estimator is None:
            return {"estimator": EXACT}
        return {"estimator": self.name, "version": self._estimator.version, "settings": self._estimator.settings}

    def __call__(self, clip_id: str) -> Tensor:
        """Flow float32 `[2, H, W]` of one clip.

        Raises:
            DataError: no such clip, or "exact" was asked for and the clip carries no flow.
        """
        row = self._rows.get(clip_id)
        if row is None:
            raise DataError(f"{self.dataset.name} has no clip {clip_id!r}; it has {len(self._ids)}, see `clips()`")
        if self._estimator is None:
            return self.exact_flow(self.dataset.load(clip_id))
        number, place = divmod(row, CLIPS_PER_FILE)
        if number not in self._opened:
            self._opened[number] = self._file(number)
        return torch.from_numpy(np.array(self._opened[number][place]))

    def of(self, clip: Clip) -> Tensor:
        """The same for a clip that is loaded already."""
        return self.exact_flow(clip) if self._estimator is None else self(clip.clip_id)

    def exact_flow(self, clip: Clip) -> Tensor:
        """The flow that `clip` carries.

        Raises:
            DataError: it carries none.
        """
        if clip.flow is None:
            raise DataError(
                f"{self.dataset.name} knows no exact flow; choose an estimator, there are: {', '.join(FLOWS.names())}"
            )
        return clip.flow

    def prepare(self, progress: Progress | None = None, share: tuple[int, int] = (0, 1)) -> None:
        """Estimates whatever is missing, file by file; an interrupted run goes on where it was.

        Args:
            progress: called with clips done, all clips, and what is done.
            share: (rank, size) of this process: it estimates every size-th file, from file number rank on.
        """
        if self._estimator is None:
            return
        for number in range(share[0], -(-len(self._ids) // CLIPS_PER_FILE), share[1]):
            if number not in self._opened:
                self._opened[number] = self._file(number)
            if progress is not None:
                done = min((number + 1) * CLIPS_PER_FILE, len(self._ids))
                progress(done, len(self._ids), f"flow ({self.name}) of {self.dataset.name}")

    def _file(self, number: int) -> NDArray[np.float32]:
        """The flow `[n, 2, H, W]` of the clips in file `number`, estimated if need be."""
        ids = self._ids[number * CLIPS_PER_FILE : (number + 1) * CLIPS_PER_FILE]
        path = self._folder() / f"{number:05d}.flow"
        found = read_flow(path, ids)
        if found is None:
            write_flow(path, ids, self._estimate(ids).numpy())
            found = read_flow(path, ids)
        if found is None:
            raise DataError(f"{path} changed while it was written; check the disk")
        return found

    def _folder(self) -> Path:
        estimator = self._required()
        frames = [self.context - 1, "last"]
        key = [FORMAT_VERSION, self.dataset.content_hash, frames, self.facts, estimator.backend]
        return cache_folder("flow", hash_of(key)[:40])

    def _estimate(self, clip_ids: Sequence[str]) -> Tensor:
        clips = [self.dataset.load(clip_id).frames[self.context - 1 :] for clip_id in clip_ids]
        short = [clip_id for clip_id, frames in zip(clip_ids, clips, strict=True) if len(frames) < 2]
        if short:
            raise DataError(
                f"{self.dataset.name}: clip {short[0]} has no frame after {self.context} context frames; "
                "open the data set with longer clips"
            )
        return flow_between(self._required(), torch.stack(clips))

    def _required(self) -> FlowEstimator:
        if self._estimator is None:
            raise DataError("exact flow is not estimated")
        return self._estimator

    def __getstate__(self) -> dict[str, Any]:
        """Mapped files are opened anew in another process."""
        return {**self.__dict__, "_opened": {}}


def context_of(dataset: DataSet, context: int | None = None) -> int:
    """The number of frames up to x0: what the data set says, else what is asked for.

    Raises:
        DataError: neither says it, or they differ.
    """
    fixed: int | None = getattr(dataset, "context", None)
    if fixed is not None and context not in (None, fixed):
        raise DataError(
            f"{dataset.name}: x0 is frame {fixed} of its clips, found context {context}; "
            "open it with the length that belongs to this context"
        )
    chosen = fixed if fixed is not None else context
    if chosen is None:
        raise DataError(f"{dataset.name} does not fix which frame is x0; give the number of context frames")
    if chosen < 1:
        raise DataError(f"expected at least 1 context frame, found {chosen}")
    return chosen
