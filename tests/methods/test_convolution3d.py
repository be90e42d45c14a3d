"""3-D convolutions in half precision: gradients against float32, with memory that is anything but zero."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from methods.convolution3d import Triple, by_images, convolve3d


def dirty_memory() -> None:
    """Leaves large numbers in the memory that the next tensors are made in."""
    for count in (10**4, 10**5, 10**6, 4 * 10**6):
        torch.full((count,), 1e4)


def gradients(dtype: torch.dtype, autocast: bool, frames: int, kernel: int, stride: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = ((2, 16, frames, 8, 8), (16, 16, kernel, kernel, kernel), (16,))
    x, weight, bias = (torch.randn(shape, generator=generator).bfloat16().to(dtype) for shape in shapes)
    given = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
        found = convolve3d(*given, stride=(stride, 1, 1))
    dirty_memory()
    direction = torch.randn(found.shape, generator=generator).bfloat16().to(found.dtype)
    return [gradient.float() for gradient in torch.autograd.grad(found, given, direction)]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("frames", "kernel"), [(1, 3), (2, 3), (3, 3), (2, 4), (3, 4), (4, 4)])
def test_gradients_in_half_precision(frames: int, kernel: int, stride: int, autocast: bool) -> None:
    wanted = gradients(torch.float32, False, frames, kernel, stride)
    for _ in range(3):
        found = gradients(torch.float32 if autocast else torch.bfloat16, autocast, frames, kernel, stride)
        for one, other in zip(found, wanted, strict=True):
            assert (one - other).norm() <= 0.02 * other.norm()


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        ((3, 3, 3), (1, 1, 1), (1, 1, 1)),
        ((3, 7, 7), (1, 2, 2), (1, 3, 3)),
        ((3, 3, 3), (2, 2, 2), (1, 1, 1)),
        ((4, 4, 4), (2, 2, 2), (1, 1, 1)),
        ((3, 4, 4), (1, 2, 2), (0, 1, 1)),
        ((3, 3, 3), (2, 1, 1), (1, 1, 1)),
    ],
)
@pytest.mark.parametrize("frames", [3, 5, 10])
def test_by_images(kernel: Triple, stride: Triple, padding: Triple, frames: int) -> None:
    """Values, gradients, and gradients of gradients."""
    generator = torch.Generator().manual_seed(frames)
    if frames + 2 * padding[0] < kernel[0]:
        pytest.skip("too few frames")
    shapes = ((2, 3, frames, 9, 8), (4, 3, *kernel), (4,))
    given = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    x, weight, bias = given
    results = []
    for made in (by_images(x, weight, bias, stride, padding), F.conv3d(x, weight, bias, stride, padding)):
        first = torch.autograd.grad(made.sin().sum(), given, create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), given[:2])
        results.append([made, *first, *second])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_the_result_has_the_precision_asked_for() -> None:
    x, weight = torch.ones(1, 2, 2, 4, 4), torch.ones(3, 2, 3, 3, 3)
    assert convolve3d(x, weight).dtype == torch.float32
    assert convolve3d(x.bfloat16(), weight.bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert convolve3d(x, weight).dtype == torch.bfloat16
    assert convolve3d(x.double(), weight.double()).dtype == torch.float64
