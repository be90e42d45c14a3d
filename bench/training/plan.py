"""A plan says all that a training depends on: the method's configuration, the data, the loop. It is kept beside the
checkpoints, and a training goes on only under the plan that it began with."""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.data.augment import Augmentation
from bench.flow.registry import EXACT, FLOWS
from bench.pokes import PokeRule
from bench.text import faults
from bench.tracks import TrackRule
from methods.training import TRAININGS, Recipe, Training
from methods.weights_file import load_weights
from metrics.base import METRICS
from metrics.cache import hash_of
from metrics.errors import MethodError, TrainingError
from metrics.parsing import parse_toml, read_object

PREDICTOR = "predictor"
"""The network of a training that a prediction needs."""
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""Our names of precisions, and Fabric's."""


class DataPlan(BaseModel):
    """What is learned from.

    Attributes:
        dataset: registered name, or a folder; its training split where it has one.
        size: side of the frames, px.
        context: frames up to x0.
        horizon: frames after x0.
        frame_rate: frames per second; None: the data set's own.
        clips: most clips used; None: all.
        clips_per_source: clips drawn from each source; None: as many as fit without overlap.
        flow: flow from which pokes are drawn: an estimator, or "exact" where the data carry it.
        poke: how pokes are drawn, for methods that take them.
        tracks: how sparse trajectories are chosen, for methods that take them.
        augmentation: None: none.
        validation_clips: clips held out of the training split for validation, whole sources at a time, or the ends of
            videos whose later part is tested; see `bench.training.feed.open_training_data`. 0: none.
        seed: of the choice of clips.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dataset: str = "sim-plants"
    size: int = Field(64, ge=16, le=1024)
    context: int = Field(1, ge=1)
    horizon: int = Field(10, ge=1)
    frame_rate: float | None = Field(None, gt=0)
    clips: int | None = Field(None, ge=1)
    clips_per_source: int | None = Field(None, ge=1)
    flow: str = EXACT
    poke: PokeRule = PokeRule()
    tracks: TrackRule = TrackRule(source="exact")
    augmentation: Augmentation | None = None
    validation_clips: int = Field(32, ge=0)
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _flow_exists(self) -> Self:
        if self.flow != EXACT and self.flow not in FLOWS:
            FLOWS.get(self.flow)  # raises with near matches
        if self.poke.count > 1:
            raise ValueError("poke: training takes one poke a clip; leave out count")
        return self


class LoopPlan(BaseModel):
    """How long and how it is learned.

    Attributes:
        steps: iterations.
        batch_size: clips of one iteration, over all processes together.
        accumulate: parts in which a process computes its share of the batch, to save memory.
        precision: of the arithmetic: "fp32", "bf16" or "fp16" (mixed).
        ema: decay of the moving average of the predictor's weights, which is then what is saved and validated.
        graphs: on a GPU, steps are recorded as CUDA graphs and replayed, for trainings that are made for it: much
            faster where many small kernels follow each other. One process, one part a batch, not fp16.
        validate_every: iterations from one validation to the next, the last one at the end; 0: there is none.
        checkpoint_every: iterations from one checkpoint to the next, the last one at the end; 0: only that one.
        log_every: iterations from one line of the log to the next; at least 1.
        validation_metrics: metrics of the validation.
        best: the validation metric whose best checkpoint is kept besides the newest ones.
        keep: newest checkpoints kept.
        seed: of weights, order and noise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: int = Field(10_000, ge=1)
    batch_size: int = Field(10, ge=1)
    accumulate: int = Field(1, ge=1)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    ema: float | None = Field(None, gt=0, lt=1)
    graphs: bool = False
    validate_every: int = Field(1000, ge=0)
    checkpoint_every: int = Field(500, ge=0)
    log_every: int = Field(10, ge=1)
    validation_metrics: tuple[str, ...] = ("lpips_alex", "fvd", "psnr")
    best: str = "lpips_alex"
    keep: int = Field(2, ge=1)
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in self.validation_metrics:
            if name not in METRICS:
                METRICS.get(name)  # raises with near matches
        if self.validate_every and self.best not in self.validation_metrics:
            raise ValueError(f"best: expected one of {', '.join(self.validation_metrics)}, found {self.best!r}")
        return self


