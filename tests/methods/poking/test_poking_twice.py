"""The norm that is differentiated twice, against PyTorch's, and against differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from methods.poking.twice import group_norm
from metrics.errors import MethodError


def inputs(affine: bool, shape: tuple[int, ...] = (2, 6, 3, 4)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    shapes = [shape, *([shape[1:2]] * 2 if affine else [])]
    return [torch.randn(one, generator=generator, dtype=torch.float64).requires_grad_() for one in shapes]


def penalised(found: Tensor, given: list[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of a loss that holds the squared gradient at x."""
    (gradient,) = torch.autograd.grad((found.sin() * 3).sum(), given[0], create_graph=True)
    return torch.autograd.grad(gradient.square().sum() + found.cos().sum(), given, allow_unused=True)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("shape", [(2, 6, 3, 4), (3, 6, 2, 3, 2)])
def test_equals_pytorch(groups: int, affine: bool, shape: tuple[int, ...]) -> None:
    given = inputs(affine, shape)
    ours, theirs = group_norm(given[0], groups, *given[1:]), F.group_norm(given[0], groups, *given[1:])
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    for one, other in zip(penalised(ours, given), penalised(theirs, given), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("affine", [False, True])
def test_gradients_by_differences(affine: bool) -> None:
    given = inputs(affine)
    assert torch.autograd.gradcheck(lambda *values: group_norm(values[0], 2, *values[1:]), given)
    fixed = [one.detach() for one in given[1:]]
    assert torch.autograd.gradgradcheck(lambda x: group_norm(x, 2, *fixed), given[:1])


def test_half_precision_is_computed_in_full() -> None:
    x = inputs(False)[0].detach().bfloat16()
    found = group_norm(x, 2)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, F.group_norm(x.float(), 2))


def test_other_ways_to_differentiate_twice_are_refused() -> None:
    x, weight, bias = inputs(True)
    (gradient,) = torch.autograd.grad(group_norm(x, 2, weight, bias).sin().sum(), weight, create_graph=True)
    with pytest.raises(MethodError, match="through the gradient for x alone"):
        gradient.square().sum().backward()
