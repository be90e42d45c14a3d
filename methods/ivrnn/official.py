"""Reads the checkpoints of the authors' program (facebookresearch/improved_vrnn): a bare state dict a file.

The configuration is read off the names and shapes. Every tensor finds its place, or the file is refused with the full
list of those that did not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from methods.ivrnn.config import TOP, IVRNNConfig, Variant
from methods.ivrnn.layers import Block, ConvLSTM, InitialState, PlainConvLSTM, Residual
from methods.ivrnn.network import ImprovedVRNN, LatentBranch, RenderBlock
from methods.weights_file import foreign_state
from metrics.errors import MethodError

PREFIX = "module."
"""What training on several GPUs puts before each name."""
UNUSED = "det_init_net."
"""Tensors of the dense-prior variant that the authors' program defines and never uses (6,300,672 numbers)."""

_WITHIN: dict[type[nn.Module], dict[str, str]] = {
    Residual: {
        "conv1": "conv_0.0",
        "norm1": "conv_0.1",
        "conv2": "conv_1.0",
        "norm2": "conv_1.1",
        "shortcut": "conv_s",
    },
    Block: {"conv": "main.0", "norm": "main.1"},
    ConvLSTM: {
        "input_conv": "model.ih_gates.0",
        "input_norm": "model.ih_gates.1",
        "hidden_conv": "model.hh_gates.0",
        "hidden_norm": "model.hh_gates.1",
        "cell_norm": "model.c_norm",
    },
    PlainConvLSTM: {"gates": "model.gates"},
    InitialState: {"join": "0", "project": "1.model", "norm": "2.model"},
    LatentBranch: {
        "project": "0.model",
        "project_norm": "1.model",
        "lstm": "2",
        "head": "3.model",
        "head_norm": "4.model",
    },
    RenderBlock: {},
}
"""Names of a module's parts -> names in the authors' state dict."""


def read_official(path: Path | str) -> tuple[IVRNNConfig, dict[str, Tensor]]:
    """The configuration and the tensors of an authors' checkpoint, under our names.

    Raises:
        MethodError: not a state dict of one of the three 64 px models for RGB frames.
    """
    state = _plain_names(foreign_state(path), str(path))
    config = config_of(state, str(path))
    return config, convert(state, config, str(path))


def variant_of(state: Mapping[str, Any]) -> Variant | None:
    """Which of the three models a state dict (without prefix) is of; None: none of them."""
    if "render_net.12.model.weight" in state:
        return "dense-prior"
    if "render_nets.5.2.model.weight" in state:
        return "hierarchical" if any(name.startswith("prior_nets.1.") for name in state) else "flat"
    return None


def config_of(state: Mapping[str, Tensor], origin: str) -> IVRNNConfig:
    """The configuration of a state dict (without prefix), from its names and shapes.

    Raises:
        MethodError: it is of none of the three models, or not for RGB frames.
    """
    variant = variant_of(state)
    if variant is None:
        raise MethodError(
            f"{origin}: expected the state dict of an IVRNN of 64 px (vrnn_hier, vrnn or s2s_big_hier_v4 of the "
            f"authors' program), found {len(state)} tensors ({', '.join(sorted(state)[:3])}, ...)"
        )
    dense = variant == "dense-prior"
    stem = _shape(state, "emb_net.0.weight" if dense else "emb_net.0.0.weight", origin)
    if stem[1] != 3:
        raise MethodError(f"{origin}: expected a model of RGB frames, found one of {stem[1]} channel(s)")
    last = (1, 4, 7, 10, 13, 16) if dense else ("0.1", "1.2", "2.2", "3.2", "4.2", "5.2")
    widths = [_shape(state, f"emb_net.{name}.conv_1.0.weight", origin)[0] for name in last]
    joined = _shape(state, f"{'det_init_nets.layer_16' if dense else 'init_nets.0'}.0.main.0.weight", origin)[1]
    head = f"{'prior_branches.layer_16' if dense else 'prior_nets.0'}.3.model.weight"
    names: dict[Variant, str] = {
        "hierarchical": "official",
        "flat": "official-flat",
        "dense-prior": "official-dense-prior",
    }
    try:
        return IVRNNConfig(
            recipe=names[variant],
            variant=variant,
            context=joined // widths[TOP],
            widths=(widths[0], widths[1], widths[2], widths[3], widths[4], widths[5]),
            top_latent=_shape(state, head, origin)[0] // 2,
        )
    except ValidationError as error:
        raise MethodError(f"{origin}: its shapes fit no configuration of an IVRNN: {error}") from error


