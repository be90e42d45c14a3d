"""Layers and objective of IVRNN against plain formulas, on small sizes in float64."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from methods.ivrnn.config import RECIPES, SMALL_WIDTHS, IVRNNConfig, Latent
from methods.ivrnn.layers import Block, ConvLSTM, InitialState, PlainConvLSTM, Residual
from methods.ivrnn.network import Gaussian, ImprovedVRNN, LatentBranch
from methods.ivrnn.objective import beta, divergence, learning_rate, reconstruction


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """In float64, with every parameter random, norms too."""
    for parameter in module.double().parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


@pytest.mark.parametrize("groups", [16, 4])
def test_conv_lstm_is_its_equations(groups: int) -> None:
    cell = randomised(ConvLSTM(3, 16, groups))
    inputs, hidden, c = torch.randn(2, 3, 3, 4, 4).double(), torch.randn(2, 16, 4, 4).double(), torch.randn(2, 16, 4, 4)
    out, (last, carried) = cell(inputs, (hidden, c.double()))
    c = c.double()
    for t in range(3):
        driven = functional.conv2d(inputs[:, t], cell.input_conv.weight, cell.input_conv.bias, padding=1)
        recurrent = functional.conv2d(hidden, cell.hidden_conv.weight, cell.hidden_conv.bias, padding=1)
        gates = normalised(driven, groups, cell.input_norm) + normalised(recurrent, groups, cell.hidden_norm)
        i, f, o, g = gates[:, :16], gates[:, 16:32], gates[:, 32:48], gates[:, 48:]
        c = normalised(f.sigmoid() * c + i.sigmoid() * g.tanh(), groups, cell.cell_norm)
        hidden = o.sigmoid() * c.tanh()
        torch.testing.assert_close(out[:, t], hidden)
    torch.testing.assert_close(last, hidden)
    torch.testing.assert_close(carried, c)


def normalised(x: Tensor, groups: int, norm: torch.nn.GroupNorm) -> Tensor:
    parts = x.unflatten(1, (groups, -1)).flatten(2)
    centred = parts - parts.mean(dim=2, keepdim=True)
    scaled = centred / (centred.square().mean(dim=2, keepdim=True) + 1e-5).sqrt()
    return scaled.reshape(x.shape) * norm.weight[:, None, None] + norm.bias[:, None, None]


@pytest.mark.parametrize("made", [ConvLSTM(3, 16, 4), PlainConvLSTM(3, 16)], ids=["normalised", "plain"])
def test_a_recurrence_in_one_run_or_step_by_step_is_the_same(made: torch.nn.Module) -> None:
    cell = randomised(made)
    inputs = torch.randn(2, 4, 3, 4, 4).double()
    state = (torch.randn(2, 16, 4, 4).double(), torch.randn(2, 16, 4, 4).double())
    whole, end = cell(inputs, state)
    for t in range(4):
        step, state = cell(inputs[:, t : t + 1], state)
        torch.testing.assert_close(step[:, 0], whole[:, t])
    torch.testing.assert_close(state, end)


def test_plain_conv_lstm_has_no_norm() -> None:
    cell = randomised(PlainConvLSTM(3, 16))
    x, hidden, c = (torch.randn(1, n, 1, 1).double() for n in (3, 16, 16))
    gates = cell.gates.weight[:, :, 1, 1] @ torch.cat([x, hidden], dim=1).flatten() + cell.gates.bias
    i, f, o, g = gates.unflatten(0, (4, 16))
    expected = f.sigmoid() * c.flatten() + i.sigmoid() * g.tanh()
    out, (_, carried) = cell(x[:, None], (hidden, c))
    torch.testing.assert_close(carried.flatten(), expected)
    torch.testing.assert_close(out.flatten(), o.sigmoid() * expected.tanh())


@pytest.mark.parametrize(("inputs", "outputs", "shortcut"), [(16, 16, False), (16, 32, True), (32, 16, True)])
def test_residual_widths(inputs: int, outputs: int, shortcut: bool) -> None:
    block = Residual(inputs, outputs, 4)
    assert (block.shortcut is not None) == shortcut
    assert block.conv1.out_channels == min(inputs, outputs)
    torch.nn.init.zeros_(block.norm2.weight)
    x = torch.randn(2, inputs, 5, 5)
    straight = x if block.shortcut is None else block.shortcut(x)
    torch.testing.assert_close(block(x), straight + 0.1 * block.norm2.bias[:, None, None])


def test_the_initial_state_joins_frames_first_frame_first() -> None:
    start = InitialState(2, 16, 16, 1, 4)
    seen: list[Tensor] = []
    start.join.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    context = torch.randn(1, 2, 16, 2, 2)
    hidden, cell = start(context)
    torch.testing.assert_close(seen[0][:, :16], context[:, 0])
    torch.testing.assert_close(torch.cat([hidden, cell], dim=1), start.norm(start.project(start.join(seen[0]))))


def test_transposed_convolutions_start_with_the_bound_of_the_input_channels() -> None:
    conv = Block(torch.nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1), 4).conv
    bound = 1 / math.sqrt(64 * 16)
    assert 0.98 * bound < float(conv.weight.detach().abs().max()) <= bound


def test_at_first_the_prior_and_the_posterior_are_nearly_the_same() -> None:
    config = IVRNNConfig(widths=SMALL_WIDTHS)
    branch = LatentBranch(config, 1, dense=True)
    gaussian = branch.gaussian(torch.randn(2, 3, 64, 8, 8), [torch.randn(2, 3, 10, 1, 1)])
    assert float(gaussian.mean.detach().abs().max()) < 0.006
    torch.testing.assert_close(gaussian.logvar.exp(), torch.full_like(gaussian.logvar, math.log(2)), rtol=0.01, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_log_variance_is_right_and_finite_for_any_value(dtype: torch.dtype) -> None:
    branch = LatentBranch(IVRNNConfig(widths=SMALL_WIDTHS), 0, dense=False).to(dtype)
    raw = torch.tensor([-500, -120, -41, -39.9, -10, 0, 3, 200, 1, 1], dtype=dtype)
    branch.head_norm.bias = torch.nn.Parameter(torch.cat([torch.zeros_like(raw), raw]))
    logvar = branch.gaussian(torch.randn(1, 1, 64, 1, 1, dtype=dtype), []).logvar
    exact = [value if value < -60 else math.log(math.log1p(math.exp(value))) for value in raw.tolist()]
    torch.testing.assert_close(logvar.flatten().tolist(), exact, rtol=1e-6, atol=1e-6)
    logvar.sum().backward()
    expected = torch.sigmoid(raw.double()) / functional.softplus(raw.double())
    expected[:2] = 1
    torch.testing.assert_close(branch.head_norm.bias.grad[10:].double(), expected, rtol=1e-5, atol=1e-6)


def test_the_order_of_what_a_head_sees() -> None:
    features, above = torch.randn(1, 1, 64, 8, 8), [torch.randn(1, 1, 64, 1, 1)]
    for variant, first in (("hierarchical", "latents"), ("dense-prior", "features")):
        branch = LatentBranch(IVRNNConfig(variant=variant, widths=SMALL_WIDTHS, top_latent=64), 1, dense=True)
        seen: list[Tensor] = []
        branch.head.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
        branch.gaussian(features, above)
        enlarged = above[0][0].expand(-1, -1, 8, 8)
        expected = [enlarged, features[0]] if first == "latents" else [features[0], enlarged]
        torch.testing.assert_close(seen[0], torch.cat(expected, dim=1))


def gaussian(*shape: int) -> Gaussian:
    return Gaussian(torch.randn(shape).double(), 0.3 * torch.randn(shape).double())


def test_the_divergence_is_the_difference_of_log_densities() -> None:
    q, p = gaussian(2, 3, 4, 2, 2), gaussian(2, 3, 4, 2, 2)
    z = q.sample(torch.randn(2, 3, 4, 2, 2).double())
    dq, dp = (Normal(g.mean, (0.5 * g.logvar).exp()) for g in (q, p))
    torch.testing.assert_close(divergence(q, p, z, "sampled"), (dq.log_prob(z) - dp.log_prob(z)).sum() / 2)
    torch.testing.assert_close(divergence(q, p, z, "closed-form"), kl_divergence(dq, dp).sum() / 2)


def test_the_closed_form_is_the_mean_of_the_sampled_divergence() -> None:
    q, p = gaussian(1, 1, 3, 1, 1), gaussian(1, 1, 3, 1, 1)
    many = 40_000
    q_many, p_many = (Gaussian(*(part.expand(many, -1, -1, -1, -1) for part in g)) for g in (q, p))
    z = q_many.sample(torch.randn(q_many.mean.shape).double())
    exact = divergence(q, p, q.mean, "closed-form")
    assert float(divergence(q_many, p_many, z, "sampled")) == pytest.approx(float(exact), rel=0.03)


def test_reconstruction_is_a_sum_over_all_but_clips() -> None:
    predicted, target = torch.rand(2, 3, 3, 4, 4).double(), torch.rand(2, 3, 3, 4, 4).double()
    assert float(reconstruction(predicted, target, "l1")) == pytest.approx(float((predicted - target).abs().sum() / 2))
    assert float(reconstruction(predicted, target, "l2")) == pytest.approx(float((predicted - target).pow(2).sum() / 2))
    bce = -(target * predicted.log() + (1 - target) * (1 - predicted).log()).sum() / 2
    assert float(reconstruction(predicted, target, "bce")) == pytest.approx(float(bce))


def test_the_weight_of_the_divergence_rises_from_the_first_step_and_stays() -> None:
    config = IVRNNConfig(beta=0.5, beta_warmup=10)
    assert [beta(config, i) for i in (0, 4, 9, 10, 500)] == pytest.approx([0.05, 0.25, 0.5, 0.5, 0.5])
    assert beta(IVRNNConfig(beta=0.5), 0) == 0.5


def test_the_learning_rate_ramp_goes_to_the_rate_of_the_batch() -> None:
    config = IVRNNConfig(ramp_steps=100)
    rates = [learning_rate(config, i, 64) for i in (0, 50, 100, 900)]
    assert rates == pytest.approx([1e-4, 2.5e-4, 4e-4, 4e-4])
    assert learning_rate(IVRNNConfig(), 50, 64) == 1e-4


def test_the_levels_of_latents() -> None:
    assert IVRNNConfig().latents == (Latent(5, 10, 1), Latent(3, 512, 8), Latent(1, 128, 32))
    assert IVRNNConfig(variant="flat").latents == (Latent(5, 10, 1),)
    assert IVRNNConfig(variant="dense-prior").latents == (Latent(5, 512, 1), Latent(3, 512, 8), Latent(1, 128, 32))


def test_the_recipes() -> None:
    names = [size + kind for kind in ("", "-flat", "-dense-prior") for size in ("paper", "small")]
    assert list(RECIPES) == names
    for name, recipe in RECIPES.items():
        config = recipe.model
        assert isinstance(config, IVRNNConfig)
        assert config.recipe == name
        assert name.partition("-")[2] == ("" if config.variant == "hierarchical" else config.variant)
        assert recipe.data == {"size": 64, "context": 2, "horizon": 10}
        assert {"batch_size", "steps"} <= recipe.loop.keys()


@pytest.mark.parametrize("name", ["small", "small-flat", "small-dense-prior"])
def test_the_small_size_is_small(name: str) -> None:
    with torch.device("meta"):
        network = ImprovedVRNN(RECIPES[name].model)
    assert 1e6 < sum(parameter.numel() for parameter in network.parameters()) < 4e6


def test_widths_must_fit_the_norms() -> None:
    with pytest.raises(ValidationError, match="multiples of 16"):
        IVRNNConfig(widths=(16, 16, 24, 64, 64, 64))
    with pytest.raises(ValidationError, match="at least 32"):
        IVRNNConfig(widths=(16, 16, 16, 16, 16, 16))
    with pytest.raises(ValidationError, match="multiples of 4"):
        IVRNNConfig(widths=(6, 16, 24, 64, 64, 64), groups=2)
    with pytest.raises(ValidationError, match="extra"):
        IVRNNConfig(n_z=10)
