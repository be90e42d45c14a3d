"""Clips from a formula, of any shape, that carry everything a protocol may ask for; nothing is read or downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.data.interface import ClipRef
from methods.conformance.clips import generated_clips
from methods.interface import Clip


class GeneratedClips:
    """A data set of `count` clips of context + horizon frames with sides of `size` px; every third one is the same."""

    name = content_hash = "generated"
    skipped: Sequence[str] = ()

    def __init__(self, count: int, size: int, context: int, horizon: int) -> None:
        self.context = context
        shown = generated_clips(size, context, horizon)
        names = [f"generated-{number:04d}" for number in range(count)]
        self._clips = {
            name: replace(shown[number % len(shown)], clip_id=name, source=name) for number, name in enumerate(names)
        }

    def clips(self) -> Sequence[ClipRef]:
        """See `DataSet.clips`."""
        return [ClipRef(name, name) for name in self._clips]

    def load(self, clip_id: str) -> Clip:
        """See `DataSet.load`."""
        return self._clips[clip_id]

    def describe(self) -> str:
        """See `DataSet.describe`."""
        return f"{len(self._clips)} generated clips"