def convert(state: Mapping[str, Tensor], config: IVRNNConfig, origin: str) -> dict[str, Tensor]:
    """The tensors of a state dict (without prefix) under our names, for `ImprovedVRNN(config)`.

    Raises:
        MethodError: it is of another variant, lacks tensors, or has tensors that have no place; all are named.
    """
    found = variant_of(state)
    if found is not None and found != config.variant:
        raise MethodError(f"{origin}: expected the variant {config.variant!r}, found the variant {found!r}")
    names = official_names(config)
    missing = sorted(set(names.values()) - state.keys())
    unplaced = sorted(key for key in state.keys() - set(names.values()) if not _unused(key, config))
    if missing or unplaced:
        faults = [
            f"{len(keys)} tensors {what}: {', '.join(keys)}"
            for what, keys in (("without a place", unplaced), ("missing", missing))
            if keys
        ]
        raise MethodError(f"{origin} is not a {config.variant!r} IVRNN of 64 px. {'; '.join(faults)}")
    return {own: state[official] for own, official in names.items()}


def official_names(config: IVRNNConfig) -> dict[str, str]:
    """Our name of each tensor -> its name in the authors' state dict."""
    with torch.device("meta"):
        network = ImprovedVRNN(config)
    return {own: _official_name(network, own) for own in network.state_dict()}


def _official_name(network: ImprovedVRNN, own: str) -> str:
    parts = own.split(".")
    dense = network.config.dense_prior
    if parts[0] == "encoder":
        start, rest = _encoder_name(parts[1:], dense)
    elif parts[0] == "output":
        start, rest = f"{'render_net.12' if dense else 'render_nets.5.2'}.model", parts[1:]
    elif parts[0] == "renderer":
        start, rest = _renderer_name(parts[1:], dense)
    else:
        start, rest = _branch_name(parts, dense)
    module = network.get_submodule(".".join(parts[: len(parts) - len(rest)]))
    names = [start]
    for part in rest[:-1]:
        names.append(_WITHIN[type(module)][part])
        module = module.get_submodule(part)
    return ".".join([*names, rest[-1]])


def _encoder_name(parts: list[str], dense: bool) -> tuple[str, list[str]]:
    if parts[0] == "stem":
        return "emb_net.0" if dense else "emb_net.0.0", parts[1:]
    level, block = int(parts[1]), int(parts[2])
    # The poolings between levels count as modules too; the dense-prior variant is one flat list.
    place = f"{3 * level + block + (level == 0)}" if dense else f"{level}.{block + 1}"
    return f"emb_net.{place}", parts[3:]


def _renderer_name(parts: list[str], dense: bool) -> tuple[str, list[str]]:
    index, part = int(parts[0]), parts[1]
    if part == "initial":
        return f"det_init_nets.layer_{_tap(TOP - index)}" if dense else f"init_nets.{index}", parts[2:]
    offset = 0 if part == "lstm" else 1
    return f"render_net.{2 * index + offset}" if dense else f"render_nets.{index}.{offset}", parts[2:]


def _branch_name(parts: list[str], dense: bool) -> tuple[str, list[str]]:
    kind, index = parts[0], int(parts[1])
    place = f"layer_{_tap((5, 3, 1)[index])}" if dense else f"{index}"
    if parts[2] == "initial":
        return f"{kind}_init_nets.{place}", parts[3:]
    return f"{kind}_{'branches' if dense else 'nets'}.{place}", parts[2:]


def _tap(level: int) -> int:
    """Index of the last module of an encoder level in the flat list of the dense-prior variant."""
    return 3 * level + 1


def _plain_names(content: Any, origin: str) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise MethodError(f"{origin}: expected a bare state dict (name -> tensor), found {type(content).__name__}")
    state = {str(key): value for key, value in content.items()}
    while state and all(key.startswith(PREFIX) for key in state):
        state = {key.removeprefix(PREFIX): value for key, value in state.items()}
    return state


def _unused(key: str, config: IVRNNConfig) -> bool:
    return config.dense_prior and key.startswith(UNUSED)


def _shape(state: Mapping[str, Tensor], key: str, origin: str) -> torch.Size:
    if key not in state:
        raise MethodError(f"{origin}: expected a tensor {key!r} of an IVRNN, found none of that name")
    shape = state[key].shape
    if len(shape) != 4 or not all(shape):
        raise MethodError(f"{origin}: expected a convolution {key!r} with four axes, found {list(shape)}")
    return shape
