"""Items on the form of a prediction, and on what can be asked for."""

from __future__ import annotations

import time

import torch

from methods.conformance.base import Check, Result
from methods.conformance.clips import Shown
from methods.conformance.outcome import (
    Caught,
    check_finite,
    check_range,
    check_shape,
    checked,
    described,
    difference,
)
from methods.conformance.subject import TOLERANCE, Subject
from methods.interface import AnswersManyPokes, MethodCard, Poke

POKES = 10
"""Pokes on one image: enough for a method that answers many in another way than few."""


class Prepares(Check):
    """`prepare` returns, and the method is ready."""

    name = "prepare"
    essential = True

    def run(self, subject: Subject) -> Result:
        started = time.perf_counter()
        with Caught() as caught:
            subject.method.prepare(subject.device)
        if caught.error is not None:
            return self.failed(
                f"prepare on {subject.device}", described(caught.error), "Correct `prepare`, or its options."
            )
        return self.passed(f"ready on {subject.device} after {time.perf_counter() - started:.2g} s")


class Shape(Check):
    """A prediction has the shape that the harness asks for."""

    name = "shape"
    essential = True

    def run(self, subject: Subject) -> Result:
        check_shape(subject.first, subject.shape)
        return self.passed(f"[B, S, T, 3, H, W] = {list(subject.shape)}")


class Type(Check):
    """A prediction is floating point."""

    name = "type"
    essential = True

    def run(self, subject: Subject) -> Result:
        value = subject.first.value
        if not value.is_floating_point():
            return self.failed("a floating point tensor", f"{value.dtype}", "Divide by 255 and return float32.")
        return self.passed(f"{value.dtype}")


class Finite(Check):
    """No value is NaN or infinite."""

    name = "finite values"
    essential = True

    def run(self, subject: Subject) -> Result:
        check_finite(subject.first.value)
        return self.passed("all values are finite")


class Range(Check):
    """All values are in [0, 1]."""

    name = "range"
    essential = True

    def run(self, subject: Subject) -> Result:
        value = subject.first.value
        check_range(value)
        return self.passed(f"values in [{float(value.min()):.4g}, {float(value.max()):.4g}]")


class OtherHorizon(Check):
    """Another number of frames can be asked for, unless the card says otherwise."""

    name = "other horizon"

    def excuse(self, subject: Subject) -> str:
        if subject.goes_by_id:
            return "what it shows is found by clip id, with one number of frames"
        if subject.card.horizons is not None and len(subject.card.horizons) == 1:
            return f"its card admits {subject.horizon} frames alone"
        return ""

    def run(self, subject: Subject) -> Result:
        other = min((subject.card.horizons or {subject.horizon + 2}) - {subject.horizon})
        subject.predict(subject.shown(horizon=other).select([0]))
        return self.passed(f"predicts {other} frames, as well as {subject.horizon}")


