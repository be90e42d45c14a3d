"""Layers that two or more methods share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn


class BatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d`, with one mean and variance over all processes while it trains.

    So a step does not depend on how many processes share its batch. `nn.SyncBatchNorm` exists on GPUs only. All
    processes must call it equally often; their batches may differ in size. In one process it is `nn.BatchNorm2d`.
    """

    def forward(self, input: Tensor) -> Tensor:
        """`[N, C, h, w]`, normalised over N, h and w of all processes."""
        if not (self.training and distributed.is_initialized() and distributed.get_world_size() > 1):
            return super().forward(input)
        # At least float32, whatever the precision of the convolutions.
        x = input if input.dtype == torch.float64 else input.float()
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        count = x.new_full((1,), x.numel() // x.shape[1])
        sums = _Sum.apply(torch.cat([mean * count, count]))
        total = sums[-1].detach()
        common = sums[:-1] / total
        spread = _Sum.apply(count * (variance + (mean - common) ** 2)) / total
        with torch.no_grad():
            assert self.num_batches_tracked is not None
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.momentum is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(common, self.momentum)
            self.running_var.lerp_(spread * (total / (total - 1)), self.momentum)
        scale = self.weight * torch.rsqrt(spread + self.eps)
        shift = self.bias - common * scale
        return torch.addcmul(shift[:, None, None], x, scale[:, None, None]).to(input.dtype)


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
