"""Convolutions by transforms of tiles, and the GRU made of them, against PyTorch's convolutions and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import pytest
import torch
from peers.poking_clips import classifier
from torch import Tensor
from torch.nn import functional as F

from methods import convolution, winograd
from methods.convolution import convolve, convolve_transformed, outputs, pays, transform_weight, while_training
from methods.perceptual import Perceptual
from methods.poking.predictor import ConvGRUCell
from methods.poking.recurrence import PLAIN, _Roll, roll
from metrics.errors import MethodError

EXACT = 1e-10
"""Relative to the norm, in float64."""
ROUNDED, ROUNDED_WEIGHT = 4e-6, 8e-6
"""The same in float32; the gradient of a weight is the sum over all positions."""


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """The transforms are taken for few channels and tiles too, a few maps at a time."""
    for name in ("CHANNELS", "TILES", "TILES_AT_ONCE"):
        monkeypatch.setattr(convolution, name, 1)
    monkeypatch.setattr(convolution, "AT_ONCE", 2.0)
    monkeypatch.setattr(winograd, "IN_CACHE", 1)


def drawn(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def by_transforms(found: Tensor) -> bool:
    return type(found.grad_fn).__name__ == "_ConvolutionBackward"


def plain(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(x, weight, bias, padding=1)


def with_gradients(function: Callable[..., Tensor], *inputs: Tensor) -> Iterator[Tensor]:
    """What `function` returns, and the gradients of one number made of it."""
    inputs = tuple(one.detach().clone().requires_grad_() for one in inputs)
    found = function(*inputs)
    direction = drawn(*found.shape, dtype=found.dtype, seed=9)
    yield found.detach()
    yield from torch.autograd.grad(found, inputs, direction)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 4), (3, 5), (7, 10), (16, 8)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("together", [False, True])
@pytest.mark.usefixtures("always")
def test_equals_pytorch(
    height: int, width: int, layout: torch.memory_format, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`together`: maps are turned round together, some channels at a time."""
    if together:
        monkeypatch.setattr(winograd, "MANY", 1)
        monkeypatch.setattr(winograd, "SLICE", 4)
    x = drawn(5, 6, height, width).contiguous(memory_format=layout)
    inputs = (x, drawn(7, 6, 3, 3, seed=1), drawn(7, seed=2))
    pairs = zip(with_gradients(convolve, *inputs), with_gradients(plain, *inputs), strict=True)
    assert [relative(found, wanted) < EXACT for found, wanted in pairs] == [True] * 4
    assert by_transforms(convolve(x, inputs[1].requires_grad_()))


@pytest.mark.usefixtures("always")
def test_views_are_fine_and_inputs_stay_as_they_are() -> None:
    whole, weight = drawn(4, 12, 6, 9), drawn(5, 6, 3, 3, seed=1).requires_grad_()
    copy = whole.clone()
    for x in (whole[:, 6:], whole[::2, ::2], whole[:1, :6].expand(3, -1, -1, -1), whole.flip(3)[:, :6]):
        assert relative(convolve(x, weight).detach(), plain(x, weight.detach(), None)) < EXACT
    assert torch.equal(whole, copy)


@pytest.mark.usefixtures("always")
def test_gradcheck() -> None:
    x, weight, bias = (drawn(*shape).requires_grad_() for shape in ((2, 2, 5, 3), (3, 2, 3, 3), (3,)))
    assert torch.autograd.gradcheck(convolve, (x, weight, bias))
    with pytest.raises(MethodError, match="differentiated twice"):
        torch.autograd.grad(convolve(x, weight, bias).square().sum(), x, create_graph=True)


@pytest.mark.parametrize(("channels", "side"), [(128, 32), (256, 16)])
def test_rounding(channels: int, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "onednn_pays", lambda: False)  # 128 channels are enough; products are as they are
    x, weight = drawn(4, channels, side, side), drawn(128, channels, 3, 3, seed=1) / (9 * channels) ** 0.5
    wanted = with_gradients(plain, x, weight, drawn(128, seed=2))
    found = with_gradients(convolve, *(one.float() for one in (x, weight, drawn(128, seed=2))))
    errors = [relative(one, exact) for one, exact in zip(found, wanted, strict=True)]
    assert errors[0] < ROUNDED
    assert errors[1] < ROUNDED
    assert errors[2] < ROUNDED_WEIGHT
    assert by_transforms(convolve(x.float(), weight.float().requires_grad_()))


