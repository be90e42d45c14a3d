"""From a plan's data to the batches of a training, and the clips held out for validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import torch

from bench.data.augment import Augmentation, augment, training_batch
from bench.data.batch import ClipBatch, sent
from bench.data.interface import ClipRef, DataSet, Progress
from bench.data.loader import ClipLoader
from bench.data.prepared_set import PreparedDataSet
from bench.data.registry import open_dataset, splits_of
from bench.data.subset import Subset
from bench.distributed import World
from bench.flow.source import FlowSource
from bench.pokes import DrawnPoke
from bench.training.plan import DataPlan
from methods.interface import clip_generator
from methods.training import TrainingBatch
from metrics.errors import TrainingError


@dataclass(frozen=True)
class TrainingData:
    """The clips to learn from and those held out.

    Attributes:
        training, validation: no source in both, or, where the test split is the later part of the same videos, no
            frame; validation is None when the plan holds nothing out.
    """

    training: DataSet
    validation: DataSet | None


def open_training_data(
    plan: DataPlan, progress: Progress | None = None, *, skip_unreadable: bool = False
) -> TrainingData:
    """Opens the training split of a plan's data set and holds the validation clips out of it.

    Sources are held out in an order drawn from their names, until there are enough clips; when that takes more clips
    than asked for, they are evenly spaced over all clips of these sources, and the others are left out of both.

    Where the test split is the later part of the same videos (Poking-Plants), a source held out would be one that is
    tested. There the last clips of each video are held out, from its end backwards and without overlap, a clip of each
    video in turn, and clips that share a frame with one of them, or come after it, are left out of both.

    Args:
        plan: the plan's data.
        progress: called during preparation.
        skip_unreadable: leave out files that cannot be used; `skipped` of either set lists them.

    Raises:
        DataError, RegistryError: the data cannot be opened.
        TrainingError: too few sources to hold any out.
    """
    whole = open_dataset(
        plan.dataset,
        size=plan.size,
        length=plan.context + plan.horizon,
        frame_rate=plan.frame_rate,
        max_clips=plan.clips,
        clips_per_source=plan.clips_per_source,
        seed=plan.seed,
        split="train" if "train" in splits_of(plan.dataset) else None,
        skip_unreadable=skip_unreadable,
        progress=progress,
    )
    if plan.validation_clips == 0:
        return TrainingData(whole, None)
    refs = list(whole.clips())
    if isinstance(whole, PreparedDataSet) and whole.within:
        held, kept = _ends_of_videos(whole, plan.validation_clips)
    else:
        held, kept = _whole_sources(refs, plan.validation_clips)
    if not kept:
        sources = len({ref.source for ref in refs})
        raise TrainingError(
            f"{plan.dataset} has {len(refs)} clips of {sources} sources; holding {plan.validation_clips} out "
            "leaves nothing to learn from: take a smaller data.validation_clips"
        )
    held = sorted(held, key=lambda ref: ref.clip_id)
    return TrainingData(Subset(whole, kept, "training"), Subset(whole, held, "validation"))


def _whole_sources(refs: Sequence[ClipRef], count: int) -> tuple[list[ClipRef], list[ClipRef]]:
    """`count` clips of as few sources as have them, and the clips of the other sources."""
    held: list[ClipRef] = []
    out: set[str] = set()
    for source in sorted({ref.source for ref in refs}, key=_lot):
        if len(held) >= count:
            break
        held += [ref for ref in refs if ref.source == source]
        out.add(source)
    count = min(count, len(held))
    spread = [held[(2 * number + 1) * len(held) // (2 * count)] for number in range(count)]
    return spread, [ref for ref in refs if ref.source not in out]


def _ends_of_videos(dataset: PreparedDataSet, count: int) -> tuple[list[ClipRef], list[ClipRef]]:
    """`count` clips from the ends of the videos, and the clips before these."""
    refs = dataset.clips()
    places = {ref.clip_id: dataset.place(ref.clip_id) for ref in refs}
    ends: dict[str, list[ClipRef]] = {}
    for ref in sorted(refs, key=lambda ref: -places[ref.clip_id][1].start):
        video, frames = places[ref.clip_id]
        last = ends.setdefault(video, [])
        if not last or frames.stop <= places[last[-1].clip_id][1].start:
            last.append(ref)
    turns = zip_longest(*(ends[video] for video in sorted(ends, key=_lot)))
    held = [ref for turn in turns for ref in turn if ref is not None][:count]
    begins = {places[ref.clip_id][0]: places[ref.clip_id][1].start for ref in held}  # of each video its earliest

    def is_before(ref: ClipRef) -> bool:
        video, frames = places[ref.clip_id]
        return video not in begins or frames.stop <= begins[video]

    return held, [ref for ref in refs if is_before(ref)]


class Feed:
    """The batches of a training in this process.

    Args:
        dataset: clips to learn from.
        plan: the plan's data.
        inputs: of the training: "poke", "tracks".
        batch_size: clips of one iteration over all processes, a multiple of their number.
        seed: of order, augmentation and pokes.
        device: where the batches go.
        world: this process among its peers.

    Raises:
        TrainingError: the training asks for pokes and tracks.
        DataError: too few clips, or flow that cannot be had.
    """

    def __init__(
        self,
        dataset: DataSet,
        plan: DataPlan,
        inputs: frozenset[str],
        batch_size: int,
        seed: int,
        device: torch.device,
        world: World,
        workers: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self._plan, self._device, self._total = plan, device, batch_size
        self._first = batch_size // world.size * world.rank
        flow = FlowSource(dataset, plan.flow, context=plan.context) if "poke" in inputs else None
        if flow is not None:
            if world.first:
                flow.prepare(progress)
            world.barrier()
        self._pokes = flow is not None
        if flow is not None and "tracks" in inputs:
            raise TrainingError("a training takes pokes or tracks, not both: pokes are drawn anew after augmentation")
        self.loader = ClipLoader(
            dataset,
            batch_size // world.size,
            workers=workers,
            seed=seed,
            shuffle=True,
            drop_last=True,
            pin_memory=device.type == "cuda",
            flow=flow,
            tracks=plan.tracks if "tracks" in inputs else None,
            context=plan.context,
            world=world,
        )

    def ready(self, batch: ClipBatch) -> TrainingBatch:
        """A batch of the loader as a step takes it."""
        plan, seed = self._plan, self.loader.epoch_seed
        if self._pokes:
            made = training_batch(batch, self._device, plan.poke, seed, plan.context, plan.augmentation)
            made = _at_rest_where_beside(made)
        else:
            settings = plan.augmentation or Augmentation(colour=0, geometry=0)
            made = augment(replace(batch, poke=None, flow=None).to(self._device), settings, seed)
        return TrainingBatch(
            frames=made.frames,
            context=plan.context,
            clip_ids=made.clip_ids,
            seed=seed,
            poke=made.poke if self._pokes else None,
            flow=made.flow,
            tracks=made.tracks,
            first=self._first,
            total=self._total,
        )


def _at_rest_where_beside(batch: ClipBatch) -> ClipBatch:
    """After a poke beside the object nothing moves: the frames are those of x0 by now, and the flow is to be zero."""
    if not isinstance(batch.poke, DrawnPoke) or batch.flow is None:
        return batch
    rows = batch.poke.rows("background")
    if not rows:
        return batch
    places = sent(rows, batch.flow.device, torch.long)
    return replace(batch, flow=batch.flow.index_fill(0, places, 0))


def _lot(source: str) -> int:
    return int(torch.randint(2**62, (1,), generator=clip_generator(0, f"validation/{source}")))
