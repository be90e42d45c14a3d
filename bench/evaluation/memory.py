"""Batches that do not fit in memory: computed in halves, and halves of halves, until they do."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from metrics.errors import MethodError

log = logging.getLogger(__name__)

T = TypeVar("T")

PHRASES = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What allocators of torch, CUDA, its libraries and the system say; only the first has an exception of its own."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in PHRASES)


class Pieces:
    """Does work on a batch in pieces that fit in memory, and remembers how large these may be.

    Args:
        what: does the work, for messages.
        device: of the memory.

    Attributes:
        size: most clips of a piece; None: no batch was too large so far.
    """

    def __init__(self, what: str, device: torch.device) -> None:
        self.what, self._device = what, device
        self.size: int | None = None

    def each(self, clip_ids: Sequence[str], work: Callable[[list[int]], T]) -> Iterator[T]:
        """What `work` returns for one piece after the other, each given as rows of the batch.

        Raises:
            MethodError: a single clip does not fit.
        """
        start = 0
        while start < len(clip_ids):
            rows = list(range(len(clip_ids)))[start : start + (self.size or len(clip_ids))]
            fault = ""
            try:
                found = work(rows)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                fault = (str(error).strip() or type(error).__name__).splitlines()[0]
            if not fault:
                start += len(rows)
                yield found
                continue
            # Only here, after the exception and the frames that it held are gone, can their memory be used again.
            if len(rows) == 1:
                raise MethodError(
                    f"{self.what}: the clip {clip_ids[start]} does not fit in the memory of {self._device}, even by "
                    f"itself ({fault}). Take smaller frames or fewer samples, or a device with more memory."
                )
            self.size = (len(rows) + 1) // 2
            log.warning(
                "%s: a batch of %d clips does not fit in the memory of %s (%s); going on with %d",
                self.what,
                len(rows),
                self._device,
                fault,
                self.size,
            )
            gc.collect()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
