"""The authors' checkpoints: which TensorFlow variable becomes which tensor, and in which layout.

Variable names are those of the release (model `savp`); older revisions call the cell `dna_cell`. Optimiser slots and
the step counter are left out; any other variable without a place is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from methods.savp.bundle import Bundle
from methods.savp.config import RECIPES, SavpConfig
from metrics.errors import MethodError

Layout = Callable[[NDArray[Any]], NDArray[Any]]

GENERATOR = "generator/"
CELL = "generator/rnn/savp_cell/"
OLD_CELL = "generator/rnn/dna_cell/"
DISCRIMINATORS = {"prior": "discriminator/video/", "posterior": "discriminator/encoder/video/"}
CONVOLUTIONS = ("sn_conv0_0", "sn_conv0_1", "sn_conv1_0", "sn_conv1_1", "sn_conv2_0", "sn_conv2_1", "sn_conv3_0")
SIDE = 8
"""Height and width where features are flattened, at 64 px."""


@dataclass(frozen=True)
class Place:
    """Where a variable belongs: the name of a tensor, and how its axes are brought into PyTorch's order."""

    key: str
    layout: Layout


@dataclass(frozen=True)
class OfficialWeights:
    """A checkpoint, converted.

    Attributes:
        config: sizes as found in it; everything else as in the recipe of its variant.
        generator: state of `Generator`, float32.
        discriminators: state of the discriminators, by name; only those that are in the checkpoint.
        skipped: names that were left out: optimiser slots and counters.
        files: the files that it was read from.
    """

    config: SavpConfig
    generator: dict[str, Tensor]
    discriminators: dict[str, dict[str, Tensor]]
    skipped: tuple[str, ...]
    files: tuple[Path, ...]


def read_official(path: Path | str) -> OfficialWeights:
    """Reads a checkpoint of the authors' program; TensorFlow is not needed.

    Args:
        path: its prefix ("FOLDER/model-300000"), its `.index` file, or a folder with exactly one checkpoint.

    Raises:
        MethodError: it cannot be read, is of a model without our layers (grey frames, other sizes), lacks variables,
            or has some that cannot be placed.
    """
    bundle = Bundle(path)
    skipped = tuple(sorted(name for name in bundle.entries if is_bookkeeping(name)))
    names = {name.replace(OLD_CELL, CELL): name for name in bundle.entries if name not in skipped}
    shapes = {name: bundle.entries[stored].shape for name, stored in names.items()}
    origin = str(bundle.prefix)
    config = _found_config(shapes, origin)
    generator = generator_places(config)
    judges = {which: discriminator_places(which, config.discriminator_width) for which in DISCRIMINATORS}
    present = {which: table for which, table in judges.items() if names.keys() & table.keys()}
    wanted = {**generator, **{name: place for table in present.values() for name, place in table.items()}}
    missing, unknown = sorted(wanted.keys() - names.keys()), sorted(names.keys() - wanted.keys())
    if missing or unknown:
        raise MethodError(
            f"{origin} is not a checkpoint of SAVP at 64 px, variant {config.variant}: {_listed(missing)} missing, "
            f"{_listed(unknown)} without a place"
        )

    def state(places: Mapping[str, Place]) -> dict[str, Tensor]:
        return converted({name: bundle.read(names[name]) for name in places}, places)

    files = [bundle.prefix.with_name(f"{bundle.prefix.name}.index")]
    files += sorted(bundle.prefix.parent.glob(f"{bundle.prefix.name}.data-*"))
    return OfficialWeights(
        config, state(generator), {which: state(table) for which, table in present.items()}, skipped, tuple(files)
    )


def is_bookkeeping(name: str) -> bool:
    """Whether a variable belongs to the optimisers or is the step counter."""
    last = name.rsplit("/", 1)[-1]
    return last in ("Adam", "Adam_1", "global_step") or "beta1_power" in last or "beta2_power" in last


def converted(variables: Mapping[str, NDArray[Any]], places: Mapping[str, Place]) -> dict[str, Tensor]:
    """Variables in TensorFlow's layout as tensors in ours; all of `places` must be there."""
    return {
        place.key: torch.from_numpy(np.ascontiguousarray(place.layout(variables[name])))
        for name, place in places.items()
    }