def test_where_the_transforms_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "onednn_pays", lambda: True)
    for channels, taken in ((128, False), (256, True)):
        x, shape = torch.empty(4, channels, 16, 16), (channels, channels, 3, 3)
        assert pays(x, shape) == taken
        assert pays(x, shape, uses=10)
    monkeypatch.setattr(convolution, "onednn_pays", lambda: False)
    x, weight = torch.empty(4, 128, 16, 16), (128, 128, 3, 3)
    assert pays(x, weight)
    assert pays(x.double(), weight)
    assert not pays(x.bfloat16(), weight)
    assert not pays(x.to("meta"), weight)
    assert not pays(x[:3], weight)
    assert not pays(x[:3], (64, 128, 3, 3), uses=10)
    assert pays(x[:3], weight, uses=10)
    assert not pays(x[:1, :, :8], weight, uses=10)
    with torch.autocast("cpu", torch.bfloat16):
        assert not pays(x, weight)


@pytest.mark.usefixtures("always")
def test_predictions_keep_the_sums_of_pytorch() -> None:
    x, weight = drawn(2, 3, 8, 8), drawn(4, 3, 3, 3, seed=1).requires_grad_()
    with torch.no_grad():
        assert torch.equal(convolve(x, weight), plain(x, weight, None))
    assert torch.equal(convolve(x, weight.detach()), plain(x, weight.detach(), None))


@pytest.mark.usefixtures("always")
def test_what_losses_compare_with_does_without_these_sums() -> None:
    x, weight = drawn(2, 3, 8, 8), drawn(4, 3, 3, 3, seed=1).requires_grad_()
    with torch.no_grad(), while_training():
        assert torch.equal(convolve(x, weight), outputs(x, transform_weight(weight)))
    with torch.no_grad():
        assert torch.equal(convolve(x, weight), plain(x, weight, None))


