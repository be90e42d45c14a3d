"""Work on the CPU that is split by clips instead of inside each operation."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor


def split_by_clip(function: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """`function(batch)` on the CPU, computed in one contiguous part of the batch for each of PyTorch's threads.

    Threads that share every small operation wait for each other after each; threads with clips of their own do
    not, which matters most on a machine that does other work too. Nothing changes in the results as long as
    `function` treats clips alone.

    Args:
        function: of `[N, ...]`, returning `[N, ...]`; called without gradients.
        batch: on the CPU, B first.
    """

    threads = torch.get_num_threads()
    workers = min(threads, len(batch))
    if workers == 1:
        return function(batch)

    def work(part: Tensor) -> Tensor:
        torch.set_num_threads(max(1, threads // workers))
        with torch.no_grad():  # the setting of the calling thread does not reach this one
            return function(part)

    try:
        with ThreadPoolExecutor(workers, thread_name_prefix="pokebench") as pool:
            return torch.cat(list(pool.map(work, batch.tensor_split(workers))))
    finally:
        torch.set_num_threads(threads)
