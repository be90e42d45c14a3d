"""Names of data sets, and `open_dataset`, which takes one of them or any folder of videos.

To add a data set, write its module and add one `DATASETS.register` line here. A package of your own joins by
declaring an entry point, in the group "pokebench.datasets", that is a `DataSource`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.data.folder import open_folder
from bench.data.interface import DataSet, DataSource, Progress, Settings
from bench.data.manifest import SPLITS
from bench.data.prepared_folder import is_prepared, open_prepared_folder, prepare_folder
from metrics.cache import user_path
from metrics.errors import DataError, RegistryError
from metrics.registry import Registry


def _fault(found: Any) -> str:
    return "" if isinstance(found, DataSource) else "it is not a bench.data.interface.DataSource"


DATASETS: Registry[DataSource] = Registry("data set", "pokebench.datasets", _fault)
"""Data sources by name."""

DATASETS.register("sim-plants", "bench.data.sim.dataset:SIM_PLANTS", "simulated plants in motion (made on first use)")
DATASETS.register(
    "sim-plants-unseen", "bench.data.sim.dataset:SIM_PLANTS_UNSEEN", "two simulated species held out of sim-plants"
)
DATASETS.register("sim-humans", "bench.data.sim.dataset:SIM_HUMANS", "simulated people in motion (made on first use)")
DATASETS.register("sim-pokes", "bench.data.sim.dataset:SIM_POKES", "simulated true pokes: a pull at a known point")
DATASETS.register("sim-impulse", "bench.data.sim.dataset:SIM_IMPULSE", "simulated true pokes: a short blow")
DATASETS.register(
    "sim-counterfactual", "bench.data.sim.dataset:SIM_COUNTERFACTUAL", "10 simulated scenes, each poked 100 times"
)
DATASETS.register(
    "humans-real-mini",
    "bench.data.humans_real_mini:SOURCE",
    "eight real videos of people in motion, one take (fetched, 51 MB)",
)
DATASETS.register("poking-plants", "bench.data.poking_plants:SOURCE", "27 videos of pot plants (bring the raw videos)")
DATASETS.register("iper", "bench.data.iper:SOURCE", "206 videos of 30 people (bring the raw videos)")
DATASETS.register("taichi", "bench.data.taichi:SOURCE", "Tai-Chi-HD, 280 videos from the web (bring the raw videos)")
DATASETS.register("human36m", "bench.data.human36m:SOURCE", "Human3.6M, 7 actors (bring the raw videos)")


def open_dataset(
    name_or_folder: str | Path,
    *,
    size: int = 64,
    length: int = 12,
    frame_rate: float | None = None,
    stride: int | None = None,
    max_clips: int | None = None,
    clips_per_source: int | None = None,
    seed: int = 0,
    skip_unreadable: bool = False,
    split: str | None = None,
    progress: Progress | None = None,
) -> DataSet:
    """Opens a registered data set, or a folder of videos and frame folders.

    A registered name goes before a folder of that name; write "./name" to mean the folder.

    Args:
        name_or_folder: a name of DATASETS, or a path.
        size, length, frame_rate, stride, max_clips, clips_per_source, seed, skip_unreadable: see `Settings`.
        split: "train" or "test", of a data set that has these, or of a folder that was prepared for training; None:
            the test split, or all clips of a data set or folder without splits.
        progress: called during preparation.

    Raises:
        RegistryError: neither a name nor a folder.
        DataError: the data are missing (the message says how to obtain them), unreadable, or too short, or a
            setting does not suit them.
    """
    settings = Settings(size, length, frame_rate, stride, max_clips, clips_per_source, seed, skip_unreadable, split)
    text, folder = str(name_or_folder), user_path(name_or_folder)
    if text not in DATASETS and folder.is_dir():
        if split is not None or is_prepared(folder):
            return open_prepared_folder(folder, settings)
        return open_folder(folder, settings, progress=progress)
    try:
        source = DATASETS.get(text)
    except RegistryError as error:
        hint = "" if text in DATASETS else f"; nor is there a folder {text!r}"
        raise RegistryError(f"{error}{hint}") from error
    if split is not None and split not in source.splits:
        raise DataError(f"{text} has no split {split!r}; leave it out (it has: {', '.join(source.splits) or 'none'})")
    return source.open(settings, progress)


def splits_of(name_or_folder: str | Path) -> Sequence[str]:
    """The splits of a data set, or of a folder that was prepared; empty where there are none."""
    if str(name_or_folder) in DATASETS:
        return DATASETS.get(str(name_or_folder)).splits
    folder = user_path(name_or_folder)
    return SPLITS if folder.is_dir() and is_prepared(folder) else ()


def fetch_dataset(name: str, progress: Progress | None = None) -> Path:
    """Downloads a data set into the user cache, checked by hash; returns its folder.

    Raises:
        RegistryError: no such data set.
        DataError: it cannot be downloaded (the message says how to obtain it), or what came is not what was expected.
    """
    source = DATASETS.get(name)
    if source.fetch is None:
        raise DataError(f"{name} cannot be downloaded. {source.status().detail}")
    return source.fetch(progress)


def prepare_dataset(
    name: str,
    raw: Path,
    *,
    size: int,
    progress: Progress | None = None,
    workers: int | None = None,
    allow_partial: bool = False,
) -> Path:
    """Prepares raw data that the user brings; returns their folder in the user cache.

    Args:
        name: a name of DATASETS, or "folder" for any folder of videos.
        raw, size, progress, workers, allow_partial: see `bench.data.prepare.prepare`.

    Raises:
        RegistryError: no such data set.
        DataError: there is nothing to prepare, or the raw data cannot be used.
    """
    if name == "folder":
        return prepare_folder(raw, size=size, progress=progress, workers=workers)
    source = DATASETS.get(name)
    if source.prepare is None:
        raise DataError(f"{name} needs no preparation. {source.status().detail}")
    return source.prepare(raw, size=size, progress=progress, workers=workers, allow_partial=allow_partial)
