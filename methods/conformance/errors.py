"""Items on what a method refuses: always a MethodError that says what was expected and what was found."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

from torch.nn import functional

from methods.conformance.base import Check, Result
from methods.conformance.clips import Shown
from methods.conformance.outcome import described
from methods.conformance.subject import Subject
from metrics.errors import MethodError


class Refuses(Check):
    """A MethodError for one fault of the conditioning."""

    @abstractmethod
    def faulty(self, subject: Subject) -> tuple[Shown, str, list[str]]:
        """What is shown, what is wrong with it, and what the message must name: each word, or one of a/b."""

    def run(self, subject: Subject) -> Result:
        given, fault, words = self.faulty(subject)
        outcome = subject.call(given)
        expected = f"a MethodError for {fault}"
        cure = "Check it first, and raise MethodError with what was expected and what was found."
        if outcome.error is None:
            return self.failed(expected, "a prediction", cure)
        if not isinstance(outcome.error, MethodError):
            return self.failed(expected, described(outcome.error), cure)
        message = str(outcome.error)
        missing = [word for word in words if not any(part in message for part in word.split("/"))]
        if missing:
            return self.failed(f"a message that names {' and '.join(missing)}", repr(message), cure)
        return self.passed(f"{fault}: {message}")


class WrongSize(Refuses):
    """Frames of a size that the card does not admit."""

    name = "wrong size"

    def excuse(self, subject: Subject) -> str:
        return "its card admits any size" if subject.card.sizes is None else ""

    def faulty(self, subject: Subject) -> tuple[Shown, str, list[str]]:
        sizes = subject.card.sizes or frozenset()
        candidates = (subject.size // 2, subject.size * 3 // 2, max(sizes) * 2)
        wrong = next(size for size in candidates if size not in sizes)
        context = subject.usual.conditioning.context
        resized = functional.interpolate(context.flatten(0, 1), size=(wrong, wrong)).unflatten(0, context.shape[:2])
        admitted = "/".join(map(str, sorted(sizes)))
        return subject.usual.but(context=resized), f"frames of {wrong} px", [admitted, str(wrong)]


class WrongHorizon(Refuses):
    """A number of frames that the card does not admit."""

    name = "wrong horizon"

    def excuse(self, subject: Subject) -> str:
        return "its card admits any horizon" if subject.card.horizons is None else ""

    def faulty(self, subject: Subject) -> tuple[Shown, str, list[str]]:
        horizons = subject.card.horizons or frozenset()
        wrong = max(horizons) + 1
        given = subject.usual
        tracks = given.conditioning.tracks
        if tracks is not None:
            tracks = functional.pad(tracks, (0, 0, 0, wrong - subject.horizon))
        longer = functional.pad(given.truth, (0, 0, 0, 0, 0, 0, 0, wrong - subject.horizon))
        shown = replace(given, truth=longer).but(horizon=wrong, tracks=tracks)
        return shown, f"a horizon of {wrong}", ["/".join(map(str, sorted(horizons))), str(wrong)]


class FewContext(Refuses):
    """Fewer context frames than the card asks for."""

    name = "too few frames"

    def excuse(self, subject: Subject) -> str:
        return "it needs no more than x0" if subject.card.min_context == 1 else ""

    def faulty(self, subject: Subject) -> tuple[Shown, str, list[str]]:
        few = subject.card.min_context - 1
        context = subject.usual.conditioning.context[:, -few:]
        return subject.usual.but(context=context), f"{few} context frames", [str(subject.card.min_context), str(few)]


class NoPoke(Refuses):
    """No poke for a method that takes one."""

    name = "missing poke"

    def excuse(self, subject: Subject) -> str:
        return "" if "poke" in subject.card.inputs else "it takes no poke"

    def faulty(self, subject: Subject) -> tuple[Shown, str, list[str]]:
        return subject.usual.but(poke=None), "a missing poke", ["poke"]


class NoTracks(Refuses):
    """No tracks for a method that takes them."""

    name = "missing tracks"

    def excuse(self, subject: Subject) -> str:
        return "" if "tracks" in subject.card.inputs else "it takes no tracks"

    def faulty(self, subject: Subject) -> tuple[Shown, str, list[str]]:
        return subject.usual.but(tracks=None), "missing tracks", ["track/traject"]


CHECKS: tuple[type[Check], ...] = (WrongSize, WrongHorizon, FewContext, NoPoke, NoTracks)
