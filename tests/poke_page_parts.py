"""A method and a picture that the tests of the poke page share."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from methods.interface import Conditioning, MethodCard

SIZE = 32


class Shift:
    """Moves all of x0 by the poke, a tenth of it each frame; whole pixels, around the border.

    Attributes:
        calls: predictions so far.
        most: most predictions that ran at the same time.
        fault: raised instead of predicting.
        pause: seconds that a prediction takes.
        gate: predictions wait until it is set.
        factor: of the displacement.
    """

    def __init__(self, name: str = "shift", inputs: frozenset[str] = frozenset({"poke"}), **card: Any) -> None:
        self.card = MethodCard(name=name, title=name.title(), revision="1", inputs=inputs, **card)
        self.calls = self.running = self.most = 0
        self.fault: Exception | None = None
        self.pause, self.factor = 0.0, 1
        self.gate = threading.Event()
        self.gate.set()

    def prepare(self, device: torch.device) -> None:
        """Nothing to load."""

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        time.sleep(self.pause)
        self.gate.wait(timeout=30)
        self.running -= 1
        if self.fault:
            raise self.fault
        assert conditioning.poke is not None
        dx, dy = conditioning.poke.displacement[0].tolist()
        frames = [
            torch.roll(conditioning.x0[0], (round(self.factor * dy * t / 10), round(self.factor * dx * t / 10)), (1, 2))
            for t in range(1, conditioning.horizon + 1)
        ]
        return torch.stack(frames)[None, None]


def blocks(size: int = SIZE, seed: int = 0) -> np.ndarray:
    """uint8 `[size, size, 3]`: coarse random blocks."""
    coarse = np.random.default_rng(seed).integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)
