"""Weights on disk: safetensors files that say which method and which configuration they belong to.

A file carries a checksum over its tensors and all that it says of them, which is compared on every reading. Files of
before have none; those that are published are compared with the sha256 that the card beside them states.

Other people's checkpoints are read by `foreign_state`, which never executes what is in them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from methods.interface import MethodCard
from metrics.cache import atomic_path, sha256_of
from metrics.errors import MethodError
from metrics.parsing import CHECKSUM, parse_json, read_json
from metrics.weights import UNPICKLING_FAULTS

KEY = "pokebench"

SEED_MARK = ", seed "
"""Before the number of the seed, in the titles of methods that were trained with another one than 0."""


@dataclass(frozen=True)
class WeightsFile:
    """A file of trained weights.

    Attributes:
        path: where it is.
        method: name of the method.
        config: the configuration as plain values.
        facts: anything else that was written with it, such as data, steps and seed.
        tensors: the state, on the CPU, in the precision of the file.
        sha256: of the file.
    """

    path: Path
    method: str
    config: dict[str, Any]
    facts: dict[str, Any]
    tensors: dict[str, Tensor]
    sha256: str

    def configured(self, model: type[BaseModel]) -> Any:
        """The configuration as `model`.

        Raises:
            MethodError: it is not one.
        """
        try:
            return model(**self.config)
        except ValidationError as error:
            raise MethodError(f"{self.path}: its configuration is not one of {self.method}: {error}") from error

    def titled(self, card: MethodCard) -> MethodCard:
        """`card` with the seed of the training in its title, unless that is 0: "SRVP, seed 1"."""
        seed = self.facts.get("seed", 0)
        return replace(card, title=f"{card.title}{SEED_MARK}{seed}") if seed else card

    def fill(self, module: nn.Module) -> None:
        """Copies the tensors into `module`, which must have exactly these.

        Raises:
            MethodError: other names or shapes.
        """
        fill(module, self.tensors, str(self.path))


def save_weights(
    path: Path,
    tensors: Mapping[str, Tensor],
    method: str,
    config: BaseModel,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Writes tensors with their method and configuration, atomically, in the precision that they have."""
    content = {"method": method, "config": config.model_dump(mode="json"), "facts": dict(facts or {})}
    _write(path, content, {key: _stored(value) for key, value in tensors.items()})


def load_weights(path: Path | str, method: str) -> WeightsFile:
    """Reads a file that `save_weights` wrote for `method`.

    Raises:
        MethodError: no such file, not a safetensors file, damaged, or of another method.
    """
    path = Path(path)
    content, tensors = _read(path)
    found = content["method"]
    if found != method:
        raise MethodError(f"{path}: expected weights of {method!r}, found {found!r}; give the file to that method")
    return WeightsFile(path, method, content["config"], content["facts"], tensors, sha256_of(path))


def read_weights(path: Path | str) -> WeightsFile:
    """Reads a file that `save_weights` wrote, for whichever method.

    Raises:
        MethodError: no such file, not a safetensors file, damaged, or written by another program.
    """
    path = Path(path)
    content, tensors = _read(path)
    return WeightsFile(path, content["method"], content["config"], content["facts"], tensors, sha256_of(path))


def halved(source: Path, target: Path) -> int:
    """Writes the tensors of `source` in half precision, with the same method, configuration and facts.

    Returns:
        How many numbers it holds.

    Raises:
        MethodError: `source` is not a weights file, or holds a number beyond the range of half precision.
    """
    content, tensors = _read(source)
    for key, value in tensors.items():
        if value.is_floating_point() and not bool(value.half().isfinite().all()):
            raise MethodError(f"{source}: {key} holds numbers beyond the range of half precision; publish it as it is")
    kept = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    _write(target, content, kept)
    return sum(value.numel() for value in kept.values())


