"""The conformance kit: whether an adapter keeps to the contract of `methods/interface.py`.

It is run on three small clips made from a formula (`clips`), whose pokes, tracks and future are known. A
further item is one class more: a `Check` in one of the tuples named here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import torch

from methods.conformance import answer, card, errors, sameness, signals
from methods.conformance.base import Check, Result, Verdict
from methods.conformance.clips import ClipSource, generated_clips
from methods.conformance.outcome import PredictionFault
from methods.conformance.subject import Build, Subject
from metrics.errors import DataError

CHECKS: tuple[type[Check], ...] = (
    card.Card,
    *answer.CHECKS,
    *sameness.CHECKS,
    *signals.CHECKS,
    *errors.CHECKS,
    card.Cost,
)
"""All items, in the order in which they are run."""


def check_method(
    build: Build,
    *,
    device: torch.device | str = "cpu",
    size: int | None = None,
    source: ClipSource = generated_clips,
    checks: Sequence[Check] | None = None,
) -> Iterator[Result]:
    """Runs the items on a method, one after the other.

    Args:
        build: builds the method; called several times, as every process builds its own.
        device: where the method predicts.
        size: side of the frames, px; None: 64, or the admitted side that is nearest.
        source: of the clips, for methods that know certain clips alone.
        checks: None: all of CHECKS.

    Yields:
        A result for each item. After an essential item that failed, the others do not apply.

    Raises:
        MethodError: the method cannot be built, does not predict that size, or knows only other clips.
    """
    subject = Subject(build, torch.device(device), size, source)
    stopped = ""
    for check in [kind() for kind in CHECKS] if checks is None else checks:
        reason = f"`{stopped}` failed" if stopped else check.excuse(subject)
        result = Result(check.name, "not applicable", reason) if reason else _verdict(check, subject)
        if result.verdict == "failed" and check.essential:
            stopped = check.name
        yield result


def summary(results: Sequence[Result]) -> str:
    """The verdicts, counted."""
    counts = Counter(result.verdict for result in results)
    order: tuple[Verdict, ...] = ("passed", "failed", "measured", "not applicable")
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in order)


def _verdict(check: Check, subject: Subject) -> Result:
    try:
        return check.run(subject)
    except PredictionFault as fault:
        return check.failed(fault.expected, fault.found, fault.cure)
    except DataError as error:
        return Result(check.name, "not applicable", f"there are no such clips: {error}")
