"""What a reader must know to trust and cite a metric's value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class MetricCard:
    """Describes one metric; tables and records copy it.

    Attributes:
        name: identifier in records and on the command line ("lpips_alex").
        title: column header ("LPIPS (Alex)").
        kind: "frame" gives one value a frame, "clip" one a clip, "set" one value for two sets of clips.
        version: rises with every change that moves values.
        convention: the definition in one line, with its source.
        higher_is_better: direction.
        bounds: smallest and largest possible value (None: unbounded).
        unit: "dB", "" for a pure number.
        weights: weight file name -> sha256, empty when there is no network.
        min_frames, min_clips, min_side: fewest frames, fewest clips, smallest side in px.
        reference: the outside program that it is tested against.
        tolerance: largest allowed difference from that program, with its kind ("1e-6 absolute").
    """

    name: str
    title: str
    kind: Literal["frame", "clip", "set"]
    version: int
    convention: str
    higher_is_better: bool
    bounds: tuple[float | None, float | None]
    reference: str
    tolerance: str
    unit: str = ""
    weights: Mapping[str, str] = field(default_factory=dict)
    min_frames: int = 1
    min_clips: int = 1
    min_side: int = 1