FREE = ("graphs", "validate_every", "checkpoint_every", "log_every", "keep")
"""Fields of the loop that may change when a training goes on: they do not move what a step computes."""


class Start(BaseModel):
    """Weights of the predictor that a training begins from.

    Attributes:
        path: of the weights file.
        sha256: of its content, all that counts.
        steps: that its weights were trained for before, as the file says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    sha256: str
    steps: int = Field(0, ge=0)


class Plan(BaseModel):
    """Everything that a training depends on.

    Attributes:
        method: name in the registry of trainings.
        recipe: named configuration that it started from.
        model: the method's configuration, as plain values.
        data, loop: see there.
        start: what the predictor begins from; None: fresh weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    recipe: str
    model: dict[str, Any]
    data: DataPlan
    loop: LoopPlan
    start: Start | None = None

    @model_validator(mode="after")
    def _validation_has_clips(self) -> Self:
        clips = self.data.validation_clips
        if not (clips and self.loop.validate_every):
            return self
        for name in self.loop.validation_metrics:
            least = METRICS.get(name).card.min_clips
            if clips < least:
                raise ValueError(
                    f"data.validation_clips: {name} needs at least {least}, found {clips}; take more, or leave {name} "
                    "out of loop.validation_metrics"
                )
        return self

    def config(self) -> Any:
        """The method's configuration, typed."""
        return TRAININGS.get(self.method).Config(**self.model)

    def build(self) -> Training:
        """The training, with fresh weights.

        Raises:
            MethodError: the configuration does not fit the clips, or no network is the predictor.
        """
        training: Any = TRAININGS.get(self.method)
        built: Training = training(self.config(), seed=self.loop.seed)
        if PREDICTOR not in built.networks:
            raise MethodError(
                f"{self.method}: expected a network called {PREDICTOR!r}, which is what a prediction needs, found "
                f"{', '.join(built.networks) or 'none'}; name it so in `networks`"
            )
        built.check(self.data.size, self.data.context, self.data.horizon)
        return built

    def begin(self, training: Training) -> None:
        """Puts the weights that the plan starts from into the predictor of `training`.

        Raises:
            MethodError: there is no such file any more, or it does not fit the configuration.
            TrainingError: it is not the file that the plan was made with.
        """
        if self.start is None:
            return
        found = load_weights(self.start.path, self.method)
        if found.sha256 != self.start.sha256:
            raise TrainingError(
                f"{self.start.path} has changed: expected sha256 {self.start.sha256}, found {found.sha256}. "
                "Give the file that the training was begun with, or another --out."
            )
        found.fill(training.networks[PREDICTOR])

    @property
    def command(self) -> str:
        """The command that makes this plan: the recipe, and what differs from it."""
        recipe = make_plan(self.method, self.recipe).model_dump(mode="json")
        own = self.model_dump(mode="json")
        words = ["bench train", self.method, "--recipe", self.recipe]
        for section in ("model", "data", "loop"):
            for name, value in _differences(recipe[section], own[section]):
                words += ["--set", shlex.quote(f"{section}.{name}={_text(value)}")]
        if self.start is not None:
            words += ["--start", shlex.quote(Path(self.start.path).name)]
        return " ".join(words)

    @property
    def identity(self) -> str:
        """Hash of all that moves what a step computes."""
        content = self.model_dump(mode="json")
        content["loop"] = {key: value for key, value in content["loop"].items() if key not in FREE}
        begun = content.pop("start")
        if begun is not None:
            content["start"] = begun["sha256"]
        return hash_of(content)[:12]


