"""One process or many: rank and size under torchrun, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from bench.foreign import of_worker
from metrics.errors import PokeBenchError

BARRIER_TIMEOUT = timedelta(hours=24)
"""How long a process waits for the others; shards of an evaluation may differ much in length."""


@dataclass(frozen=True)
class World:
    """This process among its peers."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def barrier(self) -> None:
        """Waits until every process is here.

        Raises:
            PeerError: one of them ended instead.
        """
        if self.size > 1:
            with peers_alive():
                dist.barrier()


class PeerError(PokeBenchError):
    """Another process of the same run ended early."""


@contextmanager
def peers_alive() -> Iterator[None]:
    """For what is done together with other processes: an end of one of them becomes a PeerError."""
    try:
        yield
    except RuntimeError as error:
        if of_worker(error):
            raise
        raise PeerError(
            f"another process of this run has ended early; see what it said itself ({str(error).splitlines()[0]}). "
            "What was finished is kept: run the same command again to go on."
        ) from error


@contextmanager
def world() -> Iterator[World]:
    """The processes that torchrun started (gloo, over its environment variables), or this one alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    dist.init_process_group("gloo", timeout=BARRIER_TIMEOUT)
    try:
        yield World(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


def choose_device(name: str | None = None) -> torch.device:
    """`name`, or the GPU of this process when there is one, else the CPU."""
    if name is not None:
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return torch.device("cpu")
