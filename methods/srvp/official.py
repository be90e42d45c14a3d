"""Reads the checkpoints of the authors' program (github.com/edouardelasalles/srvp): bare state dicts.

A checkpoint does not say how many Euler steps it was trained with; the authors' `config.json` beside it does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from methods.srvp.config import SRVPConfig
from methods.srvp.variant import check_variant, variant_of
from methods.weights_file import foreign_state
from metrics.cache import sha256_of
from metrics.errors import MethodError
from metrics.parsing import read_json

OPTIONS = {
    "archi": "architecture",
    "skipco": "skips",
    "nc": "channels",
    "nf": "filters",
    "nhx": "code",
    "ny": "state",
    "nz": "noise",
    "nh_inf": "inference_width",
    "nlayers_inf": "inference_layers",
    "nh_res": "residual_width",
    "nlayers_res": "residual_layers",
    "nt_inf": "conditioning",
    "n_euler_steps": "euler_steps",
    "res_gain": "residual_gain",
    "obs_scale": "observation_std",
    "beta_y": "beta_y",
    "beta_z": "beta_z",
    "l2_res": "residual_weight",
    "lr": "learning_rate",
}
"""The authors' training options that are fields of SRVPConfig."""

_LATENT = {
    "w_proj.0": "content_frame",
    "w_inf.0": "content_sum",
    "inf_z": "inference",
    "q_z": "posterior",
}
_MLP = {"q_y": "first_state", "p_z": "prior", "dynamics": "dynamics"}
_PART = {"0": "conv", "1": "norm"}


@dataclass(frozen=True)
class OfficialCheckpoint:
    """A checkpoint of the authors', under our names.

    Attributes:
        path: the file.
        config: what its tensors and its options say.
        tensors: the state of an `SRVPNetwork`.
        sha256: of the file.
    """

    path: Path
    config: SRVPConfig
    tensors: dict[str, Tensor]
    sha256: str


def our_name(key: str, vgg: bool) -> str | None:
    """Our name of the authors' `key`; None if it is none of theirs.

    Args:
        vgg: whether the checkpoint has the VGG architecture, whose blocks are nested one level deeper, and whose
            encoder stages after the first begin with a pooling layer.
    """
    for theirs, ours in _LATENT.items():
        if key.startswith(theirs + "."):
            return ours + key.removeprefix(theirs)
    latent = re.fullmatch(r"(q_y|p_z|dynamics)\.module\.(\d+)\.(\d)\.(weight|bias)", key)
    if latent:
        network, layer, place, kind = latent.groups()
        return f"{_MLP[network]}.layers.{layer}.{kind}" if (place == "0") == (layer == "0") else None
    if vgg and key == "decoder.conv.3.1.weight":
        return "decoder.stages.3.1.conv.weight"
    if not vgg and key == "decoder.conv.3.weight":
        return "decoder.stages.3.0.conv.weight"
    block = r"(\d)\.(\d)" if vgg else r"(\d)()"
    image = re.fullmatch(rf"(encoder|decoder)\.conv\.{block}\.([01])\.(\w+)", key)
    if image:
        side, stage, place, part, kind = image.groups()
        offset = 1 if vgg and side == "encoder" and stage != "0" else 0
        return f"{side}.stages.{stage}.{int(place or 0) - offset}.{_PART[part]}.{kind}"
    ends = {True: {"encoder.last_conv.1": "encoder.code", "decoder.first_upconv.0": "decoder.first"}}
    ends[False] = {"encoder.last_conv": "encoder.code", "decoder.first_upconv": "decoder.first"}
    for theirs, ours in ends[vgg].items():
        end = re.fullmatch(re.escape(theirs) + r"\.([01])\.(\w+)", key)
        if end:
            return f"{ours}.{_PART[end[1]]}.{end[2]}"
    return None


def renamed(state: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """The authors' state under our names; no tensor changes its layout.

    Raises:
        MethodError: lists every key that has no place.
    """
    if state and all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    vgg = "encoder.conv.0.0.0.weight" in state
    names = {key: our_name(key, vgg) for key in state}
    unplaced = sorted(key for key, name in names.items() if name is None)
    if unplaced or not state:
        raise MethodError(
            f"{origin}: expected a state dict of the authors' SRVP ({'VGG' if vgg else 'DCGAN'} by its first layer), "
            f"found {len(unplaced)} of {len(state)} keys that have no place: {', '.join(unplaced)}. Give the authors' "
            "model.pt, model_best.pt or model_<iteration>.pt."
        )
    return {str(names[key]): value for key, value in state.items()}


def load_official(path: Path | str, euler_steps: int | None = None) -> OfficialCheckpoint:
    """Reads a checkpoint and the `config.json` beside it, if there is one.

    Args:
        euler_steps: Euler steps a frame that it was trained with; needed where there is no `config.json`.

    Raises:
        MethodError: no such file, another program's checkpoint, tensors and options that disagree (both are named),
            or the number of Euler steps is not known.
    """
    path = Path(path)
    state = foreign_state(path)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise MethodError(f"{path}: expected a bare state dict (name -> tensor), found {_outline(state)}")
    tensors = renamed(state, str(path))
    fields: dict[str, Any] = {**variant_of(tensors, str(path)), "name": "official"}
    beside = path.parent / "config.json"
    if beside.is_file():
        options = _options(beside)
        told = {OPTIONS[key]: value for key, value in options.items() if key in OPTIONS}
        dataset = options.get("dataset")
        if isinstance(dataset, str) and re.fullmatch(r"[A-Za-z0-9_-]+", dataset):
            fields["name"] = f"official-{dataset}"
        fields = {**fields, **told}
    if euler_steps is not None:
        if fields.get("euler_steps", euler_steps) != euler_steps:
            raise MethodError(
                f"{beside} says {fields['euler_steps']} Euler steps a frame, the option euler_steps says "
                f"{euler_steps}; leave the option out, or correct the file"
            )
        if "euler_steps" not in fields:  # the name tells apart predictions that the weights do not
            fields |= {"euler_steps": euler_steps, "name": f"{fields['name']}-euler{euler_steps}"}
    if "euler_steps" not in fields:
        raise MethodError(
            f"{path} does not say with how many Euler steps a frame it was trained, and there is no config.json of the "
            "authors' beside it. Put it there, or give euler_steps=2 (the authors' BAIR, KTH and Human3.6M models) or "
            "euler_steps=1 (their Moving MNIST models)."
        )
    try:
        config = SRVPConfig(**fields)
    except ValidationError as error:
        raise MethodError(f"{path} with {beside}: not a configuration of srvp: {error}") from error
    check_variant(config, tensors, str(path), str(beside))
    return OfficialCheckpoint(path, config, tensors, sha256_of(path))


def _options(path: Path) -> dict[str, Any]:
    try:
        options = read_json(path)
    except (OSError, ValueError) as error:
        raise MethodError(f"{path}: expected the authors' options as JSON ({error})") from error
    if not isinstance(options, dict):
        raise MethodError(f"{path}: expected the authors' options as a JSON object, found a {type(options).__name__}")
    return options


def _outline(state: Any) -> str:
    if isinstance(state, Mapping):
        return f"a dict with the keys {', '.join(map(str, list(state)[:6]))}"
    return f"a {type(state).__name__}"
