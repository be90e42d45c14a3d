"""What the page refuses."""

from __future__ import annotations

from metrics.errors import PokeBenchError


class PageError(PokeBenchError):
    """The page cannot be served, or was asked for something that it does not have or do.

    Args:
        message: one sentence for the person at the page.
        status: HTTP status of the refusal.
        crop: side in px of the middle square of a picture that is refused only because it is not square; else None.
    """

    def __init__(self, message: str, status: int = 422, crop: int | None = None) -> None:
        super().__init__(message)
        self.status, self.crop = status, crop