def check_one_file(method: str, checkpoint: Path | None, official: Path | None) -> None:
    """Checks that a method was given its weights in one way.

    Raises:
        MethodError: neither file is given, or both are.
    """
    if (checkpoint is None) == (official is None):
        raise MethodError(
            f"{method} needs one file of trained weights: {method}:checkpoint=FILE (written by `bench train`) or "
            f"{method}:official=FILE (of the authors' program); found {'neither' if checkpoint is None else 'both'}"
        )


def foreign_state(path: Path | str) -> Any:
    """The tensors of a checkpoint that another program wrote with `torch.save`; nothing in it is executed.

    Raises:
        MethodError: no such file, or it holds more than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise MethodError(f"there is no checkpoint {path}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UNPICKLING_FAULTS as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise MethodError(
            f"{path} cannot be read as tensors and plain values; it is damaged, or holds code, which is never "
            f"executed here ({reason})"
        ) from error


def fill(module: nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Copies `tensors` into `module`, which must have exactly these names and shapes.

    Raises:
        MethodError: names what does not fit.
    """
    own = module.state_dict()
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    shapes = [
        f"{key}: expected {list(own[key].shape)}, found {list(tensors[key].shape)}"
        for key in sorted(own.keys() & tensors.keys())
        if own[key].shape != tensors[key].shape
    ]
    faults = [
        f"{len(items)} {what} ({', '.join(items[:4])}{', ...' if len(items) > 4 else ''})"
        for what, items in (("missing", missing), ("unknown", unknown), ("of another shape", shapes))
        if items
    ]
    if faults:
        raise MethodError(
            f"{origin} does not fit {type(module).__name__}: {'; '.join(faults)}. It was probably saved for another "
            "size or variant; choose the configuration that it was trained with."
        )
    module.load_state_dict(dict(tensors))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What is written in the head of a safetensors file under KEY (method, config, facts), and its tensors."""
    if not path.is_file():
        raise MethodError(f"there is no weights file {path}; give the .safetensors file that `bench train` wrote")
    try:
        with safe_open(path, "pt") as stream:
            content = parse_json((stream.metadata() or {}).get(KEY, "{}"))
            tensors = {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise MethodError(f"{path} is not a readable safetensors file: {error}. Take one of `bench train`.") from error
    if not isinstance(content, dict) or not {"method", "config", "facts"} <= content.keys():
        raise MethodError(f"{path} does not say which method it belongs to; take a file that `bench train` wrote")
    stated = content.pop(CHECKSUM, None)
    if stated is None:
        _check_card(path)
    if not isinstance(content["config"], dict) or not isinstance(content["facts"], dict):
        raise MethodError(f"{path}: expected its configuration and facts as objects; take a file of `bench train`")
    if stated is not None and stated != _checksum(content, tensors):
        raise MethodError(
            f"{path} is damaged: its content is not what its checksum says. Copy it again, or go back to another "
            "checkpoint of the training."
        )
    return content, tensors


def _write(path: Path, content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    # One entry alone: safetensors writes several in random order, and equal weights would give different files.
    plain = json.loads(json.dumps(content))  # as it will be read
    head = json.dumps({**plain, CHECKSUM: _checksum(plain, tensors)})
    with atomic_path(path) as temporary:
        save_file(dict(tensors), temporary, metadata={KEY: head})


def _checksum(content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Hex sha256 of what a file says and of names, types, shapes and bytes of its tensors."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for key in sorted(tensors):
        value = tensors[key].detach().cpu().contiguous()
        digest.update(f"{key} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_card(path: Path) -> None:
    """Raises unless the file has the sha256 that the card beside it states, if there is one."""
    card = path.with_suffix(".json")
    if not card.is_file():
        return
    try:
        content = read_json(card)
    except (OSError, ValueError) as error:
        raise MethodError(f"{card}, the card of {path.name}, cannot be read ({error}); restore it") from error
    stated = content.get("sha256") if isinstance(content, dict) else None
    if isinstance(stated, str) and (found := sha256_of(path)) != stated:
        raise MethodError(f"{path}: its card states sha256 {stated}, found {found}; restore the file, or its card")


def _stored(value: Tensor) -> Tensor:
    return value.detach().cpu().contiguous().clone()