def generator_places(config: SavpConfig) -> dict[str, Place]:
    """Places of the generator's variables, by name."""
    places: dict[str, Place] = {}

    def add(name: str, key: str, layout: Layout) -> None:
        places[name] = Place(key, layout)

    def norm(name: str, key: str) -> None:
        add(f"{name}/gamma", f"{key}.weight", _as_is)
        add(f"{name}/beta", f"{key}.bias", _as_is)

    kinds = {
        "conv_pool2d": ("h0", "h1", "h2"),
        "upsample_conv2d": ("h3", "h4", "h5"),
        "conv2d": ("h6_scratch", "h6_masks"),
    }
    for kind, blocks in kinds.items():
        for block in blocks:
            add(f"{CELL}{block}/{kind}/kernel", f"cell.{block}.conv.weight", _convolution)
            add(f"{CELL}{block}/{kind}/bias", f"cell.{block}.conv.bias", _as_is)
            norm(f"{CELL}{block}/InstanceNorm", f"cell.{block}.norm")
    for layer in ("lstm_h0", "lstm_h1", "lstm_h2", "lstm_h3", "lstm_h4"):
        scope = f"{CELL}{layer}/basic_conv2dlstm_cell"
        add(f"{scope}/kernel", f"cell.{layer}.weight", _convolution)
        norm(f"{scope}/input_transform_forget_output", f"cell.{layer}.gates")
        norm(f"{scope}/state", f"cell.{layer}.state")
    for layer in ("scratch_image", "masks"):
        add(f"{CELL}{layer}/conv2d/kernel", f"cell.{layer}.weight", _convolution)
        add(f"{CELL}{layer}/conv2d/bias", f"cell.{layer}.bias", _as_is)
    # The release flattens (H, W, C), we (C, H, W).
    add(f"{CELL}cdna_kernels/dense/kernel", "cell.cdna_kernels.weight", _dense_after((SIDE, SIDE)))
    add(f"{CELL}cdna_kernels/dense/bias", "cell.cdna_kernels.bias", _as_is)
    if config.latent:
        add(f"{CELL}lstm_z/basic_lstm_cell/kernel", "lstm_z.weight", np.transpose)
        add(f"{CELL}lstm_z/basic_lstm_cell/bias", "lstm_z.bias", _as_is)
        for number in (1, 2, 3):
            add(f"generator/encoder/layer_{number}/conv2d/kernel", f"encoder.layer_{number}.weight", _convolution)
            add(f"generator/encoder/layer_{number}/conv2d/bias", f"encoder.layer_{number}.bias", _as_is)
            if number > 1:
                norm(f"generator/encoder/layer_{number}/InstanceNorm", f"encoder.norm_{number}")
        for head in ("z_mu", "z_log_sigma_sq"):
            add(f"generator/encoder/{head}/dense/kernel", f"encoder.{head}.weight", np.transpose)
            add(f"generator/encoder/{head}/dense/bias", f"encoder.{head}.bias", _as_is)
    return places


def discriminator_places(which: str, width: int) -> dict[str, Place]:
    """Places of the variables of one discriminator, by name.

    Args:
        which: "prior" or "posterior".
        width: its first channels.
    """
    scope = DISCRIMINATORS[which]
    places: dict[str, Place] = {}
    for number, layer in enumerate(CONVOLUTIONS):
        key = f"convolutions.{number}"
        places[f"{scope}{layer}/conv3d/kernel"] = Place(f"{key}.weight", _convolution)
        places[f"{scope}{layer}/conv3d/u"] = Place(f"{key}.u", _as_is)
        places[f"{scope}{layer}/bias"] = Place(f"{key}.bias", _as_is)
    flattened = _dense_after((-1, SIDE, SIDE), channels=8 * width)
    places[f"{scope}sn_fc4/dense/kernel"] = Place("dense.weight", flattened)
    places[f"{scope}sn_fc4/dense/u"] = Place("dense.u", _as_is)
    places[f"{scope}sn_fc4/dense/bias"] = Place("dense.bias", _as_is)
    return places


def _as_is(array: NDArray[Any]) -> NDArray[Any]:
    return array


def _convolution(array: NDArray[Any]) -> NDArray[Any]:
    """[..., in, out] to [out, in, ...]."""
    return np.moveaxis(array, (-1, -2), (0, 1))


def _dense_after(places: tuple[int, ...], channels: int = -1) -> Layout:
    """[places x channels, out] to [out, channels x places]."""

    def layout(array: NDArray[Any]) -> NDArray[Any]:
        apart = array.reshape(*places, channels, array.shape[1])
        return np.moveaxis(apart, (-1, -2), (0, 1)).reshape(array.shape[1], -1)

    return layout


def _found_config(shapes: Mapping[str, tuple[int, ...]], origin: str) -> SavpConfig:
    """The configuration that variables of these shapes belong to."""
    entry = f"{CELL}h0/conv_pool2d/kernel"
    scratch = f"{CELL}scratch_image/conv2d/kernel"
    dense = f"{CELL}cdna_kernels/dense/kernel"
    for name, length in ((entry, 4), (scratch, 4), (dense, 2)):
        if len(shapes.get(name, ())) != length:
            raise MethodError(
                f"{origin} is not a checkpoint of SAVP: {name} is missing or has another number of dimensions; its "
                f"variables begin with {_listed(sorted(shapes))}"
            )
    colours, width = shapes[scratch][-1], shapes[entry][-1]
    if colours != 3:
        raise MethodError(f"{origin}: expected a model of RGB frames (3 channels), found {colours} channel(s)")
    side = round((shapes[dense][0] / (4 * width)) ** 0.5)
    if side != SIDE:
        raise MethodError(f"{origin}: expected a model of 64 x 64 px, found {SIDE * side} x {SIDE * side} px")
    sizes: dict[str, Any] = {"recipe": "official", "generator_width": width}
    encoder = shapes.get("generator/encoder/layer_1/conv2d/kernel")
    latent = shapes.get("generator/encoder/z_mu/dense/kernel")
    judged = {which for which, scope in DISCRIMINATORS.items() if any(name.startswith(scope) for name in shapes)}
    if encoder is None or latent is None:
        base = RECIPES["paper-deterministic"].model
    else:
        base = RECIPES["paper-gan-only" if judged == {"prior"} else "paper"].model
        sizes |= {"encoder_width": encoder[-1], "latent": latent[-1]}
    for scope in (DISCRIMINATORS[which] for which in sorted(judged)):
        shape = shapes.get(f"{scope}sn_conv0_0/conv3d/kernel")
        if shape is not None:
            sizes["discriminator_width"] = shape[-1]
    return SavpConfig(**{**base.model_dump(), **sizes})


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    return f"{len(found)} ({', '.join(found[:4])}{', ...' if len(found) > 4 else ''})" if found else "none"
