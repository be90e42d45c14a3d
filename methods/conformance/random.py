"""The global random generators of torch, numpy and Python: set for a while, watched, and put back."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def global_random(seed: int) -> Iterator[list[str]]:
    """Seeds the global generators, puts them back afterwards, and lists those that were moved meanwhile."""
    moved: list[str] = []
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    kept_numpy, kept_random = np.random.get_state(), random.getstate()  # noqa: NPY002 - the global state is meant
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        before = _states(devices)
        try:
            yield moved
        finally:
            after = _states(devices)
            moved += [name for name, state in before.items() if state != after[name]]
            np.random.set_state(kept_numpy)  # noqa: NPY002
            random.setstate(kept_random)


def _states(devices: Sequence[int]) -> dict[str, bytes]:
    _, keys, *rest = np.random.get_state()  # noqa: NPY002
    found = {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": np.asarray(keys).tobytes() + repr(rest).encode(),
        "random": repr(random.getstate()).encode(),
    }
    return found | {f"cuda:{index}": torch.cuda.get_rng_state(index).numpy().tobytes() for index in devices}
