"""Items on what a prediction may not depend on: repetition, batch, order, random state, threads, process, device."""

from __future__ import annotations

import torch

from methods.conformance.base import Check, Result
from methods.conformance.outcome import difference
from methods.conformance.subject import AROUND, TOLERANCE, Subject

DEVICE_TOLERANCE = 2 / 255
"""Largest difference of a predicted value between a CPU and a GPU: two grey levels of 8 bits."""


class Repeats(Check):
    """The same seed gives the same bits, whatever was predicted in between."""

    name = "same seed"

    def run(self, subject: Subject) -> Result:
        first = subject.prediction
        subject.predict(subject.one(), seed=5)
        moved = difference(first, subject.predict(subject.usual))
        if moved != 0:
            return self.failed(
                "equal bits",
                f"a difference of {moved:.2g}",
                "Keep no state between calls; draw from `generators(seed)`.",
            )
        return self.passed("equal bits, with another prediction in between")


class OtherSeed(Check):
    """Another seed gives other samples, and leaves a deterministic method as it is."""

    name = "other seed"

    def excuse(self, subject: Subject) -> str:
        if subject.card.stochastic and subject.goes_by_id:
            return "its samples are found by clip id"
        return ""

    def run(self, subject: Subject) -> Result:
        same = torch.equal(subject.alone(), subject.predict(subject.one(), seed=1))
        if same == subject.card.stochastic:
            if same:
                cure = "Draw from `conditioning.generators(seed)`, or set stochastic=False."
                return self.failed("other samples, as the card says stochastic", "equal bits", cure)
            return self.failed(
                "equal bits, as the card says deterministic",
                "another prediction",
                "Take no notice of the seed, or set stochastic=True.",
            )
        return self.passed("other samples" if subject.card.stochastic else "equal bits")


class BatchSize(Check):
    """A clip alone is predicted as in a batch, to rounding."""

    name = "batch size"

    def run(self, subject: Subject) -> Result:
        together = subject.prediction
        moved = max(difference(together[row : row + 1], subject.alone(row)) for row in range(len(together)))
        return self.alike(
            moved,
            TOLERANCE,
            "a clip alone as in a batch",
            f"a clip alone is as in a batch of {len(together)}, to",
            "Use no statistics of the batch (call eval()), and draw from one generator a clip.",
        )


class Order(Check):
    """The order of clips in a batch does not matter, to rounding."""

    name = "order of clips"

    def run(self, subject: Subject) -> Result:
        backwards = list(range(len(subject.prediction)))[::-1]
        moved = difference(subject.prediction[backwards], subject.predict(subject.usual.select(backwards)))
        return self.alike(
            moved,
            TOLERANCE,
            "row k to show clip k in any order",
            "the same in reversed order, to",
            "Return the clips in the order given; draw for each from its own generator.",
        )


class RandomState(Check):
    """The global random generators are neither used nor moved."""

    name = "random state"

    def run(self, subject: Subject) -> Result:
        moved = difference(subject.alone(), subject.predict(subject.one(), around=AROUND + 1))
        cure = "Draw from `conditioning.generators(seed)`; give random functions that generator."
        if moved:
            return self.failed("the same under any global random state", f"a difference of {moved:.2g}", cure)
        if subject.first.moved:
            return self.failed("global random state as it was", f"that of {', '.join(subject.first.moved)} moved", cure)
        return self.passed("torch, numpy and random: neither used nor moved")


class Threads(Check):
    """The number of threads does not matter, to rounding."""

    name = "threads"

    def run(self, subject: Subject) -> Result:
        before = torch.get_num_threads()
        found = []
        try:
            for count in (1, 2):
                torch.set_num_threads(count)
                found.append(subject.predict(subject.one()))
        finally:
            torch.set_num_threads(before)
        moved = difference(*found)
        return self.alike(
            moved,
            TOLERANCE,
            "1 and 2 threads alike",
            "1 and 2 threads differ by",
            "Make sums independent of the number of threads.",
        )


class Processes(Check):
    """Another process, which builds the method itself and is given other clips, predicts the same."""

    name = "processes"

    def run(self, subject: Subject) -> Result:
        other = subject.build()
        other.prepare(subject.device)
        moved = 0.0
        for row in reversed(range(len(subject.usual.truth))):
            again = subject.predict(subject.one(row), method=other, around=AROUND + 2)
            moved = max(moved, difference(subject.alone(row), again))
        return self.alike(
            moved,
            TOLERANCE,
            "a second build to predict each clip alike",
            "a second build, as in another process, predicts each clip alike, to",
            "Load weights instead of drawing them, and derive randomness from seed and clip id alone.",
        )


class Devices(Check):
    """A GPU predicts what a CPU does, to rounding."""

    name = "device"

    def __init__(self, other: torch.device | None = None) -> None:
        self._other = other

    def excuse(self, subject: Subject) -> str:
        if self._other is None and subject.device.type == "cpu" and not torch.cuda.is_available():
            return "there is no CUDA device here"
        return ""

    def run(self, subject: Subject) -> Result:
        other = self._other or torch.device("cuda" if subject.device.type == "cpu" else "cpu")
        method = subject.build()
        method.prepare(other)
        moved = difference(subject.alone(), subject.predict(subject.one(), method=method, device=other))
        return self.alike(
            moved,
            DEVICE_TOLERANCE,
            f"{subject.device} and {other} alike",
            f"{subject.device} and {other} differ by",
            "Draw on the CPU and move what was drawn; keep one precision.",
        )


CHECKS: tuple[type[Check], ...] = (*(Repeats, OtherSeed, BatchSize, Order, RandomState, Threads, Processes, Devices),)
