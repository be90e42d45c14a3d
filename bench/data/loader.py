"""Batches of clips from any data set: read by worker processes, the same whatever their number, resumable.

Order: epoch e of seed s visits the clips in a permutation made from (s, e) alone. Without `drop_last`, batch i goes to
process i modulo the number of processes, and every clip is visited exactly once. With it, consecutive runs of
`batch_size` clips go to the processes in turn, as many to each, and the remainder of the epoch is left out.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from bench.data.batch import ClipBatch, batch_of
from bench.data.interface import DataSet, Progress
from bench.data.reading import read_clip
from bench.distributed import World
from bench.flow.source import FlowSource
from bench.foreign import of_worker
from bench.pokes import PokeRule, clip_poke, joined
from bench.tracks import TrackRule, tracks_of
from methods.interface import Clip
from metrics.errors import DataError, PokeBenchError

Job = tuple[int, list[int]]
"""Seed of the pokes, and the rows of the clips of one batch."""


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of everything that is drawn anew in each epoch."""
    digest = hashlib.sha256(f"epoch/{seed}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "little") & (2**63 - 1)


class ClipLoader:
    """Iterating gives the rest of the current epoch, then moves on to the next.

    Args:
        dataset: an opened data set.
        batch_size: clips of a batch, for each process.
        workers: processes that read ahead; 0: read in this one. Nothing but speed depends on it.
        seed: of the order and the pokes.
        shuffle: a new order, and new pokes, in each epoch; else the order of the data set and the same pokes always.
        drop_last: leave out the remainder, so that every batch of every process is full: for training. Else every clip
            comes exactly once: for evaluation.
        pin_memory: put batches into page-locked memory, for copies to a GPU.
        flow: adds flow to the batches. What is missing is estimated here and now; with several processes, call
            `flow.prepare()` in the first one before the others come here, or each will do all the work.
        rule: draws pokes (from `flow`, unless it asks for true ones). For training with augmentation leave it out:
            pokes are drawn after augmentation, see `bench.data.augment.training_batch`.
        tracks: draws sparse trajectories.
        context: number of frames up to x0; tracks need it.
        world: this process among its peers.
        progress: see `FlowSource.prepare`.

    Raises:
        DataError: a setting makes no sense, or there are too few clips for one batch.
    """

    def __init__(
        self,
        dataset: DataSet,
        batch_size: int,
        *,
        workers: int = 2,
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        pin_memory: bool = False,
        flow: FlowSource | None = None,
        rule: PokeRule | None = None,
        tracks: TrackRule | None = None,
        context: int = 1,
        world: World | None = None,
        progress: Progress | None = None,
    ) -> None:
        world = world or World()
        ids = [ref.clip_id for ref in dataset.clips()]
        if batch_size < 1 or workers < 0:
            raise DataError(f"expected batch_size >= 1 and workers >= 0, found {batch_size} and {workers}")
        if rule is not None and flow is None:
            raise DataError("a poke rule needs a flow source, which also knows which frame is x0")
        needed = batch_size * world.size if drop_last else 1
        if len(ids) < needed:
            raise DataError(
                f"{dataset.name} has {len(ids)} clips, too few for a batch of {batch_size} in each of "
                f"{world.size} processes; take a smaller batch"
            )
        if flow is not None:
            flow.prepare(progress)
        self._data_hash = dataset.content_hash
        self.schedule = Schedule(len(ids), batch_size, seed, shuffle, drop_last, world)
        uses_opencv = tracks is not None or (rule is not None and rule.foreground == "grabcut")
        self._loader: DataLoader[Any] = DataLoader(
            _Reader(dataset, ids, flow, rule, tracks, context),
            batch_size=None,
            sampler=self.schedule,
            num_workers=workers,
            collate_fn=_unchanged,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
            worker_init_fn=_no_threads_of_opencv if uses_opencv else None,
        )

    def __len__(self) -> int:
        """Batches of an epoch, in this process."""
        return self.schedule.batches

    def __iter__(self) -> Iterator[ClipBatch]:
        if self.schedule.position >= len(self):
            self.schedule.next_epoch()
        batches = iter(self._loader)
        while True:
            try:
                found = next(batches)
            except StopIteration:
                break
            except (RuntimeError, EOFError, OSError) as error:
                fault = worker_fault(error) or _news()
                if fault is None:
                    raise
                raise fault from error
            if isinstance(found, PokeBenchError):
                raise found
            self.schedule.position += 1
            yield found
        self.schedule.next_epoch()

    @property
    def epoch(self) -> int:
        """The current epoch, from 0."""
        return self.schedule.epoch

    @property
    def position(self) -> int:
        """Batches of the current epoch that were handed out."""
        return self.schedule.position

    @property
    def epoch_seed(self) -> int:
        """The seed for augmentation and pokes in the current epoch."""
        return epoch_seed(self.schedule.seed, self.schedule.epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is: the batches handed out so far count as done."""
        return {"epoch": self.epoch, "position": self.position, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where `state` was.

        Raises:
            DataError: it belongs to other data, another seed, batch size or number of processes.
        """
        different = [name for name, value in self._identity().items() if state.get(name) != value]
        if different:
            raise DataError(
                f"the state of the loader was saved with another {', '.join(different)}; resume with the same "
                "settings, or start anew"
            )
        self.schedule.epoch, self.schedule.position = int(state["epoch"]), int(state["position"])

    def _identity(self) -> dict[str, Any]:
        schedule = self.schedule
        return {
            "data": self._data_hash,
            "seed": schedule.seed,
            "shuffle": schedule.shuffle,
            "drop_last": schedule.drop_last,
            "batch_size": schedule.batch_size,
            "processes": schedule.world.size,
        }


def worker_fault(error: Exception) -> DataError | None:
    """What torch says when a process that reads clips has ended early, for the user; None for any other error."""
    if not of_worker(error):
        return None
    return DataError(
        f"a process that reads clips has ended early: {str(error).splitlines()[0].strip()} If memory is short, use "
        "fewer of them (--workers)."
    )


def _news() -> DataError | None:
    """Waits for torch's news of the end of a worker: a connection that breaks off is heard of before its cause."""
    try:
        time.sleep(1)
    except RuntimeError as error:
        fault = worker_fault(error)
        if fault is None:
            raise
        return fault
    return None


class Schedule(Sampler[Job]):
    """Which clips make up the batches of one process, and how far it has come.

    It knows nothing of the loader: a cycle of references would keep workers from being told to stop.
    """

    def __init__(self, clips: int, batch_size: int, seed: int, shuffle: bool, drop_last: bool, world: World) -> None:
        self.clips, self.batch_size, self.seed = clips, batch_size, seed
        self.shuffle, self.drop_last, self.world = shuffle, drop_last, world
        self.epoch, self.position = 0, 0

    @property
    def batches(self) -> int:
        """Batches of an epoch, in this process."""
        if self.drop_last:
            return self.clips // (self.batch_size * self.world.size)
        return len(range(self.world.rank, -(-self.clips // self.batch_size), self.world.size))

    def __len__(self) -> int:
        """Batches left in the epoch."""
        return self.batches - self.position

    def __iter__(self) -> Iterator[Job]:
        """The batches left in the epoch."""
        rows = list(range(self.clips))
        if self.shuffle:
            generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch))
            rows = torch.randperm(self.clips, generator=generator).tolist()
        batches = [rows[start : start + self.batch_size] for start in range(0, self.clips, self.batch_size)]
        if self.drop_last:
            batches = batches[: self.batches * self.world.size]
        seed = epoch_seed(self.seed, self.epoch) if self.shuffle else self.seed
        mine = batches[self.world.rank :: self.world.size][self.position :]
        return iter([(seed, batch) for batch in mine])

    def next_epoch(self) -> None:
        """Moves to the beginning of the next epoch."""
        self.epoch, self.position = self.epoch + 1, 0


class _Reader(Dataset[Any]):
    """Reads one batch; runs in the workers."""

    def __init__(
        self,
        dataset: DataSet,
        ids: list[str],
        flow: FlowSource | None,
        rule: PokeRule | None,
        tracks: TrackRule | None,
        context: int,
    ) -> None:
        self._dataset, self._ids, self._flow, self._rule = dataset, ids, flow, rule
        self._tracks, self._context = tracks, context

    def __getitem__(self, job: Job) -> ClipBatch | PokeBenchError:
        """The batch, or the error that kept it from being read: torch would bury its message in a traceback."""
        seed, rows = job
        try:
            clips = [read_clip(self._dataset, self._ids[row]) for row in rows]
            if self._tracks is not None:
                tracks = tracks_of(clips, self._tracks, seed, self._context)
                return replace(self._poked(clips, seed), tracks=tracks)
            return self._poked(clips, seed)
        except PokeBenchError as error:
            return error

    def _poked(self, clips: list[Clip], seed: int) -> ClipBatch:
        """The clips as a batch, with flow and pokes where these are asked for."""
        if self._flow is None:
            return batch_of(clips)
        source, fields = self._flow, [self._flow.of(clip) for clip in clips]
        if self._rule is None:
            return batch_of(clips, fields)
        draws = [clip_poke(clip, source, self._rule, seed) for clip in clips]
        return batch_of(clips, fields, joined(draws))


def _unchanged(batch: Any) -> Any:
    return batch


def _no_threads_of_opencv(_: int) -> None:
    """OpenCV's thread pool does not survive the start of a worker."""
    import cv2

    cv2.setNumThreads(0)
