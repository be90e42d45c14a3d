"""The method: built from files, predictions, many pokes on one image, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peers.engine import PlainEngine
from peers.poking_clips import batch, training

from methods.interface import Conditioning, Poke
from methods.poking import adapter
from methods.poking.adapter import Poking
from methods.poking.config import PokingConfig
from methods.poking.network import PokingNetwork
from methods.poking.official import write_checkpoint
from methods.poking.predictor import ConvGRUCell
from methods.registry import build_method
from methods.weights_file import save_weights
from metrics.cache import sha256_of
from metrics.errors import MethodError

SIDE = 32
CONFIG = PokingConfig(recipe="tiny", size=SIDE, width=64, min_side=8)
WIDE = PokingConfig(recipe="wide", size=SIDE, width=256, min_side=16)
WARPED = PokingConfig(recipe="warped", size=SIDE, width=256, min_side=16, decoder="warp", poke_encoder="plus")
DRIVES = ConvGRUCell.drives


@pytest.fixture
def method(tmp_path: Path) -> Poking:
    torch.manual_seed(0)
    network = PokingNetwork(CONFIG)
    save_weights(tmp_path / "tiny.safetensors", network.state_dict(), "poking", CONFIG)
    made = build_method(f"poking:checkpoint={tmp_path / 'tiny.safetensors'}")
    assert isinstance(made, Poking)
    made.prepare(torch.device("cpu"))
    return made


def conditioning(clips: int = 3, horizon: int = 4, context: int = 2) -> Conditioning:
    part = batch(clips, horizon, SIDE, context, torch.float32)
    return Conditioning(part.frames[:, :context], part.clip_ids, horizon, poke=part.poke)


def test_card(method: Poking, tmp_path: Path) -> None:
    card = method.card
    assert card.name == "poking-tiny"
    assert card.inputs == {"context", "poke"}
    assert not card.stochastic
    assert card.min_context == 1
    assert card.horizons is None
    assert card.sizes == {SIDE}
    assert card.weights == {"tiny.safetensors": sha256_of(tmp_path / "tiny.safetensors")}
    assert card.parameters == sum(p.numel() for p in method.network.parameters())
    assert "CVPR 2021" in card.paper


@pytest.mark.parametrize("horizon", [1, 4, 12])
def test_prediction(method: Poking, horizon: int) -> None:
    given = conditioning(horizon=horizon)
    found = method.predict(given, samples=5, seed=0)
    assert found.shape == (3, 1, horizon, 3, SIDE, SIDE)
    assert found.dtype == torch.float32
    assert found.min() >= 0
    assert found.max() <= 1
    assert not found.requires_grad
    assert given.poke is not None
    with torch.no_grad():
        wanted = method.network(given.x0 * 2 - 1, given.poke, horizon)
    torch.testing.assert_close(found[:, 0], (wanted + 1) / 2, rtol=0, atol=1e-6)


def test_it_sees_x0_alone(method: Poking) -> None:
    two = conditioning(context=2)
    one = Conditioning(two.context[:, 1:], two.clip_ids, two.horizon, poke=two.poke)
    assert torch.equal(method.predict(two, 1, 0), method.predict(one, 1, 0))


def test_a_clip_hardly_depends_on_its_batch(method: Poking) -> None:
    given = conditioning()
    together = method.predict(given, 1, 0)
    for row in range(3):
        torch.testing.assert_close(method.predict(given.select([row]), 1, 0)[0], together[row], rtol=0, atol=1e-5)


def test_another_poke_gives_another_video(method: Poking) -> None:
    given = conditioning()
    assert given.poke is not None
    turned = Poke(given.poke.location, given.poke.displacement.flip(1) * torch.tensor([-1.0, 1.0]))
    other = Conditioning(given.context, given.clip_ids, given.horizon, poke=turned)
    assert (method.predict(given, 1, 0) - method.predict(other, 1, 0)).abs().max() > 1e-3


def test_many_pokes_encode_the_image_once(method: Poking) -> None:
    given = conditioning(clips=4)
    assert given.poke is not None
    calls = []
    handle = method.network.shape_enc.register_forward_hook(lambda module, inputs, found: calls.append(len(inputs[0])))
    found = method.rollout_pokes(given.x0[1], given.poke, 3)
    handle.remove()
    assert calls == [1]
    same = Conditioning(given.context[[1] * 4], given.clip_ids, 3, poke=given.poke)
    torch.testing.assert_close(found, method.predict(same, 1, 0)[:, 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", [CONFIG, WIDE, WARPED], ids=["small", "wide", "warped"])
def test_of_many_pokes_only_the_frames_wanted_are_drawn(config: PokingConfig) -> None:
    """Also by transformed convolutions, which the wide one is large enough for; in the order asked for."""
    torch.manual_seed(0)
    method = Poking.sharing(PokingNetwork(config), config)
    given = conditioning(clips=10)
    assert given.poke is not None
    drawn = []
    handle = method.network.dec.in_block.register_forward_hook(lambda module, inputs, found: drawn.append(len(found)))
    found = method.rollout_pokes(given.x0[1], given.poke, 4, frames=[4, 2])
    handle.remove()
    assert sum(drawn) == 2 * 10
    same = Conditioning(given.context[[1] * 10], given.clip_ids, 4, poke=given.poke)
    torch.testing.assert_close(found, method.predict(same, 1, 0)[:, 0, [3, 1]], rtol=0, atol=1e-4)
    for frames in ([], [0], [5]):
        with pytest.raises(MethodError, match="expected frames from 1 to 4"):
            method.rollout_pokes(given.x0[1], given.poke, 4, frames=frames)


def test_many_pokes_take_transformed_convolutions_where_they_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    method = Poking.sharing(PokingNetwork(WIDE), WIDE)
    given = conditioning(clips=10)
    assert given.poke is not None
    calls = []
    monkeypatch.setattr(ConvGRUCell, "drives", lambda self, *args: calls.append(self) or DRIVES(self, *args))
    method.rollout_pokes(given.x0[1], given.poke, 2)
    assert calls == list(method.network.fusion_block.cells)[1:]
    calls.clear()
    method.predict(given, 1, 0)
    few = Poke(given.poke.location[:4], given.poke.displacement[:4])
    method.rollout_pokes(given.x0[1], few, 2)
    assert not calls


def test_results_do_not_depend_on_how_many_clips_are_drawn_at_a_time(
    method: Poking, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = conditioning(clips=5)
    together = method.predict(given, 1, 0)
    monkeypatch.setattr(adapter, "CHUNK", 2)
    torch.testing.assert_close(method.predict(given, 1, 0), together, rtol=0, atol=1e-5)


def test_from_the_authors_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = PokingNetwork(PokingConfig(width=64))
    write_checkpoint(tmp_path / "reg_ckpt.pth", network)
    method = build_method(f"poking:official={tmp_path / 'reg_ckpt.pth'}")
    assert isinstance(method, Poking)
    assert method.card.name == "poking-official"
    assert method.card.sizes == {64}
    assert method.card.weights == {"reg_ckpt.pth": sha256_of(tmp_path / "reg_ckpt.pth")}
    for key, value in method.network.state_dict().items():
        assert torch.equal(value, network.state_dict()[key])
    small = build_method(f"poking:official={tmp_path / 'reg_ckpt.pth'},size=32")
    assert small.card.sizes == {32}


def test_the_method_of_a_training_follows_it() -> None:
    made = training(dtype=torch.float32, gan=False, learning_rate=1e-2)
    method = made.method()
    given = conditioning()
    before = method.predict(given, 1, 0)
    made.step([batch(dtype=torch.float32)], PlainEngine(made.optimizers))
    assert not torch.equal(method.predict(given, 1, 0), before)
    assert method.card.name == "poking-custom"


def test_bad_conditioning(method: Poking) -> None:
    given = conditioning()
    assert given.poke is not None
    with pytest.raises(MethodError, match="poking-tiny: expected pokes, found none"):
        method.predict(Conditioning(given.context, given.clip_ids, 4), 1, 0)
    large = torch.rand(3, 1, 3, 64, 64)
    with pytest.raises(MethodError, match=r"expected frames of 32 x 32 px.*found \[3, 3, 64, 64\]"):
        method.predict(Conditioning(large, given.clip_ids, 4, poke=given.poke), 1, 0)
    few = Poke(given.poke.location[:2], given.poke.displacement[:2])
    with pytest.raises(MethodError, match="one poke for each of 3 clips, found 2"):
        method.predict(Conditioning(given.context, given.clip_ids, 4, poke=few), 1, 0)
    outside = Poke(given.poke.location + 40, given.poke.displacement)
    with pytest.raises(MethodError, match="inside the image"):
        method.predict(Conditioning(given.context, given.clip_ids, 4, poke=outside), 1, 0)


def test_bad_options(method: Poking, tmp_path: Path) -> None:
    checkpoint = tmp_path / "tiny.safetensors"
    with pytest.raises(MethodError, match="found neither"):
        Poking()
    with pytest.raises(MethodError, match="found both"):
        Poking(checkpoint=checkpoint, official=checkpoint)
    with pytest.raises(MethodError, match="a checkpoint knows its own"):
        Poking(checkpoint=checkpoint, size=32)
    with pytest.raises(MethodError, match="there is no checkpoint"):
        Poking(official=tmp_path / "none.pth")
    state = PokingNetwork(PokingConfig(size=SIDE, width=128, min_side=8)).state_dict()
    save_weights(tmp_path / "other.safetensors", state, "poking", CONFIG)
    with pytest.raises(MethodError, match="of another shape"):
        Poking(checkpoint=tmp_path / "other.safetensors")