def make_plan(
    method: str,
    recipe: str | None = None,
    pairs: Sequence[str] = (),
    data: str | None = None,
    start: Path | str | None = None,
    given: Mapping[str, Any] | None = None,
) -> Plan:
    """The plan of a recipe with what the user replaces.

    Args:
        method: name of a trainable method.
        recipe: one of its recipes; None: the first whose name begins with "small", else the first.
        pairs: "SECTION.FIELD=VALUE" with section model, data or loop; values are read as TOML, bare words as text.
        data: data set or folder in place of the recipe's.
        start: weights file that the predictor begins from.
        given: fields of the plan's data in place of the recipe's; `data` and `pairs` replace them in turn.

    Raises:
        RegistryError: no such method.
        MethodError: `start` is not a weights file of the method.
        TrainingError: no such recipe or field, or a value out of range.
    """
    training = TRAININGS.get(method)
    names = list(training.recipes)
    name = recipe or next((name for name in names if name.startswith("small")), names[0])
    if name not in training.recipes:
        near = difflib.get_close_matches(name, training.recipes, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise TrainingError(f"{method} has no recipe {name!r}; {hint}there are: {', '.join(training.recipes)}")
    chosen: Recipe = training.recipes[name]
    sections: dict[str, dict[str, Any]] = {
        "model": chosen.model.model_dump(mode="json"),
        "data": {**chosen.data, **(given or {})},
        "loop": dict(chosen.loop),
    }
    if data is not None:
        sections["data"]["dataset"] = data
    known: dict[str, type[BaseModel]] = {"model": training.Config, "data": DataPlan, "loop": LoopPlan}
    for pair in pairs:
        _replace(sections, pair, known)
    try:
        model = training.Config(**sections["model"]).model_dump(mode="json")
        return Plan(
            method=method,
            recipe=name,
            model=model,
            data=DataPlan(**sections["data"]),
            loop=LoopPlan(**sections["loop"]),
            start=None if start is None else _start(start, method),
        )
    except ValidationError as error:
        raise TrainingError(f"the plan for {method} is not valid: {faults(error, 'plan')}") from error


def _start(path: Path | str, method: str) -> Start:
    found = load_weights(path, method)
    counts = [found.facts.get(key, 0) for key in ("steps", "steps_before")]
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        raise MethodError(f"{path}: expected whole numbers of steps, found {counts}; take a file of `bench train`")
    return Start(path=str(path), sha256=found.sha256, steps=sum(counts))


def _replace(sections: dict[str, dict[str, Any]], pair: str, known: Mapping[str, type[BaseModel]]) -> None:
    key, sign, text = pair.partition("=")
    section, _, field = key.partition(".")
    name, *inner = field.split(".")
    if not sign or section not in known or not name:
        raise TrainingError(f"--set {pair!r}: expected SECTION.FIELD=VALUE with section {', '.join(known)}")
    if name not in known[section].model_fields:
        near = difflib.get_close_matches(name, known[section].model_fields, n=1)
        hint = f"did you mean {section}.{near[0]}? " if near else ""
        fields = ", ".join(known[section].model_fields)
        raise TrainingError(f"--set {pair!r}: {section} has no field {name!r}; {hint}there are: {fields}")
    place = sections[section]
    for deeper in inner:
        held = {} if place.get(name) is None else place[name]
        if not isinstance(held, (BaseModel, Mapping)):
            raise TrainingError(f"--set {pair!r}: {name} is one value ({held!r}), which has no field {deeper!r}")
        place[name] = held.model_dump(mode="json") if isinstance(held, BaseModel) else dict(held)
        place, name = place[name], deeper
    place[name] = _value(text)


def read_plan(path: Path) -> Plan:
    """The plan of a training that lies in a folder already.

    Raises:
        TrainingError: it is damaged, or no plan.
    """
    try:
        return Plan(**read_object(path))
    except (OSError, ValueError) as error:  # a ValidationError is a ValueError
        what = faults(error, "plan") if isinstance(error, ValidationError) else str(error)
        raise TrainingError(f"{path} is no plan of a training ({what}); restore it, or give another --out") from error


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in after.items():
        held = before.get(name)
        if isinstance(value, dict) and isinstance(held, dict):
            yield from ((f"{name}.{inner}", found) for inner, found in _differences(held, value))
        elif value != held:
            yield name, value


def _text(value: Any) -> str:
    """A value as `--set` reads it."""
    if value is None:
        return "none"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_text(inner)}" for name, inner in value.items() if inner is not None) + "}"
    return value if isinstance(value, str) and _value(value) == value else json.dumps(value)


def _value(text: str) -> Any:
    if text == "none":
        return None
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text
