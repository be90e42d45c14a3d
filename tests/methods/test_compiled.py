"""The option `compiled`: the same predictions, said in the notes, and an error where nothing can be compiled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peers.clips import noise
from torch import Tensor

from methods.compiled import NOTE, check_compiler, compiled_form
from methods.interface import Conditioning, Poke
from methods.ivrnn.adapter import IVRNN
from methods.registry import build_method
from methods.training import TRAININGS
from methods.weights_file import save_weights
from metrics.errors import MethodError

NARROWER = {
    "poking": {"width": 64, "gan": False},
    "ivrnn": {"widths": (4, 4, 4, 4, 4, 8)},
    "savp": {"generator_width": 6, "encoder_width": 8},
}
"""What is smaller here than in the small recipe of a training."""
WITH = sorted(NARROWER)


def untrained(name: str, folder: Path) -> str:
    """The spec of a method with the weights that its training begins with."""
    training = TRAININGS.get(name)
    model = training.recipes["small"].model
    config = type(model)(**{**model.model_dump(), **NARROWER[name]})
    path = folder / f"{name}.safetensors"
    save_weights(path, training(config, seed=1).networks["predictor"].state_dict(), name, config)
    return f"{name}:checkpoint={path}"


def given(clips: int) -> Conditioning:
    poke = Poke(torch.full((clips, 2), 30.0), torch.arange(2.0 * clips).view(clips, 2))
    return Conditioning(noise(1, clips, 2, 64, 64), [f"clip-{row}" for row in range(clips)], 4, poke=poke)


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH)
def test_predictions_are_the_same(name: str, tmp_path: Path) -> None:
    from torch._dynamo.utils import counters

    spec = untrained(name, tmp_path)
    plain, faster = build_method(spec), build_method(f"{spec},compiled=true")
    for method in (plain, faster):
        method.prepare(torch.device("cpu"))
    assert faster.card.name == plain.card.name
    assert faster.card.notes == plain.card.notes + NOTE

    def predicted(method: object) -> Tensor:
        return method.predict(given(2), 1, 0)

    first = predicted(faster)
    torch.testing.assert_close(first, predicted(plain), rtol=0, atol=1e-5)
    graphs = counters["stats"]["unique_graphs"]
    assert graphs > 0
    assert torch.equal(predicted(faster), first)
    assert counters["stats"]["unique_graphs"] == graphs, "it was compiled again for the same shapes"


@pytest.mark.slow
def test_what_cannot_be_compiled_is_an_error() -> None:
    def broken(x: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return x

    with pytest.raises(MethodError, match="mine: it cannot be compiled here"):
        compiled_form("mine", broken)(torch.ones(2))


@pytest.mark.parametrize("name", WITH)
def test_without_a_compiler_nothing_is_predicted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = untrained(name, tmp_path)
    method = build_method(f"{spec},compiled=true")
    # So that records of either are never taken for each other.
    assert (build_method(spec).card.revision, method.card.revision) == ("1", "1+compiled")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(MethodError, match=rf"{name}: compiled=true needs a C\+\+ compiler on cpu"):
        method.prepare(torch.device("cpu"))


def test_the_compiler_that_is_named_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine", "cc"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "mine -pipe")
    check_compiler("poking", torch.device("cpu"))
    monkeypatch.setenv("CXX", "absent")
    with pytest.raises(MethodError, match="expected absent on the path"):
        check_compiler("poking", torch.device("cpu"))
    monkeypatch.delenv("CC", raising=False)
    check_compiler("poking", torch.device("cuda"))
    monkeypatch.setenv("CC", "absent")
    with pytest.raises(MethodError, match="needs a C compiler on cuda"):
        check_compiler("poking", torch.device("cuda"))


def test_the_authors_sampler_is_not_compiled(tmp_path: Path) -> None:
    spec = untrained("ivrnn", tmp_path)
    with pytest.raises(MethodError, match="compiled=true is for sampler=incremental, found released"):
        build_method(f"{spec},sampler=released,compiled=true")
    assert isinstance(build_method(f"{spec},sampler=released"), IVRNN)
