"""What is known of a published checkpoint: a NAME.json beside the weights file, typed, and checked against the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.text import faults
from methods.weights_file import WeightsFile, read_weights
from metrics.cache import atomic_path, sha256_of
from metrics.errors import MethodError, RecordError
from metrics.parsing import read_object

HEXADECIMAL = r"^[0-9a-f]{64}$"


class CheckpointCard(BaseModel):
    """A published checkpoint.

    Attributes:
        file: name of the weights file, in the folder of the card.
        sha256: of that file.
        method: name in the registry of methods; `bench evaluate` takes METHOD:checkpoint=FILE.
        recipe: named configuration that the training started from.
        config: the method's configuration, as in the file.
        dataset: what was learned from.
        data: content hash of the training clips.
        steps: iterations of the training.
        steps_before: iterations behind the weights that it began from; 0 when it began anew.
        batch_size: clips of one iteration, over all processes.
        seconds: wall time of the iterations.
        seed: of weights, order and noise.
        precision: of the arithmetic of the training: "fp32", "bf16" or "fp16" (mixed).
        stored: precision of the numbers in the file.
        parameters: numbers in the file.
        commit: of the program that trained.
        command: that trained.
        hardware: that it ran on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    file: str = Field(pattern=r"^[^/\\]+\.safetensors$")
    sha256: str = Field(pattern=HEXADECIMAL)
    method: str = Field(min_length=1)
    recipe: str
    config: dict[str, Any]
    dataset: str
    data: str = Field(pattern=HEXADECIMAL)
    steps: int = Field(ge=1)
    steps_before: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    seconds: float = Field(ge=0)
    seed: int = Field(ge=0)
    precision: Literal["fp32", "bf16", "fp16"]
    stored: str
    parameters: int = Field(ge=1)
    commit: str
    command: str = Field(min_length=1)
    hardware: dict[str, str]


def make_card(file: Path, command: str | None = None) -> CheckpointCard:
    """The card of a weights file that `bench train` wrote, or a half-precision copy of it.

    Args:
        command: the command line that trained, for files that do not say it.

    Raises:
        MethodError: not a weights file, or its training did not write down what a card needs.
    """
    found = read_weights(file)
    facts = {name: value for name, value in found.facts.items() if name in CheckpointCard.model_fields}
    try:
        return CheckpointCard(
            **{
                **({} if command is None else {"command": command}),
                **facts,
                **_own_facts(found),
                "file": file.name,
                "sha256": found.sha256,
                "method": found.method,
                "config": found.config,
            }
        )
    except ValidationError as error:
        what = faults(error, "card")
        raise MethodError(f"{file}: a checkpoint's card cannot be made of what is in it: {what}") from error


def write_card(card: CheckpointCard, folder: Path) -> Path:
    """Writes the card beside its file, as NAME.json; returns its path."""
    target = (folder / card.file).with_suffix(".json")
    with atomic_path(target) as temporary:
        temporary.write_text(card.model_dump_json(indent=1) + "\n")
    return target


def load_card(path: Path) -> CheckpointCard:
    """Reads a card; the file that it names is not looked at.

    Raises:
        RecordError: not a card.
    """
    try:
        return CheckpointCard(**read_object(path))
    except (OSError, ValueError) as error:  # a ValidationError is a ValueError
        what = faults(error, "card") if isinstance(error, ValidationError) else str(error)
        raise RecordError(f"{path} is not a checkpoint's card: {what}") from error


def cards(folder: Path) -> dict[Path, CheckpointCard]:
    """The readable cards of a folder, by path; none when there is no folder."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found[path] = load_card(path)
        except RecordError:
            continue  # `card_faults` says what is wrong with it
    return found


def card_faults(folder: Path) -> Iterator[tuple[str, str]]:
    """Everything in a folder of checkpoints that is not as its cards say: (file name, what is wrong)."""
    named = set()
    for path in sorted(folder.glob("*.json")):
        try:
            card = load_card(path)
        except RecordError as error:
            yield path.name, str(error)
            continue
        file = path.parent / card.file
        named.add(card.file)
        if file.stem != path.stem:
            yield path.name, f"it names {card.file}; a card bears the name of its file"
        if not file.is_file():
            yield path.name, f"it names {card.file}, which is not there; restore it"
            continue
        try:
            digest = sha256_of(file)
        except OSError as error:
            yield path.name, f"{card.file} cannot be read ({error.strerror or error}); make it readable, or restore it"
            continue
        if digest != card.sha256:
            yield path.name, f"{card.file}: the card states sha256 {card.sha256}, found {digest}; restore one of them"
            continue
        try:
            found = read_weights(file)
        except MethodError as error:
            yield path.name, str(error)
            continue
        stated = card.model_dump(mode="json")
        held = {**found.facts, **_own_facts(found), "method": found.method, "config": found.config}
        for name in CheckpointCard.model_fields.keys() & held.keys():
            if stated[name] != held[name]:
                yield path.name, f"{name}: the card states {stated[name]!r}, {card.file} holds {held[name]!r}"
    for file in sorted(folder.glob("*.safetensors")):
        if file.name not in named:
            yield file.name, f"no card names it; write {file.stem}.json, or remove it"


def _own_facts(found: WeightsFile) -> dict[str, Any]:
    """What the tensors themselves say."""
    kinds = sorted({str(value.dtype).removeprefix("torch.") for value in found.tensors.values()})
    return {"stored": ", ".join(kinds), "parameters": sum(value.numel() for value in found.tensors.values())}