def by_steps(cell: ConvGRUCell, drives: list[Tensor], state: Tensor) -> Tensor:
    """The definition, gate by gate."""
    states, low = [], cell.inputs
    for drive in drives:
        of_update, of_reset, of_out = drive.chunk(3, dim=1)
        update = torch.sigmoid(of_update + plain(state, cell.update_gate.weight[:, low:], None))
        reset = torch.sigmoid(of_reset + plain(state, cell.reset_gate.weight[:, low:], None))
        content = torch.tanh(of_out + plain(reset * state, cell.out_gate.weight[:, low:], None))
        state = (1 - update) * state + update * content
        states.append(state)
    return torch.cat(states)


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("moves_state", [False, True])
@pytest.mark.usefixtures("always")
def test_roll_equals_steps(repeated: bool, moves_state: bool) -> None:
    torch.manual_seed(0)
    cell = ConvGRUCell(2, 3).double()
    state = drawn(2, 3, 6, 5).requires_grad_(moves_state)
    leaves = [drawn(2, 9, 6, 5, seed=seed).requires_grad_() for seed in ((4,) if repeated else (4, 5, 6))]
    drives = leaves * (3 // len(leaves))
    weights = [gate.weight for gate in (cell.update_gate, cell.reset_gate, cell.out_gate)]
    moved = [*leaves, *weights, *([state] if moves_state else [])]
    found, wanted = cell(drives, state), by_steps(cell, drives, state)
    assert "Roll" in type(found.grad_fn).__name__
    assert relative(found.detach(), wanted.detach()) < EXACT
    direction = drawn(*found.shape, seed=7)
    ours, theirs = (torch.autograd.grad(one, moved, direction) for one in (found, wanted))
    assert all(relative(a, b) < EXACT for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_roll_by_pytorchs_kernels_equals_steps(layout: torch.memory_format) -> None:
    """As on a GPU, where maps have channels innermost."""
    torch.manual_seed(0)
    cell = ConvGRUCell(2, 3).double()
    state = drawn(2, 3, 6, 5).contiguous(memory_format=layout).requires_grad_()
    drives = [drawn(2, 9, 6, 5, seed=seed).contiguous(memory_format=layout).requires_grad_() for seed in (4, 5, 6)]
    _, *weights = cell._weights()
    found = cast(Tensor, _Roll.apply(PLAIN, state, *weights, *drives))
    wanted = by_steps(cell, drives, state)
    assert relative(found.detach(), wanted.detach()) < EXACT
    direction = drawn(*found.shape, seed=7)
    moved = [state, *drives, *(gate.weight for gate in (cell.update_gate, cell.reset_gate, cell.out_gate))]
    ours, theirs = (torch.autograd.grad(one, moved, direction) for one in (found, wanted))
    assert all(relative(a, b) < EXACT for a, b in zip(ours, theirs, strict=True))


def test_roll_in_half_precision_is_near_the_steps_in_float32() -> None:
    torch.manual_seed(0)
    cell = ConvGRUCell(4, 8)
    state = drawn(2, 8, 6, 5, dtype=torch.float32).requires_grad_()
    drives = [drawn(2, 24, 6, 5, seed=seed, dtype=torch.float32).requires_grad_() for seed in (4, 5, 6)]
    _, *weights = cell._weights()
    with torch.autocast("cpu", torch.bfloat16):
        found = roll([drive.bfloat16() for drive in drives], state, *weights, tiled=False)
    wanted = by_steps(cell, drives, state)
    assert found.dtype == torch.float32
    assert relative(found.detach(), wanted.detach()) < 0.01
    moved = [state, *drives, *(gate.weight for gate in (cell.update_gate, cell.reset_gate, cell.out_gate))]
    ours, theirs = (torch.autograd.grad(one.square().sum(), moved) for one in (found, wanted))
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == torch.float32
        assert relative(a, b) < 0.02


@pytest.mark.usefixtures("always")
def test_mixed_precision_trains_with_pytorchs_kernels() -> None:
    torch.manual_seed(0)
    cell = ConvGRUCell(2, 3)
    x = drawn(2, 2, 6, 5, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        drive = cell.drive(x)
        found = cell([drive, drive], drawn(2, 3, 6, 5, dtype=torch.float32))
        direct = convolve(x, cell.out_gate.weight[:, :2], cell.out_gate.bias)
        assert torch.equal(direct, plain(x, cell.out_gate.weight[:, :2], cell.out_gate.bias))
    assert drive.dtype == torch.bfloat16
    found.float().square().mean().backward()
    for name, parameter in cell.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.abs().sum() > 0, name


def test_frozen_features(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = classifier("vgg16", shrink=16)
    images = drawn(2, 3, 32, 32).clamp(-1, 1).requires_grad_()

    def run(network: Perceptual) -> tuple[list[Tensor], Tensor]:
        maps = network(images)
        (gradient,) = torch.autograd.grad(sum(one.square().mean() for one in maps), images)
        return [one.detach() for one in maps], gradient

    wanted, wanted_gradient = run(Perceptual("vgg16", 5, tensors).double())
    for name in ("CHANNELS", "TILES", "TILES_AT_ONCE"):
        monkeypatch.setattr(convolution, name, 1)
    network = Perceptual("vgg16", 5, tensors).double()
    found, gradient = run(network)
    assert max(relative(ours, theirs) for ours, theirs in zip(found, wanted, strict=True)) < EXACT
    assert relative(gradient, wanted_gradient) < EXACT
    single = network.float()(images.detach().float())  # the weights are transformed anew
    assert {one.dtype for one in single} == {torch.float32}
    assert relative(single[-1], wanted[-1]) < 1e-5


def test_a_transformed_weight_serves_many_convolutions() -> None:
    weight, maps = drawn(4, 3, 3, 3).requires_grad_(), [drawn(2, 3, 5, 6, seed=seed) for seed in (1, 2)]
    points = transform_weight(weight)
    loss = sum(convolve_transformed(x, points).square().sum() for x in maps)
    wanted = sum(plain(x, weight, None).square().sum() for x in maps)
    assert isinstance(loss, Tensor)
    assert isinstance(wanted, Tensor)
    gradients = (torch.autograd.grad(one, weight)[0] for one in (loss, wanted))
    assert relative(*gradients) < EXACT
