"""Some clips of a data set, as a data set."""

from __future__ import annotations

from collections.abc import Sequence

from bench.data.interface import ClipRef, DataSet
from methods.interface import Clip
from metrics.cache import hash_of


class Subset:
    """Some clips of a data set.

    Args:
        refs: of the clips, in the order in which they are listed.
        name: what this part is called.
    """

    def __init__(self, dataset: DataSet, refs: Sequence[ClipRef], name: str) -> None:
        self._dataset, self._refs, self.name = dataset, list(refs), f"{dataset.name}/{name}"
        self.skipped = dataset.skipped

    @property
    def content_hash(self) -> str:
        """Of the whole set and the ids of this part."""
        return hash_of([self._dataset.content_hash, [ref.clip_id for ref in self._refs]])

    def clips(self) -> Sequence[ClipRef]:
        """The clips of this part, in the order given."""
        return list(self._refs)

    def load(self, clip_id: str) -> Clip:
        """One clip."""
        return self._dataset.load(clip_id)

    def describe(self) -> str:
        """One line."""
        return f"{len(self._refs)} clips of: {self._dataset.describe()}"
