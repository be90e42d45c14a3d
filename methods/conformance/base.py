"""What an item of the conformance kit is: a small class that gives a verdict on a method, and the result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from methods.conformance.subject import Subject

Verdict = Literal["passed", "failed", "measured", "not applicable"]


@dataclass(frozen=True)
class Result:
    """What an item found.

    Attributes:
        name: of the item.
        verdict: "measured" is a figure that nothing is required of.
        found: what was found, or the reason why the item does not apply.
        expected, cure: what was expected and what to do, where it failed.
    """

    name: str
    verdict: Verdict
    found: str
    expected: str = ""
    cure: str = ""

    def line(self, width: int) -> str:
        """One line; names are padded to `width`."""
        text = self.found
        if self.verdict == "failed":
            text = f"expected {self.expected}; found {self.found}. {self.cure}"
        return f"{self.name:<{width}}  {self.verdict:<14}  {text}"


class Check(ABC):
    """One item of the kit.

    Class attributes:
        name: two or three words.
        essential: whether nothing that follows can be judged when it fails.
    """

    name: ClassVar[str]
    essential: ClassVar[bool] = False

    def excuse(self, subject: Subject) -> str:
        """Why the item does not apply to a method; "" when it does."""
        return ""

    @abstractmethod
    def run(self, subject: Subject) -> Result:
        """The verdict.

        Raises:
            PredictionFault: a prediction that is needed could not be had.
            DataError: the source has no clips as they are needed.
        """

    def passed(self, found: str) -> Result:
        return Result(self.name, "passed", found)

    def measured(self, found: str) -> Result:
        return Result(self.name, "measured", found)

    def alike(self, moved: float, tolerance: float, expected: str, found: str, cure: str) -> Result:
        """The verdict on two predictions that are to agree.

        Args:
            moved: largest difference of a value.
            tolerance: largest one that is allowed.
            expected, found: what agrees, without the figure, which follows.
        """
        if moved > tolerance:
            return self.failed(f"{expected}, to {tolerance:.1e}", f"a difference of {moved:.2g}", cure)
        return self.passed(f"{found} {moved:.1e}")

    def failed(self, expected: str, found: str, cure: str) -> Result:
        return Result(self.name, "failed", found, expected, cure)
