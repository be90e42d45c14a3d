"""One poke and what a method showed for it, and a shelf for the latest of them."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.poke_page.errors import PageError
from methods.interface import MethodCard

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """What a method showed.

    Attributes:
        label: of the method on the page.
        card: of the method.
        clip_id: of the scene.
        location, displacement: the poke, (x, y) and (dx, dy) in px.
        seed: of the sample.
        frames: uint8 `[T + 1, S, S, 3]`, RGB: x0, then x1..xT.
        seconds: what the prediction took, without waiting for others.
        note: what a person should know of this answer, or "".
    """

    label: str
    card: MethodCard
    clip_id: str
    location: tuple[float, float]
    displacement: tuple[float, float]
    seed: int
    frames: NDArray[np.uint8]
    seconds: float
    note: str


class Shelf(Generic[T]):
    """Keeps the latest `most` things, each under a name that cannot be guessed. Safe to use from several threads.

    Args:
        what: name of such a thing in errors.
        most: when there are more, the one that was longest not asked for goes.
    """

    def __init__(self, what: str, most: int) -> None:
        self.what, self.most = what, most
        self._kept: OrderedDict[str, T] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, thing: T) -> str:
        """Keeps a thing; returns its name."""
        key = secrets.token_hex(8)
        with self._lock:
            self._kept[key] = thing
            if len(self._kept) > self.most:
                self._kept.popitem(last=False)
        return key

    def get(self, key: str) -> T:
        """The thing of that name.

        Raises:
            PageError: there is none, or none any more.
        """
        with self._lock:
            if key not in self._kept:
                raise PageError(f"This {self.what} is not kept any more ({self.most} are); make it anew.", 404)
            self._kept.move_to_end(key)
            return self._kept[key]
