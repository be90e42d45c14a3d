"""What the harness knows of data: a source that can be opened, and the data set that opening it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from methods.interface import Clip
from metrics.errors import DataError

Progress = Callable[[int, int, str], None]
"""Called as `progress(done, total, what)` during long work; `total` is 0 while it is unknown."""


@dataclass(frozen=True)
class Settings:
    """How clips are to be prepared and drawn; a protocol fixes all of it.

    Attributes:
        size: side of the square frames, in px.
        length: frames in a clip: context + horizon.
        frame_rate: wanted frames per second; the nearest whole stride is taken. Not together with `stride`.
        stride: every how many frames of the source one is kept.
        max_clips: most clips of the data set, chosen by `seed` and clip id alone; None: all.
        clips_per_source: clips drawn evenly spaced from a source; None: all that do not overlap.
        seed: of the choice that `max_clips` makes.
        skip_unreadable: leave out files that cannot be used, and list them, instead of stopping.
        split: "train" or "test", of a data set that has these; None: its test split.
    """

    size: int = 64
    length: int = 12
    frame_rate: float | None = None
    stride: int | None = None
    max_clips: int | None = None
    clips_per_source: int | None = None
    seed: int = 0
    skip_unreadable: bool = False
    split: str | None = None

    def __post_init__(self) -> None:
        for name in ("size", "length", "stride", "max_clips", "clips_per_source"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DataError(f"{name}: expected at least 1, found {value}")
        if self.frame_rate is not None and not 0 < self.frame_rate < float("inf"):
            raise DataError(f"frame_rate: expected a positive number, found {self.frame_rate}")
        if self.frame_rate is not None and self.stride is not None:
            raise DataError("frame_rate and stride both say which frames are kept; give one of them")
        if self.split not in (None, "train", "test"):
            raise DataError(f"split: expected train or test, found {self.split!r}")


@dataclass(frozen=True)
class ClipRef:
    """A clip by name.

    Attributes:
        clip_id: as `Clip.clip_id`.
        source: as `Clip.source`; clips of one source are not independent.
    """

    clip_id: str
    source: str


@dataclass(frozen=True)
class Status:
    """Whether a data set can be opened now.

    Attributes:
        present: it can.
        detail: where it is, or how to obtain it.
    """

    present: bool
    detail: str


@runtime_checkable
class DataSet(Protocol):
    """Clips under names that never change."""

    name: str
    skipped: Sequence[str]
    """What was left out because it cannot be used, with the reason; for the record."""

    @property
    def content_hash(self) -> str:
        """Hex sha256 over the identity of every clip and the preparation settings."""

    def clips(self) -> Sequence[ClipRef]:
        """All clips, in a fixed order, ids unique."""

    def load(self, clip_id: str) -> Clip:
        """One clip.

        Raises:
            DataError: no such clip, or its file is damaged.
        """

    def describe(self) -> str:
        """One line: what it is, how many clips of how many sources, size, length, rate."""


class Prepare(Protocol):
    """Turns raw data as their owners hand them out into frames in the user cache; returns their folder."""

    def __call__(
        self,
        raw: Path,
        *,
        size: int,
        progress: Progress | None = None,
        workers: int | None = None,
        allow_partial: bool = False,
    ) -> Path:
        """See `bench.data.prepare.prepare`."""


@dataclass(frozen=True)
class DataSource:
    """What the registry holds under a name.

    Attributes:
        summary: one line on what the data are.
        status: whether it can be opened, and if not, how to obtain it. Cheap.
        open: prepares the data where that is needed, and opens them.
        fetch: downloads the data; None where there is nothing to download.
        licence, citation: of the data.
        prepare: prepares raw data; None where there is nothing to prepare.
        splits: the splits that `Settings.split` may name; none when the data set has no such splits.
    """

    summary: str
    status: Callable[[], Status]
    open: Callable[[Settings, Progress | None], DataSet]
    fetch: Callable[[Progress | None], Path] | None = None
    licence: str = ""
    citation: str = ""
    prepare: Prepare | None = None
    splits: tuple[str, ...] = ()
