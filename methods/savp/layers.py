"""Layers of the generator cell, written for PyTorch's axes `[N, C, H, W]`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

NORM_EPSILON = 1.001e-5
"""What TensorFlow 1 made of the 1e-6 that the authors asked for: the smallest epsilon of its fused batch norm."""

KERNEL_FLOOR = 1e-12


def truncated_normal_(weight: Tensor, std: float = 0.02) -> None:
    """Fills with a normal distribution cut at two standard deviations, TensorFlow's truncated normal."""
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


class InstanceNorm(nn.Module):
    """Per sample and channel over height and width: biased variance, scale and shift, no running statistics."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor, shift: Tensor | None = None) -> Tensor:
        """`[N, C, H, W]` to the same; `shift` `[C]` is added to the stored shift."""
        bias = self.bias if shift is None else self.bias + shift
        return functional.group_norm(features, len(self.weight), self.weight, bias, NORM_EPSILON)


class Convolution(nn.Module):
    """Weight and bias of a convolution with an odd kernel; the base of the resampling ones."""

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, side, side))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.padding = side // 2
        truncated_normal_(self.weight)

    def kernel(self) -> Tensor:
        """The kernel that is applied; the same in every step of a rollout, so computed once for it."""
        return self.weight

    def forward(self, features: Tensor, kernel: Tensor) -> Tensor:
        """Zero padding, stride 1: the size is kept."""
        return functional.conv2d(features, kernel, self.bias, padding=self.padding)


class DownConvolution(Convolution):
    """Convolution, 2x2 mean pooling, then bias ("conv_pool2d"), as one convolution of stride 2.

    The mean over 2x2 outputs is the convolution with the kernel blurred by a 2x2 box, at every second place.
    """

    def kernel(self) -> Tensor:
        """`[out, in, k + 1, k + 1]`."""
        return functional.avg_pool2d(functional.pad(self.weight, (1, 1, 1, 1)), 2, stride=1)

    def forward(self, features: Tensor, kernel: Tensor) -> Tensor:
        """`[N, in, H, W]` to `[N, out, H / 2, W / 2]`."""
        return functional.conv2d(features, kernel, self.bias, stride=2, padding=self.padding)


class UpConvolution(Convolution):
    """Bilinear upsampling by two of the zero-bordered input, 3x3 convolution, then bias ("upsample_conv2d").

    An output pixel at an even (odd) place depends on three input pixels along each axis. So the layer is one 3x3
    convolution at the low resolution with four times the channels, one set for each parity of (row, column).
    """

    taps: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3)
        even = [[0.75, 0.25, 0.0], [0.25, 0.75, 0.75], [0.0, 0.0, 0.25]]
        odd = [[0.25, 0.0, 0.0], [0.75, 0.75, 0.25], [0.0, 0.25, 0.75]]
        # [parity, tap of the low resolution, tap of the kernel]
        self.register_buffer("taps", torch.tensor([even, odd]), persistent=False)

    def kernel(self) -> Tensor:
        """`[4 out, in, 3, 3]`: for each output channel its four parities."""
        phases = torch.einsum("ria,scb,oyab->orsyic", self.taps, self.taps, self.weight)
        return phases.flatten(0, 2)

    def forward(self, features: Tensor, kernel: Tensor) -> Tensor:
        """`[N, in, H, W]` to `[N, out, 2 H, 2 W]`."""
        bias = self.bias.repeat_interleave(4)
        return functional.pixel_shuffle(functional.conv2d(features, kernel, bias, padding=1), 2)


class Block(nn.Module):
    """A convolution, instance norm, ReLU."""

    def __init__(self, conv: Convolution) -> None:
        super().__init__()
        self.conv = conv
        self.norm = InstanceNorm(len(conv.bias))

    def forward(self, features: Tensor, kernel: Tensor) -> Tensor:
        """Of the size that the convolution makes."""
        return functional.relu(self.norm(self.conv(features, kernel)))


class ConvLstm(nn.Module):
    """Convolutional LSTM with instance norm on the gates and on the cell, 5x5 kernel without bias."""

    forget: Tensor

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4 * features, 2 * features + latent, 5, 5))
        self.gates = InstanceNorm(4 * features)
        self.state = InstanceNorm(features)
        # The forget gate starts open: 1 is added to it in every evaluation and is no part of the stored shift.
        forget = torch.tensor([0.0, 0.0, 1.0, 0.0]).repeat_interleave(features)
        self.register_buffer("forget", forget, persistent=False)
        truncated_normal_(self.weight)

    def forward(self, inputs: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """One step.

        Args:
            inputs: `[N, F + latent, H, W]`.
            state: (cell, hidden), each `[N, F, H, W]`.

        Returns:
            The next (cell, hidden); the cell is the normalised one.
        """
        cell, hidden = state
        mapped = functional.conv2d(torch.cat([inputs, hidden], 1), self.weight, padding=2)
        entry, candidate, forget, output = self.gates(mapped, self.forget).chunk(4, 1)
        cell = self.state(cell * forget.sigmoid() + entry.sigmoid() * candidate.tanh())
        return cell, cell.tanh() * output.sigmoid()


class LatentLstm(nn.Module):
    """A plain LSTM over the latents, of their own length; gates in the order input, candidate, forget, output."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4 * latent, 2 * latent))
        self.bias = nn.Parameter(torch.zeros(4 * latent))
        nn.init.xavier_uniform_(self.weight)

    def forward(
        self, latents: Tensor, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """`[N, T, nz]` to the outputs of T steps, `[N, T, nz]`, and the state after them; None: zeros."""
        length = latents.shape[2]
        from_input, from_hidden = self.weight.split(length, dim=1)
        cell, hidden = state or (torch.zeros_like(latents[:, 0]), torch.zeros_like(latents[:, 0]))
        outputs = []
        for mapped in functional.linear(latents, from_input, self.bias).unbind(1):
            entry, candidate, forget, output = (mapped + functional.linear(hidden, from_hidden)).chunk(4, 1)
            cell = cell * (forget + 1).sigmoid() + entry.sigmoid() * candidate.tanh()
            hidden = cell.tanh() * output.sigmoid()
            outputs.append(hidden)
        return torch.stack(outputs, 1), (cell, hidden)


def with_latent(features: list[Tensor], latent: Tensor | None) -> Tensor:
    """Concatenates features `[N, C, H, W]`, then the latent `[N, nz]` at every place."""
    if latent is None:
        return features[0] if len(features) == 1 else torch.cat(features, 1)
    height, width = features[0].shape[2:]
    return torch.cat([*features, latent[:, :, None, None].expand(-1, -1, height, width)], 1)


def transformation_kernels(raw: Tensor) -> Tensor:
    """Kernels of the dynamic neural advection (CDNA): identity added, positive, of sum 1.

    Args:
        raw: `[N, 25 K]`: (row, column, transformation), the last fastest.

    Returns:
        `[N, K, 5, 5]`.
    """
    kernels = raw.unflatten(1, (5, 5, -1)).permute(0, 3, 1, 2)
    identity = functional.pad(kernels.new_ones(1, 1), (2, 2, 2, 2))
    kernels = functional.relu(kernels + identity - KERNEL_FLOOR) + KERNEL_FLOOR
    return kernels / kernels.sum((2, 3), keepdim=True)


def transformed(image: Tensor, kernels: Tensor) -> Tensor:
    """Cross-correlates each image with its own kernels, borders mirrored with the edge pixel repeated.

    Args:
        image: `[N, 3, H, W]`.
        kernels: `[N, K, 5, 5]`.

    Returns:
        `[N, 3 K, H, W]`: (transformation, colour).
    """
    count, colours, height, width = image.shape
    bordered = torch.cat([image[:, :, :2].flip(2), image, image[:, :, -2:].flip(2)], 2)
    bordered = torch.cat([bordered[..., :2].flip(3), bordered, bordered[..., -2:].flip(3)], 3)
    # Colours become the batch and clips the groups, so that one grouped convolution serves all.
    moved = functional.conv2d(bordered.transpose(0, 1), kernels.flatten(0, 1).unsqueeze(1), groups=count)
    return moved.view(colours, count, -1, height, width).permute(1, 2, 0, 3, 4).flatten(1, 2)
