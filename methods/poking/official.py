"""Reads and writes the authors' checkpoints.

A generator file is `{"model", "optimizer_dis", "optimizer_dyn"}`, a discriminator file `{"model", "optimizer"}`. The
names of our parameters are theirs, so that a state needs no translation; the configuration has to be found out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from methods.poking.config import NetworkConfig, PokingConfig
from methods.poking.discriminators import PatchDiscriminator, TemporalDiscriminator
from methods.poking.network import PokingNetwork
from methods.weights_file import fill, foreign_state
from metrics.cache import atomic_path
from metrics.errors import MethodError

MIN_SIDES = (16, 8)
"""Sides of the lowest level that the authors used; 16 in what they released."""


def read_generator(path: Path, size: int | None = None) -> tuple[PokingConfig, dict[str, Tensor]]:
    """The configuration and the state of a generator checkpoint.

    Args:
        size: side of its frames in px; a state does not tell. None: as released, 64 for three levels, 128 for four.

    Raises:
        MethodError: it is not such a checkpoint; names every key that has no place; or `size` does not fit it.
    """
    state = _model(path)
    config = infer_config(state, str(path), size)
    with torch.device("meta"):
        network = PokingNetwork(config)
    _match(state, network.state_dict(), str(path))
    return config, state


def infer_config(state: Mapping[str, Tensor], origin: str, size: int | None = None) -> PokingConfig:
    """What the shapes of a generator's state say of its configuration.

    Raises:
        MethodError: they are not those of a generator, or of another size.
    """
    first = state.get("fusion_block.cells.0.reset_gate.weight")
    if first is None or first.ndim != 4:
        raise MethodError(
            f"{origin}: expected the authors' generator, with fusion_block.cells.0.reset_gate.weight, found "
            f"{len(state)} tensors without it; give the file reg_ckpt... or ckpt_metric..., not that of a discriminator"
        )
    stages = _count(state, "dec.blocks.")
    cells = _count(state, "fusion_block.cells.")
    side = size or MIN_SIDES[0] << stages
    min_side = side >> stages
    if min_side not in MIN_SIDES or min_side << stages != side:
        fitting = " or ".join(str(low << stages) for low in MIN_SIDES)
        raise MethodError(
            f"{origin} has {stages} stages, which is for {fitting} px, and {side} px were asked for; "
            "give the size that it was trained with"
        )
    values: dict[str, Any] = {"size": side, "width": int(first.shape[0]), "min_side": min_side, "recipe": "official"}
    if not any(".up_gate." in key for key in state):
        values |= {"predictor": "rnn", "rnn_cells": cells, "recipe": f"rnn-{cells}"}
    try:
        return PokingConfig(**values)
    except ValidationError as error:
        raise MethodError(f"{origin}: its shapes fit no configuration of the poking model: {error}") from error


def load_discriminator(path: Path, kind: Literal["patch", "temporal"], horizon: int = 10) -> nn.Module:
    """A discriminator with the weights of a checkpoint.

    Raises:
        MethodError: it does not fit.
    """
    network = PatchDiscriminator() if kind == "patch" else TemporalDiscriminator(horizon)
    fill(network, _model(path), str(path))
    return network


def write_checkpoint(path: Path, network: nn.Module, optimizers: Mapping[str, Any] | None = None) -> None:
    """Writes a network as the authors' program reads it; a generator's `hold` goes into its biases.

    Args:
        network: the generator, official poke encoder and all levels, or a discriminator.
        optimizers: the other entries of the file, such as "optimizer_dis"; what cannot be given is left out.

    Raises:
        MethodError: the authors' program has no such generator.
    """
    config = getattr(network, "config", None)
    if isinstance(config, NetworkConfig) and (
        (config.poke_encoder, config.decoder) != ("official", "draw") or config.levels is not None
    ):
        raise MethodError(
            "expected a generator with the official poke encoder and decoder and all levels, found "
            f"poke_encoder={config.poke_encoder!r}, decoder={config.decoder!r}, levels={config.levels}; the authors' "
            "program has no such network"
        )
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    if isinstance(config, NetworkConfig) and config.hold:
        for key in (key for key in state if key.endswith(".update_gate.bias")):
            state[key] = state[key] - config.hold
    with atomic_path(path) as temporary:
        torch.save({"model": state, **(optimizers or {})}, temporary)


def _model(path: Path) -> dict[str, Tensor]:
    content = foreign_state(path)
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise MethodError(f'{path}: expected the entries of an authors\' checkpoint, with "model", found {found}')
    return dict(state)


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})


def _match(state: Mapping[str, Tensor], own: Mapping[str, Tensor], origin: str) -> None:
    """Raises MethodError with every key that is missing, has no place, or has another shape."""
    faults = [f"{key}: missing" for key in sorted(own.keys() - state.keys())]
    faults += [f"{key}: has no place" for key in sorted(state.keys() - own.keys())]
    faults += [
        f"{key}: expected {list(own[key].shape)}, found {list(state[key].shape)}"
        for key in sorted(own.keys() & state.keys())
        if own[key].shape != state[key].shape
    ]
    if faults:
        listing = "".join(f"\n  - {fault}" for fault in faults)
        raise MethodError(f"{origin} does not fit the poking model that its shapes suggest:{listing}")
