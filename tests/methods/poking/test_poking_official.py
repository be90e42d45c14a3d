"""The authors' checkpoints: read, refused, written back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peers.poking_clips import filled
from torch import Tensor, nn

from methods.interface import Poke
from methods.poking.config import PokingConfig
from methods.poking.discriminators import PatchDiscriminator, TemporalDiscriminator
from methods.poking.network import PokingNetwork
from methods.poking.official import load_discriminator, read_generator, write_checkpoint
from metrics.errors import MethodError


def generator(**values: Any) -> PokingNetwork:
    made = filled(PokingNetwork(PokingConfig(**values))).float()
    assert isinstance(made, PokingNetwork)
    return made


def written(path: Path, state: dict[str, Tensor], **others: Any) -> Path:
    torch.save({"model": state, "optimizer_dis": {"state": {}}, "optimizer_dyn": {"state": {}}, **others}, path)
    return path


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ({"width": 64}, None),
        ({"width": 128, "size": 128}, None),
        ({"width": 128, "min_side": 8}, 64),
        ({"width": 64, "predictor": "rnn", "rnn_cells": 1}, None),
        ({"width": 64, "predictor": "rnn", "rnn_cells": 2}, None),
        ({"width": 64, "predictor": "rnn", "rnn_cells": 3}, None),
    ],
)
def test_there_and_back(values: dict[str, Any], size: int | None, tmp_path: Path) -> None:
    made = generator(**values)
    path = written(tmp_path / "reg_ckpt.pth", made.state_dict())
    config, state = read_generator(path, size)
    for key in ("size", "width", "min_side", "predictor", "rnn_cells", "widths", "state_shapes"):
        assert getattr(config, key) == getattr(made.config, key), key
    network = PokingNetwork(config)
    network.load_state_dict(state)
    back = tmp_path / "back.pth"
    write_checkpoint(back, network, {"optimizer_dis": {"state": {}}, "optimizer_dyn": {"state": {}}})
    first, second = (torch.load(one, weights_only=True) for one in (path, back))
    assert first.keys() == second.keys()
    assert first["model"].keys() == second["model"].keys()
    assert all(torch.equal(value, second["model"][key]) for key, value in first["model"].items())


def test_the_keys_are_those_of_the_authors() -> None:
    with torch.device("meta"):
        state = PokingNetwork(PokingConfig()).state_dict()
    shapes = {
        "shape_enc.blocks.0.conv.weight": (128, 3, 3, 3),
        "shape_enc.blocks.1.conv.bias": (256,),
        "shape_enc.bottleneck.conv1.conv.weight": (512, 256, 3, 3),
        "shape_enc.bottleneck.res_conv.conv.weight": (512, 256, 3, 3),
        "dynamics_enc.model.0.conv.weight": (32, 2, 3, 3),
        "dynamics_enc.bottleneck.0.conv1.conv.weight": (512, 64, 3, 3),
        "dynamics_enc.bottleneck.1.conv2.conv.bias": (512,),
        "fusion_block.cells.0.reset_gate.weight": (512, 1024, 3, 3),
        "fusion_block.cells.1.update_gate.weight": (256, 768, 3, 3),
        "fusion_block.cells.2.out_gate.weight": (128, 384, 3, 3),
        "fusion_block.cells.2.up_gate.weight": (256, 256, 3, 3),
        "dec.in_block.conv1.conv.weight": (256, 512, 3, 3),
        "dec.blocks.0.conv1.conv.weight": (512, 128, 3, 3),
        "dec.blocks.1.res_conv.conv.weight": (256, 128, 3, 3),
        "dec.blocks.1.conv2.conv.weight": (128, 128, 3, 3),
        "dec.out_conv.conv.weight": (3, 128, 3, 3),
    }
    assert {key: tuple(state[key].shape) for key in shapes} == shapes
    assert "dynamics_enc.bottleneck.1.res_conv.conv.weight" not in state
    assert "fusion_block.cells.1.up_gate.weight" not in state
    assert len(state) == 64
    with torch.device("meta"):
        temporal = TemporalDiscriminator(10).state_dict()
    assert tuple(temporal["conv1.weight_orig"].shape) == (64, 3, 3, 7, 7)
    for key in (
        "layer1.0.downsample.0.weight_u",
        "layers.3.1.conv2.weight_v",
        "layers.0.0.downsample.1.bias",
        "gn1.bias",
    ):
        assert key in temporal
    assert "layer1.1.downsample.0.weight_orig" not in temporal


def test_discriminators_there_and_back(tmp_path: Path, narrow: None) -> None:
    for kind, network in (("patch", PatchDiscriminator()), ("temporal", TemporalDiscriminator(4))):
        path = tmp_path / f"disc_{kind}.pth"
        write_checkpoint(path, filled(network).float(), {"optimizer": {"state": {}}})
        assert set(torch.load(path, weights_only=True)) == {"model", "optimizer"}
        found = load_discriminator(path, kind, horizon=4)
        wanted = network.state_dict()
        assert all(torch.equal(value, wanted[key]) for key, value in found.state_dict().items())
        assert found.state_dict().keys() == wanted.keys()


def test_every_key_without_a_place_is_named(tmp_path: Path) -> None:
    state = dict(generator(width=64).state_dict())
    del state["dec.out_conv.conv.bias"]
    extra = [f"vgg.features.{index}.weight" for index in range(9)]
    state |= {key: torch.zeros(1) for key in extra}
    state["shape_enc.bottleneck.conv2.conv.bias"] = torch.zeros(7)
    with pytest.raises(MethodError) as caught:
        read_generator(written(tmp_path / "ckpt.pth", state))
    message = str(caught.value)
    assert all(f"{key}: has no place" in message for key in extra)
    assert "dec.out_conv.conv.bias: missing" in message
    assert "shape_enc.bottleneck.conv2.conv.bias: expected [64], found [7]" in message


@pytest.mark.parametrize(("size", "fitting"), [(128, "64 or 32"), (100, "64 or 32")])
def test_a_checkpoint_of_another_size(size: int, fitting: str, tmp_path: Path) -> None:
    path = written(tmp_path / "ckpt.pth", dict(generator(width=64).state_dict()))
    with pytest.raises(MethodError, match=f"which is for {fitting} px, and {size} px were asked for"):
        read_generator(path, size)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"state_dict": {}}, 'with "model", found state_dict'),
        ([1, 2], "found list"),
        ({"model": {"a": 1}}, "found model"),
        ({"model": {"in_conv.weight": torch.zeros(1)}}, "not that of a discriminator"),
        ({"model": {"fusion_block.cells.0.reset_gate.weight": torch.zeros(64, 128, 3, 3)}}, "fit no configuration"),
    ],
)
def test_other_files(content: Any, said: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(MethodError, match=re.escape(said)):
        read_generator(tmp_path / "other.pth")


def test_what_the_authors_program_has_not_cannot_be_written(tmp_path: Path) -> None:
    for values in ({"poke_encoder": "plus"}, {"decoder": "warp"}, {"levels": 1}):
        with pytest.raises(MethodError, match="has no such network"):
            write_checkpoint(tmp_path / "x.pth", PokingNetwork(PokingConfig(size=32, width=64, min_side=8, **values)))
    assert not list(tmp_path.iterdir())
    write_checkpoint(tmp_path / "x.pth", nn.Linear(1, 1))


def test_hold_goes_into_the_biases_that_the_authors_read(tmp_path: Path) -> None:
    made = generator(width=64, hold=3.0)
    write_checkpoint(tmp_path / "held.pth", made)
    config, state = read_generator(tmp_path / "held.pth")
    assert config.hold == 0
    network = PokingNetwork(config)
    network.load_state_dict(state)
    x0, poke = torch.rand(2, 3, 64, 64) * 2 - 1, Poke(torch.tensor([[30.0, 20.0]] * 2), torch.tensor([[4.0, 1.0]] * 2))
    with torch.no_grad():
        assert torch.allclose(network(x0, poke, 3), made(x0, poke, 3), atol=1e-5)
        made.load_state_dict(state)
        assert not torch.allclose(network(x0, poke, 3), made(x0, poke, 3), atol=1e-3)
