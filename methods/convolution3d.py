"""3-D convolutions: with gradients that can be trusted on a CPU, and as convolutions of images on a GPU.

In half precision on a CPU, PyTorch 2.15 with oneDNN 3.13 gives wrong gradients for the weight of a padded 3-D
convolution when the frames are one fewer than the kernel is long and its stride in time is 1: they hold what happened
to be in memory, sometimes not a number. Measured over kernels of 3 and 4, strides of 1 and 2, and one to eight frames;
all other cases were right.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.precision import HALF

Triple = tuple[int, int, int]


def convolve3d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Triple = (1, 1, 1), padding: Triple = (1, 1, 1)
) -> Tensor:
    """`functional.conv3d`: in float32 where PyTorch's gradients in half precision are wrong, and `by_images` on a GPU.

    Args:
        x: `[N, C, T, H, W]`.
        weight: `[O, C, t, h, w]`.
        bias: `[O]` or None.
        stride, padding: in time, height and width.

    Returns:
        `[N, O, T', H', W']`, of the type that `functional.conv3d` gives.
    """
    if x.is_cuda:
        return by_images(x, weight, bias, stride, padding)
    if x.device.type == "cpu" and x.shape[2] < weight.shape[2]:
        autocast = torch.is_autocast_enabled("cpu")
        if autocast or x.dtype in HALF:
            with torch.autocast("cpu", enabled=False):
                wide = None if bias is None else bias.float()
                found = F.conv3d(x.float(), weight.float(), wide, stride, padding)
            return found.to(torch.get_autocast_dtype("cpu") if autocast else x.dtype)
    return F.conv3d(x, weight, bias, stride, padding)


def by_images(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Triple, padding: Triple) -> Tensor:
    """The same as convolutions of images: the frames that an output frame sees become its channels.

    So cuDNN's kernels for images serve clips as well.
    """
    length = weight.shape[2]
    seen = F.pad(x, (0, 0, 0, 0, padding[0], padding[0])).unfold(2, length, stride[0])  # [N, C, T', H, W, t]
    images = seen.permute(0, 2, 3, 4, 5, 1).flatten(4, 5).flatten(0, 1).permute(0, 3, 1, 2)
    kernel = weight.transpose(1, 2).flatten(1, 2)
    found = F.conv2d(images, kernel, bias, stride[1:], padding[1:])
    return found.unflatten(0, (len(x), -1)).transpose(1, 2)
