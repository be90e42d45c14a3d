"""Reads the authors' checkpoints: a pure renaming, since names and layout of the network are theirs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from methods.hao.config import HaoConfig
from methods.hao.network import HaoNetwork
from methods.weights_file import fill, foreign_state
from metrics.errors import MethodError

STATE = "mmodel_state_dict"
PREFIX = "warp_cnn."
PARALLEL = "module."
FIRST_CONVOLUTION = "enc_net.c11.weight"


def read_official(path: Path, batch_norm: bool = True) -> tuple[HaoConfig, HaoNetwork]:
    """The network of a checkpoint of the authors' programs.

    Args:
        path: what their training wrote: a dictionary with "mmodel_state_dict", or that state alone.
        batch_norm: False for a checkpoint of the KITTI programs, which carry batch norms that they never use. The
            file does not say which it is.

    Raises:
        MethodError: it cannot be read, or holds other tensors than the network has; names what does not fit.
    """
    found = foreign_state(path)
    config, tensors = network_state(found, str(path), batch_norm)
    network = HaoNetwork(config.width, batch_norm)
    fill(network, tensors, str(path))
    return config, network


def network_state(found: Any, origin: str, batch_norm: bool = True) -> tuple[HaoConfig, dict[str, Tensor]]:
    """The configuration and the state of `HaoNetwork` in what `foreign_state` gave; see `read_official`."""
    state = found.get(STATE, found) if isinstance(found, Mapping) else found
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise MethodError(f"{origin}: expected a dictionary of tensors, or one with {STATE!r}; this is another file")
    tensors: dict[str, Tensor] = {}
    elsewhere = []
    for name, value in state.items():
        key = str(name).removeprefix(PARALLEL)
        if key.startswith(PREFIX):
            tensors[key.removeprefix(PREFIX)] = value
        else:
            elsewhere.append(str(name))
    if elsewhere:
        raise MethodError(
            f"{origin}: {len(elsewhere)} keys do not begin with {PREFIX!r} and have no place in the network: "
            f"{', '.join(sorted(elsewhere)[:8])}{', ...' if len(elsewhere) > 8 else ''}"
        )
    first = tensors.get(FIRST_CONVOLUTION)
    if first is None or first.ndim != 4:
        raise MethodError(f"{origin}: expected {PREFIX}{FIRST_CONVOLUTION} [64, 9, 3, 3]; this is another network")
    if not batch_norm:
        tensors = {key: value for key, value in tensors.items() if ".bn" not in key}
    for key in [key for key in tensors if key.endswith(".running_var")]:
        # Files from before PyTorch 0.4 do not count batches.
        tensors.setdefault(f"{key.removesuffix('running_var')}num_batches_tracked", torch.zeros((), dtype=torch.long))
    try:
        config = HaoConfig(name="official", size=None, width=len(first), batch_norm=batch_norm)
    except ValidationError as error:
        raise MethodError(f"{origin}: its shapes fit no configuration of the network: {error}") from error
    return config, tensors
