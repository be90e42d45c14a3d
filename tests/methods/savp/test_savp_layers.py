"""Each layer of SAVP beside its definition, written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from methods.savp.config import RECIPES, SavpConfig
from methods.savp.discriminator import VideoDiscriminator, discriminators, spectral
from methods.savp.layers import (
    ConvLstm,
    DownConvolution,
    InstanceNorm,
    LatentLstm,
    UpConvolution,
    transformation_kernels,
    transformed,
    with_latent,
)
from methods.savp.network import Generator


@pytest.fixture(autouse=True)
def doubles() -> None:
    torch.manual_seed(3)


def randomised(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.double()


@pytest.mark.parametrize("side", [3, 5])
def test_down_convolution_is_a_convolution_then_a_mean_then_the_bias(side: int) -> None:
    layer = randomised(DownConvolution(4, 6, side))
    x = torch.rand(2, 4, 12, 10).double()
    plain = functional.avg_pool2d(functional.conv2d(x, layer.weight, padding=side // 2), 2)
    torch.testing.assert_close(layer(x, layer.kernel()), plain + layer.bias[:, None, None])


def test_up_convolution_is_bilinear_upsampling_with_a_zero_border_then_a_convolution() -> None:
    layer = randomised(UpConvolution(4, 6))
    x = torch.rand(2, 4, 5, 7).double()
    wide = functional.interpolate(functional.pad(x, (1, 1, 1, 1)), scale_factor=2, mode="bilinear", align_corners=False)
    plain = functional.conv2d(wide[..., 1:-1, 1:-1], layer.weight, layer.bias)
    assert plain.shape == (2, 6, 10, 14)
    torch.testing.assert_close(layer(x, layer.kernel()), plain)


def test_instance_norm_by_hand() -> None:
    layer = randomised(InstanceNorm(3))
    x = torch.rand(2, 3, 4, 4).double()
    mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=0, keepdim=True)
    expected = (x - mean) / (variance + 1.001e-5).sqrt() * layer.weight[:, None, None] + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer(x, torch.ones(3)), expected + 1)


def test_latent_lstm_is_the_plain_one_with_a_forget_bias_of_one() -> None:
    own = randomised(LatentLstm(5))
    peer = nn.LSTM(5, 5, batch_first=True).double()
    i, j, f, o = own.weight.detach().chunk(4)
    bi, bj, bf, bo = own.bias.detach().chunk(4)
    weight, bias = torch.cat([i, f, j, o]), torch.cat([bi, bf + 1, bj, bo])
    state = {"weight_ih_l0": weight[:, :5], "weight_hh_l0": weight[:, 5:], "bias_ih_l0": bias, "bias_hh_l0": 0 * bias}
    peer.load_state_dict(state)
    z = torch.randn(3, 7, 5).double()
    outputs, _ = peer(z)
    found, after = own(z, None)
    torch.testing.assert_close(found, outputs)
    first, between = own(z[:, :3], None)
    second, end = own(z[:, 3:], between)
    torch.testing.assert_close(torch.cat([first, second], 1), outputs)
    torch.testing.assert_close(after, end)


def test_conv_lstm_by_hand() -> None:
    layer = randomised(ConvLstm(3, 2))
    x, cell, hidden = (torch.rand(2, n, 6, 6).double() for n in (5, 3, 3))
    mapped = layer.gates(functional.conv2d(torch.cat([x, hidden], 1), layer.weight, padding=2))
    i, j, f, o = mapped.split(3, 1)
    new = layer.state(cell * torch.sigmoid(f + 1) + torch.sigmoid(i) * torch.tanh(j))
    found = layer(x, (cell, hidden))
    torch.testing.assert_close(found[0], new)
    torch.testing.assert_close(found[1], torch.tanh(new) * torch.sigmoid(o))


def test_transformations_by_hand() -> None:
    """Against a loop over numpy's symmetric padding."""
    raw, image = torch.randn(2, 100).double() * 0.2, torch.rand(2, 3, 6, 7).double()
    kernels = transformation_kernels(raw)
    found = transformed(image, kernels).unflatten(1, (4, 3))
    for n in range(2):
        taps = raw[n].numpy().reshape(5, 5, 4).copy()
        taps[2, 2] += 1
        taps = np.maximum(taps - 1e-12, 0) + 1e-12
        taps /= taps.sum((0, 1))
        padded = np.pad(image[n].numpy(), ((0, 0), (2, 2), (2, 2)), mode="symmetric")
        for k in range(4):
            expected = sum(taps[r, c, k] * padded[:, r : r + 6, c : c + 7] for r in range(5) for c in range(5))
            np.testing.assert_allclose(found[n, k].numpy(), expected, rtol=1e-12)


