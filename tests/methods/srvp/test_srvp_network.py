"""Sizes, initial weights, and the pieces of the forward pass."""

from __future__ import annotations

import pytest
import torch
from peers.srvp_tiny import decoded_with_concatenation, tiny_network

from methods.srvp.config import RECIPES, SRVPConfig
from methods.srvp.network import SRVPNetwork, mean_and_std
from methods.srvp.objective import SRVPTraining

MMNIST = {"architecture": "dcgan", "skips": False, "channels": 1, "state": 20, "noise": 20}
COUNTS = [
    ({}, [8_686_784, 13_278_144, 33_024, 65_792, 157_284, 395_264, 25_700, 602_724, 602_674], 11_029),
    (
        {"conditioning": 3},
        [8_686_784, 13_278_144, 33_024, 65_792, 190_052, 395_264, 25_700, 602_724, 602_674],
        11_029,
    ),
    (
        {"conditioning": 3, "channels": 1},
        [8_685_632, 13_276_992, 33_024, 65_792, 190_052, 395_264, 25_700, 602_724, 602_674],
        11_029,
    ),
    (
        {"conditioning": 5, **MMNIST},
        [3_804_160, 5_016_448, 33_024, 65_792, 240_168, 395_264, 10_280, 556_584, 556_564],
        3_976,
    ),
    (
        {"architecture": "dcgan"},
        [3_806_208, 8_019_840, 33_024, 65_792, 157_284, 395_264, 25_700, 602_724, 602_674],
        3_976,
    ),
]
PARTS = (
    "encoder",
    "decoder",
    "content_frame",
    "content_sum",
    "first_state",
    "inference",
    "posterior",
    "prior",
    "dynamics",
)


@pytest.mark.parametrize(("fields", "counts", "buffers"), COUNTS)
def test_parameter_counts_are_the_authors(fields: dict, counts: list[int], buffers: int) -> None:
    with torch.device("meta"):
        network = SRVPNetwork(SRVPConfig(**fields))
    found = [sum(p.numel() for p in network.get_submodule(part).parameters()) for part in PARTS]
    assert found == counts
    assert sum(p.numel() for p in network.parameters()) == sum(counts)
    assert sum(b.numel() for b in network.buffers()) == buffers


@pytest.mark.parametrize(("recipe", "low", "high"), [("small", 1e6, 4e6), ("small-dcgan", 1e6, 4e6)])
def test_small_recipes_are_small(recipe: str, low: float, high: float) -> None:
    with torch.device("meta"):
        network = SRVPNetwork(RECIPES[recipe].model)
    assert low < sum(p.numel() for p in network.parameters()) < high


def test_every_recipe_says_its_name_and_data() -> None:
    for name, recipe in RECIPES.items():
        assert recipe.model.name == name
        assert dict(recipe.data) == {"size": 64, "context": 2, "horizon": 10}
        assert recipe.summary
    bair, human = RECIPES["paper-bair"], RECIPES["paper"]
    assert round(bair.model.decay * bair.loop["steps"]) == 500_000
    assert round(human.model.decay * human.loop["steps"]) == 25_000


@pytest.mark.parametrize("architecture", ["vgg", "dcgan"])
def test_initial_weights(architecture: str) -> None:
    config = SRVPConfig(architecture=architecture, filters=16, residual_gain=1.3)
    network = SRVPTraining(config, seed=1).network
    for side in (network.encoder, network.decoder):
        weights = dict(side.named_parameters())
        convolutions = torch.cat([v.flatten() for n, v in weights.items() if n.endswith("conv.weight")])
        scales = torch.cat([v.flatten() for n, v in weights.items() if n.endswith("norm.weight")])
        assert convolutions.mean().abs() < 1e-4
        assert abs(convolutions.std() - 0.02) < 1e-4
        assert abs(scales.mean() - 1) < 0.01
        assert abs(scales.std() - 0.02) < 0.005
        assert all((v == 0).all() for n, v in weights.items() if n.endswith("norm.bias"))
        assert not any(n.endswith("conv.bias") for n in weights)
    for layer in network.dynamics.layers:
        wide = layer.weight if layer.weight.shape[0] <= layer.weight.shape[1] else layer.weight.T
        torch.testing.assert_close(wide @ wide.T, 1.3**2 * torch.eye(len(wide)), atol=1e-5, rtol=0)
        assert (layer.bias == 0).all()


@pytest.mark.parametrize("architecture", ["vgg", "dcgan"])
@pytest.mark.parametrize("skips", [True, False])
def test_a_shared_skip_is_a_concatenated_one(architecture: str, skips: bool) -> None:
    network = tiny_network(architecture=architecture, skips=skips).double().eval()
    clips, frames = 3, 4
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(clips * frames, 9, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        _, features = network.encode(torch.rand(clips, 1, 3, 64, 64, generator=generator, dtype=torch.float64))
        given = [feature[:, 0] for feature in features]
        assert len(given) == (4 if skips else 0)
        found = network.decoder(vectors, network.decoder.skip_terms(given)).unflatten(0, (clips, frames))
        for clip in range(clips):
            rows = vectors[clip * frames : (clip + 1) * frames]
            known = decoded_with_concatenation(network, rows, [feature[clip : clip + 1] for feature in given])
            torch.testing.assert_close(found[clip], known, atol=1e-12, rtol=0)
    assert found.std() > 0.01


def test_skips_matter_where_there_are_some() -> None:
    network = tiny_network().eval()
    content, states = torch.zeros(1, 6), torch.zeros(1, 2, 3)
    with torch.no_grad():
        made = []
        for value in (0.2, 0.8):
            _, features = network.encode(torch.full((1, 1, 3, 64, 64), value))
            terms = network.decoder.skip_terms([feature[:, 0] for feature in features])
            made.append(network.decode(content, states, terms))
    assert (made[0] - made[1]).abs().max() > 1e-3


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_dynamics_step_by_step(steps: int) -> None:
    network = tiny_network(euler_steps=steps).double().eval()
    generator = torch.Generator().manual_seed(1)
    first, posteriors, eps = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((2, 3), (2, 2, 8), (2, 5, 4))
    )
    with torch.no_grad():
        path = network.evolve(first, posteriors, eps)
        y = first
        for t in range(5):
            mean, std = mean_and_std(posteriors[:, t] if t < 2 else network.prior(y))
            z = mean + std * eps[:, t]
            torch.testing.assert_close(path.noises[:, t], z)
            for step in range(steps):
                residual = network.dynamics(torch.cat([y, z], 1)) / steps
                torch.testing.assert_close(path.residuals[:, t * steps + step], residual)
                y = y + residual
            torch.testing.assert_close(path.states[:, t + 1], y)
    assert path.residuals.shape == (2, 5 * steps, 3)


def test_evaluation_uses_the_running_statistics() -> None:
    network = tiny_network().eval()
    frames = torch.rand(2, 3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        alone = network.encode(frames[:1])[0]
        torch.testing.assert_close(network.encode(frames)[0][:1], alone)
        before = {name: value.clone() for name, value in network.named_buffers()}
        network.train().encode(frames)
        assert not torch.allclose(network.encode(frames)[0][:1], alone)
    assert all(not torch.equal(v, before[n]) for n, v in network.encoder.named_buffers(prefix="encoder"))


def test_content_does_not_depend_on_the_order_of_frames() -> None:
    network = tiny_network()
    codes = torch.randn(2, 3, 8)
    torch.testing.assert_close(network.content(codes), network.content(codes.flip(1)))
