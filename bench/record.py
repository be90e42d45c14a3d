"""One method on one protocol: rows per clip and frame, set-metric values, and all that is needed to get them again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from bench.protocol import Protocol
from methods.interface import MethodCard
from metrics.parsing import CHECKSUM, sealed

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 2
"""Rises when a record of before can no longer be read as it is; `bench/record_versions.py` then gets an upgrade."""

Arrays = dict[str, np.ndarray]
"""Array name -> array. "frame/METRIC" is float64 [N, S, T]; "clip/METRIC" is float64 [N, S], NaN where it is not
defined; "features/EXTRACTOR/pred" and ".../target" are
float32 [N, D], of sample 0; "poke/location" and "poke/displacement" are float32 [N, 2], px, where there were
pokes. The first axis follows `clip_ids`."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MethodFacts(_Frozen):
    """The method's card as it was when the record was made."""

    name: str
    title: str
    revision: str
    inputs: tuple[str, ...]
    stochastic: bool
    paper: str
    licence: str
    parameters: int
    weights: dict[str, str]
    notes: str

    @classmethod
    def of(cls, card: MethodCard) -> MethodFacts:
        """Those of a method."""
        shared = {name: getattr(card, name) for name in cls.model_fields if name not in ("inputs", "weights")}
        return cls(**shared, inputs=tuple(sorted(card.inputs)), weights=dict(card.weights))


class DataFacts(_Frozen):
    """The data: a hash over content and preparation, and what was left out."""

    name: str
    content_hash: str
    description: str
    skipped: tuple[str, ...] = ()


class MetricFacts(_Frozen):
    """The metric's card as it was when the record was made."""

    title: str
    kind: Literal["frame", "clip", "set"]
    version: int
    convention: str
    higher_is_better: bool
    unit: str
    weights: dict[str, str]


class SetResult(_Frozen):
    """A set metric's value, or the reason why there is none.

    Attributes:
        value, standard_error, bias_corrected, n_pred, n_target, groups, mode: as in `metrics.base.SetScore`.
        refused: why the metric was not computed; then all values are None.
    """

    value: float | None = None
    standard_error: float | None = None
    bias_corrected: float | None = None
    n_pred: int = 0
    n_target: int = 0
    groups: int = 0
    mode: str = "exact"
    refused: str = ""


class Provenance(_Frozen):
    """Who computed it, when, with what.

    Attributes:
        commits: every commit that computed a part; more than one when a run was resumed after a change.
        hardware: every machine that computed a part.
        predict_seconds, score_seconds: wall time summed over batches and processes.
    """

    commits: tuple[str, ...]
    command: str
    finished: str
    seed: int
    batch_sizes: tuple[int, ...]
    processes: tuple[int, ...]
    packages: dict[str, str]
    hardware: tuple[dict[str, str], ...]
    predict_seconds: float = Field(ge=0, allow_inf_nan=False)
    score_seconds: float = Field(ge=0, allow_inf_nan=False)


class ArrayFile(_Frozen):
    """The safetensors file beside the record that holds its arrays."""

    file: str = Field(pattern=r"^[^/\\]+\.safetensors$")
    sha256: str


class Record(_Frozen):
    """A finished evaluation, as stored in record.json, where a checksum over all of it is added.

    Attributes:
        clip_ids, sources: one entry a clip, sorted by clip id; sources say which clips belong together.
        samples: predictions S per clip in the rows: the protocol's K, or 1 for a deterministic method.
    """

    schema_version: Literal[2] = 2
    method: MethodFacts
    protocol: Protocol
    protocol_hash: str
    data: DataFacts
    clip_ids: tuple[str, ...] = Field(min_length=1)
    sources: tuple[str, ...]
    samples: int
    metrics: dict[str, MetricFacts]
    set_results: dict[str, SetResult]
    provenance: Provenance
    arrays: ArrayFile

    @model_validator(mode="before")
    @classmethod
    def _without_checksum(cls, content: Any) -> Any:
        """`bench/record_versions.py` compares the checksum, before anything is upgraded."""
        if isinstance(content, Mapping) and CHECKSUM in content:
            return {key: value for key, value in content.items() if key != CHECKSUM}
        return content

    @model_serializer(mode="wrap")
    def _with_checksum(self, whole: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        content: dict[str, Any] = whole(self)
        return sealed(_as_json(content)) if info.mode == "json" else content


def _as_json(value: Any) -> Any:
    """`value` as JSON has it: no NaN, no infinity."""
    if isinstance(value, dict):
        return {key: _as_json(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class LoadedRecord:
    """A record with its arrays.

    Attributes:
        facts: the record.
        arrays: its arrays, see `Arrays`.
    """

    def __init__(self, facts: Record, arrays: Arrays) -> None:
        self.facts = facts
        self.arrays = arrays

    def frame_values(self, metric: str) -> np.ndarray:
        """Values of a frame metric, float64 [N, S, T]: clips, samples, frames x1..xT."""
        return self.arrays[f"frame/{metric}"]

    def clip_values(self, metric: str) -> np.ndarray:
        """Values of a clip metric, float64 [N, S], NaN where it is not defined."""
        return self.arrays[f"clip/{metric}"]

    def rows(self) -> pd.DataFrame:
        """One row per clip, sample and frame: clip, source, sample, frame (1..T), one column a frame metric."""
        import pandas as pd

        names = [name for name, facts in self.facts.metrics.items() if facts.kind == "frame"]
        clips, samples, frames = len(self.facts.clip_ids), self.facts.samples, self.facts.protocol.horizon
        columns: dict[str, Any] = {
            "clip": np.repeat(self.facts.clip_ids, samples * frames),
            "source": np.repeat(self.facts.sources, samples * frames),
            "sample": np.tile(np.repeat(np.arange(samples), frames), clips),
            "frame": np.tile(np.arange(1, frames + 1), clips * samples),
        }
        columns |= {name: self.frame_values(name).reshape(-1) for name in names}
        return pd.DataFrame(columns)
