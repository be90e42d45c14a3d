"""The method as users build it: own weights, the authors' checkpoints, errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from methods.hao.adapter import Hao
from methods.hao.config import HaoConfig
from methods.hao.network import HaoNetwork
from methods.hao.objective import HaoTraining
from methods.hao.official import PREFIX, STATE, read_official
from methods.hao.trajectories import trajectory_map
from methods.interface import Conditioning
from methods.registry import build_method
from methods.weights_file import save_weights
from metrics.cache import sha256_of
from metrics.errors import MethodError

CONFIG = HaoConfig(name="tiny", size=32, width=2)


def network(batch_norm: bool = True) -> HaoNetwork:
    """Random weights, and batch norm that has seen something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = HaoNetwork(2, batch_norm)
        for _ in range(3):
            made(torch.rand(4, 3, 32, 32), torch.zeros(4, 6, 32, 32))
    return made


def conditioning(clips: int = 3, horizon: int = 4) -> Conditioning:
    generator = torch.Generator().manual_seed(1)
    context = torch.rand(clips, 2, 3, 32, 32, generator=generator)
    tracks = torch.rand(clips, 5, horizon + 1, 2, generator=generator) * 31
    return Conditioning(context, [f"clip-{row}" for row in range(clips)], horizon, tracks=tracks)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "hao.safetensors"
    save_weights(path, network().state_dict(), "hao", CONFIG)
    return path


def official_state(batch_norm: bool = True) -> dict[str, Tensor]:
    return {f"{PREFIX}{key}": value for key, value in network(batch_norm).state_dict().items()}


def test_frames_are_independent_warps_of_x0(weights: Path) -> None:
    method = build_method(f"hao:checkpoint={weights}")
    method.prepare(torch.device("cpu"))
    shown = conditioning()
    found = method.predict(shown, samples=1, seed=0)
    assert found.shape == (3, 1, 4, 3, 32, 32)
    assert found.dtype == torch.float32
    assert 0 <= found.min() < found.max() <= 1
    own = network().eval()
    for t in range(4):
        trajectories = trajectory_map(shown.tracks[:, :, 0], shown.tracks[:, :, t + 1], 32, 32)
        with torch.no_grad():
            expected = own.predict(shown.x0, trajectories).frame
        torch.testing.assert_close(found[:, 0, t], expected)


def test_a_clip_does_not_depend_on_its_batch_nor_a_frame_on_the_horizon(weights: Path) -> None:
    method = Hao(checkpoint=weights)
    shown = conditioning()
    together = method.predict(shown, 1, 0)
    for rows in ([2], [1, 0]):
        assert torch.equal(method.predict(shown.select(rows), 1, 7), together[rows])
    short = replace(shown, horizon=2, tracks=shown.tracks[:, :, :3])
    torch.testing.assert_close(method.predict(short, 1, 0), together[:, :, :2])


def test_reacts_to_trajectories(weights: Path) -> None:
    method, shown = Hao(checkpoint=weights), conditioning()
    still = replace(shown, tracks=shown.tracks[:, :, :1].expand(-1, -1, 5, -1))
    found = method.predict(still, 1, 0)
    torch.testing.assert_close(found[:, :, :1].expand_as(found), found)
    assert (found - method.predict(shown, 1, 0)).abs().max() > 0.01


def test_card(weights: Path) -> None:
    card = Hao(checkpoint=weights).card
    assert (card.name, card.inputs, card.stochastic) == ("hao-tiny", {"context", "tracks"}, False)
    assert card.sizes == {32}
    assert card.parameters == sum(p.numel() for p in network().parameters())
    assert card.weights == {"hao.safetensors": sha256_of(weights)}
    assert "CVPR 2018" in card.paper


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_official_checkpoint(tmp_path: Path, weights: Path, parallel: bool, old: bool) -> None:
    state = official_state()
    if old:
        state = {key: value for key, value in state.items() if "num_batches" not in key}
    if parallel:
        state = {f"module.{key}": value for key, value in state.items()}
    path = tmp_path / "snapshot.pth"
    torch.save({STATE: state, "optimizer": {"param_groups": [{"lr": 0.001}]}, "hist": [1.0]}, path)
    method = build_method(f"hao:official={path}")
    assert method.card.name == "hao-official"
    assert method.card.weights == {"snapshot.pth": sha256_of(path)}
    shown = conditioning()
    assert torch.equal(method.predict(shown, 1, 0), Hao(checkpoint=weights).predict(shown, 1, 0))


def test_official_checkpoint_without_batch_norm(tmp_path: Path) -> None:
    path = tmp_path / "kitti.pth"
    torch.save(official_state(), path)
    config, found = read_official(path, batch_norm=False)
    assert (config.batch_norm, config.width, config.size) == (False, 2, None)
    expected = network()
    for name, parameter in found.named_parameters():
        assert torch.equal(parameter, expected.get_parameter(name))


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"

    def refusal(state: dict[str, Tensor]) -> str:
        torch.save(state, path)
        with pytest.raises(MethodError) as error:
            read_official(path)
        return str(error.value)

    state = official_state()
    assert "discriminator.weight" in refusal({**state, "discriminator.weight": torch.zeros(1)})
    assert "dec_net.c11.bias" in refusal({**state, f"{PREFIX}dec_net.c11.bias": torch.zeros(1)})
    assert "conv_comp.bias" in refusal({k: v for k, v in state.items() if not k.endswith("conv_comp.bias")})
    assert "expected [2, 4, 3, 3]" in refusal({**state, f"{PREFIX}dec_net.c21.weight": torch.zeros(2, 2, 3, 3)})
    assert "another network" in refusal({k: v for k, v in state.items() if "enc_net.c11" not in k})
    assert "dictionary of tensors" in refusal({"epoch": 3})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tracks": None}, "found none"),
        ({"horizon": 5}, r"\[3, k, 6, 2\] .* found \[3, 5, 5, 2\]"),
        ({"tracks": torch.zeros(3, 0, 5, 2)}, "found .3, 0, 5, 2"),
        ({"tracks": torch.full((3, 5, 5, 2), float("nan"))}, "finite"),
        ({"context": torch.zeros(3, 1, 3, 64, 64)}, "32 x 32 px, found 64 x 64"),
    ],
)
def test_faulty_conditioning(weights: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        Hao(checkpoint=weights).predict(replace(conditioning(), **change), 1, 0)


def test_faulty_options(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="hao:checkpoint=FILE"):
        build_method("hao")
    with pytest.raises(MethodError, match="leave it out"):
        build_method(f"hao:checkpoint={weights},batch_norm=false")
    with pytest.raises(MethodError, match="no checkpoint"):
        Hao(official=tmp_path / "none.pth")


def test_the_method_of_a_training_shares_its_network_and_leaves_its_mode() -> None:
    training = HaoTraining(CONFIG, seed=0)
    method = training.method()
    training.network.train()
    first = method.predict(conditioning(), 1, 0)
    assert training.network.training
    assert torch.equal(first, method.predict(conditioning(), 1, 0))
    with torch.no_grad():
        training.network.conv_comp.bias += 0.5
        training.network.conv_mask.bias -= 5
    assert not torch.equal(first, method.predict(conditioning(), 1, 0))


def test_sides_of_any_size_are_refused_by_the_network() -> None:
    with pytest.raises(MethodError, match="multiples of 16 px, found 24 x 32"):
        network()(torch.zeros(1, 3, 24, 32), torch.zeros(1, 6, 24, 32))
