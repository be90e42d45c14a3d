"""Layers that two or more methods share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from methods.recompute import recomputing


class BatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d`, with one mean and variance over all processes while it trains.

    So a step does not depend on how many processes share its batch. `nn.SyncBatchNorm` exists on GPUs only. All
    processes must call it equally often; their batches may differ in size. In one process it is `nn.BatchNorm2d`.
    Running statistics stay as they are where a pass is computed again (`methods/recompute.py`).
    """

    def forward(self, input: Tensor) -> Tensor:
        """`[N, C, h, w]`, normalised over N, h and w of all processes."""
        if not (self.training and distributed.is_initialized() and distributed.get_world_size() > 1):
            return self._again(input) if self.training and recomputing() else super().forward(input)
        # At least float32, whatever the precision of the convolutions.
        x = input if input.dtype == torch.float64 else input.float()
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        count = x.new_full((1,), x.numel() // x.shape[1])
        sums = _Sum.apply(torch.cat([mean * count, count]))
        total = sums[-1].detach()
        common = sums[:-1] / total
        spread = _Sum.apply(count * (variance + (mean - common) ** 2)) / total
        if not recomputing():
            self._follow(common.detach(), (spread * (total / (total - 1))).detach())
        scale = self.weight * torch.rsqrt(spread + self.eps)
        shift = self.bias - common * scale
        return torch.addcmul(shift[:, None, None], x, scale[:, None, None]).to(input.dtype)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Moves the running statistics towards those of a batch."""
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)

    def _again(self, input: Tensor) -> Tensor:
        """As `nn.BatchNorm2d` in training, but what moves is a copy of the running statistics."""
        assert self.running_mean is not None
        assert self.running_var is not None
        copies = self.running_mean.clone(), self.running_var.clone()
        return functional.batch_norm(input, *copies, self.weight, self.bias, True, self.momentum or 0.0, self.eps)


class _Sum(torch.autograd.Function):
    """The sum over processes. The gradient is the sum too: every process's loss depends on every process's value."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.contiguous().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total
