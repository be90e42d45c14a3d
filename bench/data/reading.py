"""Reads clips of any data set; whatever its reader raises becomes an error that names the clip."""

from __future__ import annotations

from bench.data.interface import DataSet
from bench.foreign import Reported, described
from methods.interface import Clip
from metrics.errors import DataError


def read_clip(dataset: DataSet, clip_id: str) -> Clip:
    """One clip.

    Raises:
        DataError: it cannot be read.
    """

    def fault(error: Exception) -> DataError:
        return DataError(
            f"the clip {clip_id} of {dataset.name} cannot be read: {described(error, dataset)}. Mend or replace its "
            "file and run the same command again: what was computed before is kept and used."
        )

    with Reported(fault):
        return dataset.load(clip_id)
