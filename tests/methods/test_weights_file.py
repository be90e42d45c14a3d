"""Weights files: round trip, refusals, and other people's checkpoints."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import save_file

from methods.hao.adapter import Hao
from methods.hao.config import HaoConfig
from methods.hao.network import HaoNetwork
from methods.interface import MethodCard
from methods.weights_file import fill, foreign_state, halved, load_weights, save_weights
from metrics.errors import MethodError


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")

    width: int = 3


def test_round_trip(tmp_path: Path) -> None:
    module = torch.nn.BatchNorm2d(3)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([1.0, 2.5, -3.25]))
    save_weights(tmp_path / "a.safetensors", module.state_dict(), "one", Config(width=5), {"steps": 7})
    found = load_weights(tmp_path / "a.safetensors", "one")
    assert (found.configured(Config), found.facts) == (Config(width=5), {"steps": 7})
    other = torch.nn.BatchNorm2d(3)
    found.fill(other)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in module.state_dict().items())
    assert other.num_batches_tracked.dtype == torch.int64


def test_the_title_names_every_seed_but_0(tmp_path: Path) -> None:
    card = MethodCard(name="one", title="One", revision="1")
    for facts, title in (({}, "One"), ({"seed": 0}, "One"), ({"seed": 12}, "One, seed 12")):
        save_weights(tmp_path / "a.safetensors", {"a": torch.zeros(1)}, "one", Config(), facts)
        assert load_weights(tmp_path / "a.safetensors", "one").titled(card).title == title
    config = HaoConfig(width=4)
    state = HaoNetwork(config.width, config.batch_norm).state_dict()
    save_weights(tmp_path / "hao.safetensors", state, "hao", config, {"seed": 3})
    assert Hao(checkpoint=tmp_path / "hao.safetensors").card.title == "Hao et al., seed 3"


def test_halved_keeps_everything_but_precision(tmp_path: Path) -> None:
    state = {"a": torch.tensor([0.1, 2.0]), "n": torch.tensor(3)}
    save_weights(tmp_path / "a.safetensors", state, "one", Config(width=9), {"steps": 4})
    assert halved(tmp_path / "a.safetensors", tmp_path / "deep" / "b.safetensors") == 3
    found = load_weights(tmp_path / "deep" / "b.safetensors", "one")
    assert (found.configured(Config).width, found.facts) == (9, {"steps": 4})
    assert torch.equal(found.tensors["a"], state["a"].half())
    assert found.tensors["n"].dtype == torch.int64
    save_weights(tmp_path / "c.safetensors", {"a": torch.tensor([1e6])}, "one", Config())
    with pytest.raises(MethodError, match="beyond the range of half precision"):
        halved(tmp_path / "c.safetensors", tmp_path / "d.safetensors")


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 3)
    with pytest.raises(
        MethodError, match=r"1 missing \(bias\); 1 unknown \(b\); 1 of another shape \(weight: expected \[3, 2\]"
    ):
        fill(module, {"weight": torch.zeros(3, 4), "b": torch.zeros(3)}, "file")
    save_weights(tmp_path / "a.safetensors", {}, "one", Config())
    with pytest.raises(MethodError, match="expected weights of 'two', found 'one'"):
        load_weights(tmp_path / "a.safetensors", "two")
    save_file({"x": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(MethodError, match="does not say which method it belongs to"):
        load_weights(tmp_path / "plain.safetensors", "one")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "plain.safetensors").read_bytes()[:-2])
    with pytest.raises(MethodError, match="not a readable safetensors file"):
        load_weights(tmp_path / "cut.safetensors", "one")
    with pytest.raises(MethodError, match="there is no weights file"):
        load_weights(tmp_path / "none.safetensors", "one")


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.target),)


def test_a_checkpoint_with_code_is_refused_and_not_executed(tmp_path: Path) -> None:
    torch.save({"model": Payload(tmp_path / "executed")}, tmp_path / "bad.pt")
    with pytest.raises(MethodError, match="never executed here"):
        foreign_state(tmp_path / "bad.pt")
    assert not (tmp_path / "executed").exists()
    torch.save({"model": {"weight": torch.ones(2)}}, tmp_path / "good.pt")
    assert torch.equal(foreign_state(tmp_path / "good.pt")["model"]["weight"], torch.ones(2))
    (tmp_path / "bad.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(MethodError, match="cannot be read"):
        foreign_state(tmp_path / "bad.pt")
