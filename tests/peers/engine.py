"""The plainest engine that a step can run on: one process, full precision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.optim import Optimizer


class PlainEngine:
    """Implements `methods.training.Engine`; keeps the losses and gradients of the last step of each optimiser.

    Args:
        optimizers: of the training.
        steps: iterations of the whole training.
        parts: into how many the batch is cut.
    """

    def __init__(self, optimizers: Mapping[str, Optimizer], steps: int = 10, parts: int = 1) -> None:
        self.optimizers, self.steps, self.parts = optimizers, steps, parts
        self.iteration = self.epoch = 0
        self.order: list[str] = []
        self.losses: dict[str, list[float]] = {}
        self.gradients: dict[str, list[Tensor | None]] = {}

    def minimise(self, name: str, losses: Iterable[Tensor], max_norm: float | None = None) -> None:
        optimizer = self.optimizers[name]
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        optimizer.zero_grad(set_to_none=True)
        self.order.append(name)
        self.losses[name] = []
        for loss in losses:
            self.losses[name].append(loss.detach().item())
            torch.autograd.backward(loss / self.parts, inputs=parameters)
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, max_norm)
        self.gradients[name] = [None if p.grad is None else p.grad.clone() for p in parameters]
        optimizer.step()
