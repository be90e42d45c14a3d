"""Items on what a method reacts to: its inputs and nothing else, never what is still to come."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from methods.conformance.base import Check, Result
from methods.conformance.clips import Shown
from methods.conformance.subject import Subject
from methods.dis_flow import MIN_SIDE, dis_flow
from methods.interface import Poke
from metrics.control import MOVING, stillness

PROMISED = 0.99
"""Share of pixels that must stay where a card promises stillness."""
BY_ID = "what it shows is found by clip id, as its check_clips says"


class NoPeek(Check):
    """What follows x0 does not reach the method: other frames in the memory behind the context change nothing."""

    name = "no peek"

    def excuse(self, subject: Subject) -> str:
        return "its card says that it sees the truth" if "truth" in subject.card.inputs else ""

    def run(self, subject: Subject) -> Result:
        given = subject.one()
        other = replace(given, truth=1 - given.truth)
        if not torch.equal(subject.predict(given, bait=True), subject.predict(other, bait=True)):
            return self.failed(
                "equal bits whatever follows x0",
                "another prediction for another future",
                'Read `context` alone; a row that sees the answer has "truth" among its inputs.',
            )
        return self.passed("equal bits when the frames after x0 are others")


class ClipIds(Check):
    """Clip ids serve randomness alone: nothing is looked up by them."""

    name = "clip ids"

    def excuse(self, subject: Subject) -> str:
        return BY_ID if subject.goes_by_id else ""

    def run(self, subject: Subject) -> Result:
        same = torch.equal(subject.alone(), subject.predict(subject.one().but(clip_ids=("renamed",))))
        if subject.card.stochastic and same:
            return self.failed(
                "other samples for clips of other ids",
                "equal bits",
                "Draw from `conditioning.generators(seed)`: one generator a clip.",
            )
        if not subject.card.stochastic and not same:
            return self.failed(
                "equal bits for clips of other ids",
                "another prediction",
                "Predict from the inputs; a method that looks clips up has `check_clips`, which says so.",
            )
        return self.passed("other samples under other ids" if subject.card.stochastic else "equal bits under other ids")


class Reacts(Check):
    """An input that the card declares changes the prediction; one that it does not declare changes nothing."""

    signal: str
    """One of INPUTS."""

    @abstractmethod
    def changed(self, subject: Subject, given: Shown) -> list[tuple[str, Shown]]:
        """Every way in which the input is changed, in words, and the clips then shown."""

    def excuse(self, subject: Subject) -> str:
        if subject.goes_by_id and self.signal != "poke":
            return BY_ID
        if self.signal in ("poke", "tracks") and getattr(subject.everything().conditioning, self.signal) is None:
            return f"these clips have no {self.signal}"
        return ""

    def run(self, subject: Subject) -> Result:
        declared = self.signal in subject.card.inputs
        given = subject.one()
        if not declared and self.signal in ("poke", "tracks"):
            full = subject.everything().select([0])
            given = given.but(**{self.signal: getattr(full.conditioning, self.signal)})
        ways = self.changed(subject, given)
        for way, other in [*ways, *([] if declared else [(f"{self.signal} given", given)])]:
            same = torch.equal(subject.alone(), subject.predict(other))
            if declared and same:
                return self.failed(
                    f"another prediction for {way}",
                    "equal bits",
                    f"Use it, or take {self.signal!r} out of the card's inputs.",
                )
            if not declared and not same:
                return self.failed(
                    f"equal bits, with {self.signal!r} not among the card's inputs",
                    f"another prediction with {way}",
                    f"Add {self.signal!r} to the card's inputs.",
                )
        said = " and ".join(way for way, _ in ways)
        return self.passed(f"answers {said}" if declared else f"not declared: equal bits with {said}")


class ReactsToContext(Reacts):
    name, signal = "context", "context"

    def changed(self, subject: Subject, given: Shown) -> list[tuple[str, Shown]]:
        return [("another context", given.but(context=given.conditioning.context.flip(-1)))]


class ReactsToPoke(Reacts):
    name, signal = "poke", "poke"

    def changed(self, subject: Subject, given: Shown) -> list[tuple[str, Shown]]:
        poke = given.conditioning.poke
        assert poke is not None
        ways = [("another displacement", given.but(poke=Poke(poke.location, -poke.displacement.flip(-1))))]
        if not subject.goes_by_id:
            elsewhere = (poke.location + subject.size // 8).clamp(max=subject.size - 1)
            ways.append(("another place", given.but(poke=Poke(elsewhere, poke.displacement))))
        return ways


class ReactsToTracks(Reacts):
    name, signal = "tracks", "tracks"

    def changed(self, subject: Subject, given: Shown) -> list[tuple[str, Shown]]:
        tracks = given.conditioning.tracks
        assert tracks is not None
        back = 2 * tracks[:, :, :1] - tracks  # from the same points the opposite way
        return [("other tracks", given.but(tracks=back.clamp(0, subject.size - 1)))]


class Stillness(Check):
    """How much stays at rest under a poke that is to move nothing."""

    promise: str
    """What the card's promise of it is called."""
    poke_words: str

    @abstractmethod
    def still_poke(self, given: Shown) -> Poke:
        """The poke that is to move nothing."""

    def excuse(self, subject: Subject) -> str:
        if "poke" not in subject.card.inputs:
            return "it takes no poke"
        if subject.size < MIN_SIDE:
            return f"flow is measured from {MIN_SIDE} px"
        return ""

    def run(self, subject: Subject) -> Result:
        given = subject.usual
        x0 = given.conditioning.x0
        video = subject.predict(given.but(poke=self.still_poke(given)))
        flow = torch.stack([dis_flow(x0[row], video[row, 0, -1].clamp(0, 1)) for row in range(len(x0))])
        share = float(stillness(flow).mean())
        longest = float(torch.linalg.vector_norm(flow, dim=1).max())
        found = (
            f"under {self.poke_words}, {100 * share:.1f} % of the pixels move by at most {MOVING:g} px, "
            f"none by more than {longest:.1f} px (DIS flow)"
        )
        if self.promise not in subject.card.promises:
            return self.measured(found)
        if share < PROMISED:
            return self.failed(
                f"{100 * PROMISED:g} % at rest, as the card promises",
                found,
                f"Correct the method, or take {self.promise!r} out of the card's promises.",
            )
        return self.passed(found)


