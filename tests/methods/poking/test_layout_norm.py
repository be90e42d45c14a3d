"""Instance normalisation in the type and layout of its input: PyTorch's numbers, and nothing brought elsewhere."""

from __future__ import annotations

import pytest
import torch
from peers.engine import PlainEngine
from peers.poking_clips import batch, training
from torch import Tensor
from torch.nn import functional as F

from methods.poking import layers
from methods.poking.layout_norm import layout_norm

LAYOUTS = [torch.contiguous_format, torch.channels_last]
ROUNDING = {torch.float32: 1e-6, torch.bfloat16: 3e-3, torch.float16: 4e-4}
"""Of the norm of outputs and gradients, relative: a little over that of rounding them to the type, 2^-9 and 2^-12."""


def maps(dtype: torch.dtype, layout: torch.memory_format, mean: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = mean + 2 * torch.randn(2, 5, 16, 12, generator=generator, dtype=torch.float64)
    return x.to(dtype).contiguous(memory_format=layout).requires_grad_()


def off(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_and_gradients_in_double_precision(layout: torch.memory_format) -> None:
    x = maps(torch.float64, layout)
    torch.testing.assert_close(layout_norm(x), F.instance_norm(x, eps=1e-5), rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(layout_norm, (x[:, :2, :4, :3].detach().requires_grad_(),))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ROUNDING)
def test_type_and_layout_stay_and_values_are_rounded_once(dtype: torch.dtype, layout: torch.memory_format) -> None:
    x = maps(dtype, layout)
    with torch.autocast("cpu", torch.bfloat16):
        found = layout_norm(x)
    exact = x.detach().double().requires_grad_()
    wanted = F.instance_norm(exact, eps=1e-5)
    given = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(dtype).contiguous(memory_format=layout)
    (gradient,) = torch.autograd.grad(found, x, given)
    (wanted_gradient,) = torch.autograd.grad(wanted, exact, given.double())
    for ours, theirs in ((found, wanted), (gradient, wanted_gradient)):
        assert ours.dtype == dtype
        assert ours.is_contiguous(memory_format=layout)
        assert off(ours.detach(), theirs.detach()) < ROUNDING[dtype]


def test_a_mean_far_from_zero_costs_the_digits_that_are_stated() -> None:
    x = maps(torch.float32, torch.channels_last, mean=200.0)  # a hundred times the spread
    assert off(layout_norm(x).detach(), F.instance_norm(x.detach().double(), eps=1e-5)) < 3e-3


def test_a_map_of_one_value_is_zero() -> None:
    x = torch.full((1, 2, 8, 8), 7.3)
    assert float(layout_norm(x).abs().max()) < 1e-2


def test_what_it_keeps_for_the_backward_pass_is_its_input() -> None:
    x = maps(torch.bfloat16, torch.channels_last)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layout_norm(x)
    assert [tensor.numel() for tensor in kept if tensor.numel() > x.shape[0] * x.shape[1]] == [x.numel()]


@pytest.mark.parametrize(("half", "off_by", "alike"), [(False, 1e-4, 0.9999), (True, 0.05, 0.9)])
def test_a_step_that_takes_it_learns_what_one_without_learns(
    monkeypatch: pytest.MonkeyPatch, half: bool, off_by: float, alike: float
) -> None:
    """As steps on a GPU take it, with discriminators, against float32 and PyTorch's normalisation."""
    part, engines = batch(dtype=torch.float32), []
    for taken in (False, True):
        if taken:
            monkeypatch.setattr(layers, "instance_norm", layout_norm)
        made = training(dtype=torch.float32, channels_last=taken, learning_rate=1e-9)
        engines.append(PlainEngine(made.optimizers))
        with torch.autocast("cpu", torch.bfloat16, enabled=taken and half):
            made.step([part], engines[-1])
    plain, other = engines
    assert plain.losses.keys() == {"static", "patch", "temporal", "dynamics"}
    for name, losses in plain.losses.items():
        assert other.losses[name] == pytest.approx(losses, rel=off_by)
        ours, theirs = (
            torch.cat([gradient.flatten().double() for gradient in engine.gradients[name] if gradient is not None])
            for engine in (other, plain)
        )
        assert float(torch.cosine_similarity(ours, theirs, dim=0)) > alike
