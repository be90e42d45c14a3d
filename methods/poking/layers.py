"""The blocks that encoders and decoder are made of. Their parameter names are those of the authors' checkpoints."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from methods.convolution import convolve
from methods.poking.layout_norm import EPSILON, layout_norm
from methods.precision import HALF

Activation = Literal["elu", "relu", "none"]


def instance_norm(x: Tensor) -> Tensor:
    """Instance normalisation without parameters, as one group of `group_norm` a channel.

    The same numbers as `functional.instance_norm`; measured 4 to 8 times as fast forwards on the CPU. On a GPU maps of
    half precision, or with channels innermost, stay so.
    """
    if x.is_cuda and (x.dtype in HALF or not x.is_contiguous()):
        return layout_norm(x)
    return F.group_norm(x, x.shape[1], eps=EPSILON)


def activated(x: Tensor, activation: Activation) -> Tensor:
    """ELU (alpha 1), ReLU, or `x` as it is; in the memory of `x`, which no gradient may need: those of norms and
    convolutions do not need their outcome.
    """
    if activation == "elu":
        return F.elu(x, inplace=True)
    return F.relu(x, inplace=True) if activation == "relu" else x


class Convolution(nn.Module):
    """3x3 convolution, zero padding 1, with bias; instance norm where `norm`; activation."""

    def __init__(
        self, inputs: int, outputs: int, stride: int = 1, activation: Activation = "elu", norm: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.activation, self.norm, self.strided = activation, norm, stride != 1

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x) if self.strided else convolve(x, self.conv.weight, self.conv.bias)
        return activated(instance_norm(x) if self.norm else x, self.activation)


class Upsampling(nn.Module):
    """Transposed 3x3 convolution that doubles the side, with bias; instance norm; ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return activated(instance_norm(self.conv(x)), "relu")


class Residual(nn.Module):
    """conv1 (activated), then conv2 (not activated), plus a shortcut.

    The shortcut is `x` itself, or, where the number of channels changes, a convolution with norm and activation of
    its own. Nothing is applied after the sum.
    """

    def __init__(self, inputs: int, outputs: int, norm: bool = True) -> None:
        super().__init__()
        self.conv1 = Convolution(inputs, outputs, norm=norm)
        self.conv2 = Convolution(outputs, outputs, activation="none", norm=norm)
        self.res_conv = None if inputs == outputs else Convolution(inputs, outputs, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.res_conv is None else self.res_conv(x)
        return self.conv2(self.conv1(x)) + shortcut


class UpsamplingResidual(nn.Module):
    """As `Residual`, with an `Upsampling` as conv1 and another one as the shortcut: doubles the side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = Upsampling(inputs, outputs)
        self.conv2 = Convolution(outputs, outputs, activation="none")
        self.res_conv = Upsampling(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x)).add_(self.res_conv(x))