class ZeroPoke(Stillness):
    name, promise, poke_words = "zero poke", "zero_stillness", "a poke of no length"

    def still_poke(self, given: Shown) -> Poke:
        poke = given.conditioning.poke
        assert poke is not None
        return Poke(poke.location, torch.zeros_like(poke.displacement))


class BackgroundPoke(Stillness):
    name, promise, poke_words = "background poke", "beside_stillness", "a poke beside the object"

    def excuse(self, subject: Subject) -> str:
        unknown = "" if subject.usual.parts is not None else "these clips do not say what is background"
        return super().excuse(subject) or unknown

    def still_poke(self, given: Shown) -> Poke:
        poke, parts = given.conditioning.poke, given.parts
        assert poke is not None
        assert parts is not None
        return Poke(torch.stack([_beside(one) for one in parts]), poke.displacement)


CHECKS: tuple[type[Check], ...] = (
    *(NoPeek, ClipIds, ReactsToContext, ReactsToPoke, ReactsToTracks, ZeroPoke, BackgroundPoke),
)


def _beside(parts: Tensor) -> Tensor:
    """The background pixel, at least 3 px from the border, that is farthest from the object: (x, y) in px, `[2]`."""
    height, width = parts.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    inside = (x >= 3) & (y >= 3) & (x < width - 3) & (y < height - 3) & (parts == 0)
    rows, columns = parts.nonzero().float().mean(0) if bool(parts.any()) else (height / 2, width / 2)
    far = torch.where(inside, torch.hypot(x - columns, y - rows), -1.0)
    place = int(far.argmax())
    return torch.tensor([float(place % width), float(place // width)])