class OtherSize(Check):
    """Frames of another admitted size can be predicted."""

    name = "other size"

    def excuse(self, subject: Subject) -> str:
        if subject.goes_by_id:
            return "what it shows is found by clip id"
        if subject.card.sizes is not None and len(subject.card.sizes) == 1:
            return f"its card admits {subject.size} px alone"
        return ""

    def run(self, subject: Subject) -> Result:
        others = (subject.card.sizes or {subject.size // 2, subject.size * 3 // 2}) - {subject.size}
        near = sorted(others, key=lambda size: (abs(size - subject.size), size))[:2]
        for size in near:
            subject.predict(subject.shown(size=size).select([0]))
        return self.passed(f"predicts {' and '.join(map(str, near))} px, as well as {subject.size} px")


class MoreContext(Check):
    """More context frames than the method needs do no harm."""

    name = "more context"

    def run(self, subject: Subject) -> Result:
        more = subject.context + 1
        subject.predict(subject.shown(context=more).select([0]))
        return self.passed(f"predicts from {more} context frames, as well as {subject.context}")


class Samples(Check):
    """A deterministic method returns one sample; those of a stochastic one differ, however many are drawn."""

    name = "samples"

    def run(self, subject: Subject) -> Result:
        if not subject.card.stochastic:
            subject.predict(subject.one(), samples=3)
            return self.passed("one sample, however many are asked for")
        drawn = subject.prediction[:1]
        if torch.equal(drawn[:, 0], drawn[:, 1]):
            return self.failed(
                "samples that differ", "two equal ones", "Draw anew for each sample, or set stochastic=False."
            )
        alone = subject.predict(subject.one(), samples=1)
        moved = difference(alone[:, 0], drawn[:, 0])
        return self.alike(
            moved,
            TOLERANCE,
            "the first sample alike, however many are drawn",
            "samples differ; the first is the same when it is drawn alone, to",
            "Draw all numbers of a sample before those of the next.",
        )


class ManyPokes(Check):
    """`rollout_pokes` gives the frames asked for, as `predict` does poke by poke where both see the same."""

    name = "many pokes"

    def excuse(self, subject: Subject) -> str:
        if "poke" not in subject.card.inputs:
            return "it takes no poke"
        return "" if isinstance(subject.method, AnswersManyPokes) else "it has no rollout_pokes"

    def run(self, subject: Subject) -> Result:
        given, last = _many_pokes(subject.usual), subject.horizon
        height, width = given.conditioning.x0.shape[-2:]
        wanted = subject.predict(given)[:, 0] if _sees_x0_alone(subject.card) else None
        moved = 0.0
        for frames in (None, [last], sorted({1, last})):
            outcome = subject.rollout(given, frames)
            numbers = frames or list(range(1, last + 1))
            found = checked(outcome, (POKES, len(numbers), 3, height, width), "[K, F, 3, H, W]")
            if outcome.written:
                cure = "Work on a copy: x.clone()."
                return self.failed("inputs as they were", f"{', '.join(outcome.written)} changed", cure)
            if wanted is not None:
                moved = max(moved, difference(found, wanted[:, [number - 1 for number in numbers]]))
        if wanted is None:
            return self.passed(f"{POKES} pokes on one image: the frames asked for, finite and in [0, 1]")
        return self.alike(
            moved,
            TOLERANCE,
            "`rollout_pokes` to give the frames asked for, as `predict` does for each poke",
            f"{POKES} pokes on one image are answered as by `predict`, to",
            "Return video k for poke k, and frame t of it for t in `frames`.",
        )


class InputsKept(Check):
    """The inputs are left as they were."""

    name = "inputs kept"

    def run(self, subject: Subject) -> Result:
        written = subject.first.written
        if written:
            return self.failed("inputs as they were", f"{', '.join(written)} changed", "Work on a copy: x.clone().")
        return self.passed("no input is written to")


def _sees_x0_alone(card: MethodCard) -> bool:
    """Whether `predict` sees no more than `rollout_pokes` and draws nothing, so that both must agree."""
    return not card.stochastic and card.inputs <= {"context", "poke"} and card.min_context == 1


def _many_pokes(given: Shown) -> Shown:
    """The first clip POKES times, poked where each of the clips is, as far as it is, in all directions."""
    poke = given.conditioning.poke
    assert poke is not None
    places = [number % len(poke.location) for number in range(POKES)]
    angles = 2 * torch.pi * torch.arange(POKES) / POKES
    length = torch.linalg.vector_norm(poke.displacement[0])
    turned = length * torch.stack([angles.cos(), angles.sin()], 1)
    return given.select([0] * POKES).but(poke=Poke(poke.location[places], turned))


CHECKS: tuple[type[Check], ...] = (
    *(Prepares, Shape, Type, Finite, Range),
    *(OtherHorizon, OtherSize, MoreContext, Samples, ManyPokes, InputsKept),
)
