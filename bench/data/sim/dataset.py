"""The simulated world as data sets of the harness."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence

import torch

from bench.data.clips import kept_clips
from bench.data.interface import ClipRef, DataSource, Progress, Settings, Status
from bench.data.sim.clips import CONTEXT, HORIZON, LENGTH, SimClip
from bench.data.sim.generate import ensure_shards
from bench.data.sim.physics import FRAME_RATE
from bench.data.sim.reference import difference
from bench.data.sim.render import check_size
from bench.data.sim.shards import Entry, Shard
from bench.data.sim.splits import SPLITS, Split
from methods.interface import Clip, Poke
from metrics.errors import DataError

_log = logging.getLogger(__name__)


class SimDataSet:
    """One split at one size, made on first use.

    Clips have 12 frames at 10 fps: 2 of context, the second of which is x0, and 10 to be predicted. With a length of 11
    the first context frame is left out. `Clip.flow` is exact, from x0 to the last frame.

    Attributes:
        context: number of frames up to x0, to which flow, part ids and pokes refer.
        notes: what a reader of results must know ("" or that this machine makes slightly different clips).
    """

    skipped: Sequence[str] = ()

    def __init__(self, split: Split, settings: Settings, progress: Progress | None = None, name: str = "") -> None:
        _check(split, settings)
        self.name, self.split, self.settings = name or split.name, split, settings
        self.context = settings.length - HORIZON
        everything = [
            ClipRef(split.clip_id(scene, clip), split.source(scene))
            for scene in range(split.scenes)
            for clip in range(split.clips_per_scene)
        ]
        self._clips = kept_clips(everything, settings)
        numbers = sorted({split.locate(clip.clip_id)[0] // split.scenes_per_shard for clip in self._clips})
        shards = ensure_shards(split, settings.size, numbers, progress=progress)
        self.notes = difference(split, settings.size, list(zip(numbers, shards, strict=True)))
        if self.notes:
            _log.warning(self.notes)
        kept = {clip.clip_id for clip in self._clips}
        self._where: dict[str, tuple[Shard, Entry]] = {
            entry.clip_id: (shard, entry) for shard in shards for entry in shard.entries if entry.clip_id in kept
        }
        identity = hashlib.sha256(f"{split.name}/{settings.size}/{settings.length}".encode())
        for shard in shards:
            identity.update(shard.content_sha256.encode())
        for clip in self._clips:
            identity.update(clip.clip_id.encode())
        self._content_hash = identity.hexdigest()

    @property
    def content_hash(self) -> str:
        """Hex sha256 over the content of the shards, the clips chosen and the settings."""
        return self._content_hash

    def clips(self) -> Sequence[ClipRef]:
        """All clips, scene by scene."""
        return self._clips

    def load(self, clip_id: str) -> Clip:
        """One clip, with exact flow, part ids, 32 tracks, what stays in sight, and the true poke where there was one.

        Raises:
            DataError: no such clip, or its file is damaged.
        """
        clip = self.simulated(clip_id)
        first = LENGTH - self.settings.length
        return Clip(
            frames=torch.from_numpy(clip.frames[first:]),
            clip_id=clip.clip_id,
            source=clip.source,
            frame_rate=FRAME_RATE,
            flow=torch.from_numpy(clip.flow),
            parts=torch.from_numpy(clip.parts),
            tracks=torch.from_numpy(clip.tracks[:, first:].copy()),
            poke=_poke(clip),
            visible=torch.from_numpy(clip.visible),
        )

    def simulated(self, clip_id: str) -> SimClip:
        """One clip of 12 frames with all that is known of it: kind of object, visibility, true poke.

        Raises:
            DataError: as `load`.
        """
        found = self._where.get(clip_id)
        if found is None:
            self.split.locate(clip_id)
            raise DataError(f"clip {clip_id!r} of {self.name} is not among the {len(self._clips)} clips chosen")
        shard, entry = found
        return shard.read(entry)

    def describe(self) -> str:
        """One line: what it is, how many clips of how many scenes, size, length, rate."""
        sources = len({clip.source for clip in self._clips})
        return (
            f"{self.split.summary}; {len(self._clips)} clips of {sources} scenes, {self.settings.size} px, "
            f"{self.settings.length} frames at {FRAME_RATE:g} fps" + (f"; {self.notes}" if self.notes else "")
        )


def _poke(clip: SimClip) -> Poke | None:
    """The true poke of a clip, as a batch of one."""
    if clip.poke is None:
        return None
    displacement = torch.tensor(clip.poke.displacement, dtype=torch.float32)[None]
    return Poke(torch.tensor([clip.poke.location], dtype=torch.float32), displacement)


def _check(split: Split, settings: Settings) -> None:
    check_size(settings.size)
    if settings.length not in (LENGTH - 1, LENGTH):
        raise DataError(
            f"{split.name} has clips of {CONTEXT} context frames and {HORIZON} to be predicted; its length is "
            f"{LENGTH}, or {LENGTH - 1} for one context frame, found {settings.length}"
        )
    if settings.stride not in (None, 1) or settings.frame_rate not in (None, FRAME_RATE):
        raise DataError(f"{split.name} has {FRAME_RATE:g} frames per second; leave out stride and frame_rate")
    if settings.clips_per_source not in (None, split.clips_per_scene):
        raise DataError(
            f"{split.name} has {split.clips_per_scene} clips of each scene; leave out clips_per_source, "
            "or use max_clips"
        )


def source(name: str) -> DataSource:
    """The entry of the data registry for `name`: a split of the table, with its "-train" counterpart if it has one."""
    test = SPLITS[name]
    train = SPLITS.get(f"{name}-train")
    told = f"{test.clips} clips of {test.scenes} scenes" + (
        f", and {train.clips} of {train.scenes} to train on" if train else ""
    )

    def open_split(settings: Settings, progress: Progress | None) -> SimDataSet:
        wanted = train if train and settings.split == "train" else test
        label = f"{name}/{settings.split or 'test'}" if train else name
        return SimDataSet(wanted, settings, progress, label)

    return DataSource(
        summary=test.summary,
        status=lambda: Status(True, f"made on first use: {told}"),
        open=open_split,
        licence="made by this program; no rights reserved",
        splits=("train", "test") if train else (),
    )


SIM_PLANTS = source("sim-plants")
SIM_PLANTS_UNSEEN = source("sim-plants-unseen")
SIM_HUMANS = source("sim-humans")
SIM_POKES = source("sim-pokes")
SIM_IMPULSE = source("sim-impulse")
SIM_COUNTERFACTUAL = source("sim-counterfactual")
