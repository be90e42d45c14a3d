"""Checkpoints of the authors' program: every key has a place, and what is inconsistent is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peers.srvp_golden import VARIANTS, golden_record
from peers.srvp_tiny import tiny_network
from torch import Tensor

from methods.interface import Conditioning
from methods.registry import build_method
from methods.srvp.adapter import SRVP
from methods.srvp.network import SRVPNetwork
from methods.srvp.official import load_official, our_name
from metrics.errors import MethodError


def keys(architecture: str) -> list[str]:
    """The authors' keys."""
    return [str(key) for key in golden_record(architecture)["state/keys"]]


def as_authors(network: SRVPNetwork) -> dict[str, Tensor]:
    """The state of a network under the authors' names."""
    vgg, state = network.config.architecture == "vgg", network.state_dict()
    return {key: state[str(our_name(key, vgg))] for key in keys(network.config.architecture)}


def options(network: SRVPNetwork, **other: object) -> dict[str, object]:
    """What the authors' config.json says of a network."""
    c = network.config
    told = {"archi": c.architecture, "skipco": c.skips, "nc": c.channels, "nf": c.filters, "nhx": c.code}
    told |= {"ny": c.state, "nz": c.noise, "nh_inf": c.inference_width, "nlayers_inf": c.inference_layers}
    told |= {"nh_res": c.residual_width, "nlayers_res": c.residual_layers, "nt_inf": c.conditioning}
    return {**told, "n_euler_steps": c.euler_steps, "obs_scale": 0.71, "dataset": "bair", "batch_size": 192, **other}


@pytest.mark.parametrize("architecture", VARIANTS)
def test_every_key_has_a_place_and_every_place_a_key(architecture: str) -> None:
    golden = golden_record(architecture)
    with torch.device("meta"):
        state = SRVPNetwork(golden.config).state_dict()
    shapes = {}
    for key, shape in zip(golden["state/keys"], golden["state/shapes"], strict=True):
        shapes[our_name(str(key), architecture == "vgg")] = tuple(int(n) for n in str(shape).split(",") if n)
    assert shapes == {name: tuple(value.shape) for name, value in state.items()}


@pytest.mark.parametrize(
    "key",
    [
        "encoder.conv.0.0.2.weight",
        "encoder.other.weight",
        "q_y.module.0.1.weight",
        "p_z.module.1.0.weight",
        "discriminator.0.weight",
        "encoder.last_conv.0.weight",
    ],
)
def test_other_keys_have_none(key: str) -> None:
    assert our_name(key, vgg=True) is None


@pytest.mark.parametrize("architecture", VARIANTS)
@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_checkpoint_predicts_as_the_network_that_it_came_from(
    architecture: str, skips: bool, prefix: str, tmp_path: Path
) -> None:
    network = tiny_network(architecture=architecture, skips=skips, conditioning=1, euler_steps=4)
    path = tmp_path / "model_best.pt"
    torch.save({prefix + key: value for key, value in as_authors(network).items()}, path)
    (tmp_path / "config.json").write_text(json.dumps(options(network)))
    method = build_method(f"srvp:official={path}")
    assert isinstance(method, SRVP)
    method.prepare(torch.device("cpu"))
    config = network.config.model_copy(update={"name": "official-bair", "observation_std": 0.71})
    assert method.network.config == config
    assert method.card.name == "srvp-official-bair"
    assert method.card.licence == "Apache-2.0"
    given = Conditioning(torch.rand(1, 2, 3, 64, 64), ["clip"], 2)
    assert torch.equal(method.predict(given, 1, 0), SRVP.sharing(network).predict(given, 1, 0))


def test_euler_steps_must_be_known(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(as_authors(tiny_network(euler_steps=1)), path)
    with pytest.raises(MethodError, match=r"how many Euler steps.*config\.json.*euler_steps=2"):
        load_official(path)
    assert load_official(path, euler_steps=1).config.euler_steps == 1
    assert SRVP(official=path, euler_steps=1).card.name == "srvp-official-euler1"
    (tmp_path / "config.json").write_text(json.dumps({"n_euler_steps": 2}))
    assert load_official(path).config.euler_steps == 2
    assert load_official(path, euler_steps=2).config.name == "official"
    with pytest.raises(MethodError, match="says 2 Euler steps a frame, the option euler_steps says 8"):
        load_official(path, euler_steps=8)


def test_all_keys_without_a_place_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    state = as_authors(tiny_network())
    state |= {"extra.weight": torch.zeros(1), "encoder.conv.0.0.2.weight": torch.zeros(1)}
    torch.save(state, path)
    with pytest.raises(MethodError, match=r"2 of 161 keys.*: encoder\.conv\.0\.0\.2\.weight, extra\.weight\."):
        load_official(path, 2)


def test_missing_keys_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    state = as_authors(tiny_network())
    del state["decoder.conv.3.0.1.running_var"]
    torch.save(state, path)
    with pytest.raises(MethodError, match=r"1 missing \(decoder\.stages\.3\.0\.norm\.running_var\)"):
        SRVP(official=path, euler_steps=2)


def test_tensors_and_options_that_disagree_are_named(tmp_path: Path) -> None:
    network = tiny_network()
    path = tmp_path / "model.pt"
    torch.save(as_authors(network), path)
    beside = tmp_path / "config.json"
    beside.write_text(json.dumps(options(network, archi="dcgan", nt_inf=3)))
    with pytest.raises(MethodError, match=r"architecture = vgg, conditioning = 2, but .*dcgan, conditioning = 3"):
        load_official(path)
    beside.write_text(json.dumps(options(network, n_euler_steps=0)))
    with pytest.raises(MethodError, match="not a configuration of srvp"):
        load_official(path)
    beside.write_text("{")
    with pytest.raises(MethodError, match="options as JSON"):
        load_official(path)
    beside.write_text("[]")
    with pytest.raises(MethodError, match="JSON object, found a list"):
        load_official(path)


def test_what_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    for value, found in [({"state_dict": {"a": torch.zeros(1)}}, "keys state_dict"), ([torch.zeros(1)], "a list")]:
        torch.save(value, path)
        with pytest.raises(MethodError, match=f"bare state dict.*{found}"):
            load_official(path, 2)
    torch.save({}, path)
    with pytest.raises(MethodError, match="0 of 0 keys"):
        load_official(path, 2)
    with pytest.raises(MethodError, match="there is no checkpoint"):
        load_official(tmp_path / "other.pt", 2)
