"""What is shown, what is scored, on which clips: the protocol and its hash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bench.flow.registry import DEFAULT, EXACT, FLOWS
from bench.pokes import PokeRule
from bench.tracks import TrackRule
from metrics.base import METRICS
from metrics.cache import hash_of

PROTOCOL_VERSION = 1
"""Rises when the meaning of a field changes; it is part of every hash."""

LATER_FIELDS = ("tracks", "tracker", "anchored")
"""Fields that were added to this version: unset, they leave the hash as it was before."""

Quantise = Literal["none", "round", "truncate"]


class Protocol(BaseModel):
    """Everything that two results must share before they may stand in one table.

    Attributes:
        dataset: registered name of a data set, or "folder:NAME" for a folder of the user's.
        size: side of the square frames, px.
        context: number of context frames that a method is shown; the last is x0.
        horizon: number of frames predicted and scored, x1..xT. Context frames are never scored.
        frame_rate: frames per second that clips are sub-sampled to; None keeps the data set's own rate.
        clips: largest number of clips, spread evenly over the sources; None takes all.
        clips_per_source: clips drawn from each source; None takes as many as fit without overlap.
        samples: predictions K drawn for each clip from stochastic methods.
        quantise: how predictions become frames before scoring: "none" scores them as predicted, "round" and
            "truncate" go through 8 bits, as a video file would.
        metrics: names of the metrics, in the order of the table.
        mode: "exact", or "fast" (half-precision I3D on a GPU).
        min_clips: fewest clips for which set metrics are given.
        poke: how the poke of each clip is chosen; None: methods get none.
        tracks: how sparse trajectories are chosen; None: methods get none.
        flow: estimator of the flow from which pokes are chosen, or "exact" where the data carry it.
        tracker: estimator of the motion in predictions, for the metrics of control; None: there are none.
        anchored: measure that motion from the true last frame too, for data that carry exact flow; see
            `bench/motion.py`.
        seed: of the clip draw, the pokes, and every sample.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dataset: str = Field(min_length=1)
    size: int = Field(64, ge=16, le=1024)
    context: int = Field(2, ge=1)
    horizon: int = Field(10, ge=1)
    frame_rate: float | None = Field(None, gt=0)
    clips: int | None = Field(None, ge=1)
    clips_per_source: int | None = Field(None, ge=1)
    samples: int = Field(1, ge=1)
    quantise: Quantise = "none"
    metrics: tuple[str, ...] = ("fvd", "kvd", "lpips_alex", "psnr", "ssim")
    mode: Literal["exact", "fast"] = "exact"
    min_clips: int = Field(16, ge=2)
    poke: PokeRule | None = None
    tracks: TrackRule | None = None
    flow: str = DEFAULT
    tracker: str | None = None
    anchored: bool = False
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        if not self.metrics or len(set(self.metrics)) != len(self.metrics):
            raise ValueError(f"metrics: expected at least one name, none twice, found {list(self.metrics)}")
        for name in self.metrics:
            if name not in METRICS:
                METRICS.get(name)  # raises with near matches
        if self.flow != EXACT and self.flow not in FLOWS:
            FLOWS.get(self.flow)  # raises with near matches
        control = [name for name in self.metrics if METRICS.get(name).card.kind == "clip"]
        if control and (self.poke is None or self.tracker is None):
            raise ValueError(
                f"{control[0]} measures how pokes are followed: give poke, and a tracker such as {DEFAULT!r}"
            )
        if self.poke is not None and self.poke.count > 1:
            raise ValueError(f"poke: methods are given one poke a clip, found count = {self.poke.count}; leave it out")
        if self.tracker is not None and self.tracker not in FLOWS:
            FLOWS.get(self.tracker)  # raises with near matches
        if self.anchored and self.tracker is None:
            raise ValueError(f"anchored: says how a tracker measures; give one, such as {DEFAULT!r}")
        return self

    @property
    def length(self) -> int:
        """Frames of a clip: context and horizon."""
        return self.context + self.horizon

    def versions(self) -> dict[str, int]:
        """Version of each metric; a change of one changes the hash."""
        return {name: METRICS.get(name).card.version for name in self.metrics}

    @property
    def hash(self) -> str:
        """Twelve hex digits that change with every field and with every metric version."""
        return self.hash_under(self.versions())

    def hash_under(self, versions: Mapping[str, int]) -> str:
        """The hash as it is, or was, with these versions of the metrics."""
        content: dict[str, Any] = {
            "protocol_version": PROTOCOL_VERSION,
            "metric_versions": dict(versions),
            **self.model_dump(mode="json"),
        }
        for field in LATER_FIELDS:
            if not content[field]:
                del content[field]
        return hash_of(content)[:12]
