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


class DeviceError(PokeBenchError):
    """A device was asked for that is not here."""


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
    """The device of that name, or the GPU of this process when there is one, else the CPU.

    Args:
        name: "cpu", "cuda" (under torchrun: the GPU of this process) or "cuda:N"; None: the best there is.

    Raises:
        DeviceError: no such device, or none that works here.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cuda" or (name is None and count):
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % _at_least_one(count))
    try:
        device = torch.device("cpu" if name is None else name)
    except RuntimeError as error:
        raise DeviceError(f'expected "cpu", "cuda" or "cuda:N" as device, found {name!r}') from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f'expected "cpu", "cuda" or "cuda:N" as device, found {name!r}')
    if device.type == "cuda" and (device.index or 0) >= _at_least_one(count):
        raise DeviceError(f'there is no device {name!r} here: GPUs are "cuda:0" to "cuda:{count - 1}"')
    return device


def _at_least_one(count: int) -> int:
    if not count:
        raise DeviceError('there is no GPU that PyTorch can use here; leave the device out, or say "cpu"')
    return count