def test_the_identity_kernel_leaves_the_image() -> None:
    image = torch.rand(1, 3, 8, 8).double()
    assert transformed(image, transformation_kernels(torch.zeros(1, 100).double())).sub(
        image.repeat(1, 4, 1, 1)
    ).abs().max() == pytest.approx(0, abs=1e-10)


def test_the_latent_comes_last() -> None:
    a, b, z = torch.rand(2, 3, 4, 4), torch.rand(2, 1, 4, 4), torch.rand(2, 5)
    found = with_latent([a, b], z)
    assert torch.equal(found[:, :4], torch.cat([a, b], 1))
    assert torch.equal(found[:, 4:, 2, 3], z)
    assert with_latent([a], None) is a


def test_spectral_norm_converges_to_the_largest_singular_value() -> None:
    weight, u = torch.randn(6, 4, 3, 3).double(), torch.randn(1, 6).double()
    for _ in range(200):
        normalised, u = spectral(weight, u)
    assert torch.linalg.matrix_norm(normalised.flatten(1), 2) == pytest.approx(1, rel=1e-9)
    assert torch.linalg.vector_norm(u) == pytest.approx(1, rel=1e-9)


def test_gradients_flow_through_the_power_iteration() -> None:
    weight, u = torch.randn(3, 4).double().requires_grad_(), torch.randn(1, 3).double()
    assert torch.autograd.gradcheck(lambda w: spectral(w, u)[0], weight)

    def detached(w: Tensor) -> Tensor:
        v = functional.normalize(u @ w.detach())
        left = functional.normalize(v @ w.detach().T)
        return w / (v @ w.T * left).sum()

    probe = torch.randn(3, 4).double()
    through = torch.autograd.grad((spectral(weight, u)[0] * probe).sum(), weight)[0]
    around = torch.autograd.grad((detached(weight) * probe).sum(), weight)[0]
    assert (through - around).norm() > 1e-3 * around.norm()


@pytest.mark.parametrize(("length", "times"), [(10, [10, 9, 9, 8, 8, 4, 4]), (11, [11, 10, 10, 9, 9, 4, 4])])
def test_sizes_in_the_discriminator(length: int, times: list[int]) -> None:
    judge = VideoDiscriminator(2, length)
    weights, estimates = judge.weights()
    logits, features = judge(torch.rand(1, length, 3, 64, 64), weights)
    assert logits.shape == (1,)
    assert [feature.shape[2] for feature in features] == times
    assert [feature.shape[3] for feature in features] == [64, 32, 32, 16, 16, 8, 8]
    judge.store(estimates)
    assert torch.equal(judge.dense.u, estimates[-1])


@pytest.mark.parametrize(
    ("config", "generator", "judges"),
    [
        (SavpConfig(), 7_349_993, 2 * 5_144_001),
        (RECIPES["paper-gan-only"].model, 7_349_993, 5_144_001),
        (RECIPES["paper-vae-only"].model, 7_349_993, 0),
        (RECIPES["small"].model, 1_299_733, 2 * 334_449),
    ],
)
def test_parameter_counts(config: SavpConfig, generator: int, judges: int) -> None:
    """The authors' 17,637,995 trainable parameters, and 1,858 numbers in singular vectors."""
    with torch.device("meta"):
        made, found = Generator(config), discriminators(config)
    assert sum(p.numel() for p in made.parameters()) == generator
    assert (sum(p.numel() for p in found.parameters()) if found else 0) == judges
    if config == SavpConfig() and found is not None:
        assert sum(p.numel() for p in made.encoder.parameters()) == 666_832
        assert sum(p.numel() for n, p in made.named_parameters() if not n.startswith("encoder")) == 6_683_161
        assert generator + judges == 17_637_995
        assert sum(b.numel() for b in found.buffers()) == 1_858
