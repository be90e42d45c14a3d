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

    def text(self) -> str:
        """The card as lines of a label and what it says, for people."""
        low, high = self.bounds
        values = f"{'(-inf' if low is None else f'[{low:g}'}, {'inf)' if high is None else f'{high:g}]'}"
        lines = {
            "title": f"{self.title}{f', {self.unit}' if self.unit else ''}; version {self.version}",
            "convention": self.convention,
            "better": f"{'higher' if self.higher_is_better else 'lower'}; values in {values}",
            "one value": {"frame": "a frame", "clip": "a clip", "set": "a set of clips"}[self.kind],
            "at least": f"frames: {self.min_frames}, clips: {self.min_clips}, side: {self.min_side} px",
            "tested against": f"{self.reference}, to {self.tolerance}",
            **{f"weights {name}": sha256 for name, sha256 in self.weights.items()},
        }
        width = max(map(len, lines))
        return "\n".join(f"{label:<{width}}  {words}" for label, words in lines.items())
