"""Specs of methods: names, options, their types and their errors."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from methods.baselines import NoisyTruth
from methods.interface import Conditioning, MethodCard
from methods.registry import METHODS, build_method
from metrics.errors import MethodError, RegistryError


class Optioned:
    """A method with options of every type."""

    def __init__(
        self,
        steps: int = 1,
        rate: float = 0.5,
        exact: bool = False,
        mode: Literal["a", "b"] = "a",
        path: Path | None = None,
        *,
        label: str = "",
    ) -> None:
        self.options = (steps, rate, exact, mode, path, label)
        self.card = MethodCard(name="optioned", title="Optioned", revision="1")

    def prepare(self, device: torch.device) -> None:
        """Nothing."""

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        return conditioning.context


def needs_folder(folder: Path) -> Optioned:
    return Optioned(path=folder)


def builds_nothing() -> None:
    """Not a method."""


@pytest.fixture
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"optioned": Optioned, "needs-folder": needs_folder, "builds-nothing": builds_nothing}
    monkeypatch.setattr(METHODS, "_loaded", {**METHODS._loaded, **names})


def options_of(spec: str) -> tuple:
    return build_method(spec).options  # type: ignore[union-attr]


@pytest.mark.usefixtures("_registered")
@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("optioned", (1, 0.5, False, "a", None, "")),
        ("optioned:steps=3,rate=2", (3, 2.0, False, "a", None, "")),
        ("optioned:exact=true,mode=b", (1, 0.5, True, "b", None, "")),
        ("optioned:path=/data/a,b,label=x", (1, 0.5, False, "a", Path("/data/a,b"), "x")),
        ("optioned:path=none,label=a:b=c", (1, 0.5, False, "a", None, "a:b=c")),
        ("optioned:rate=1e-3", (1, 1e-3, False, "a", None, "")),
    ],
)
def test_options_are_typed_by_the_signature(spec: str, expected: tuple) -> None:
    assert options_of(spec) == expected


@pytest.mark.usefixtures("_registered")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("optioned:step=3", r"no option 'step'; did you mean 'steps'\? its options are: steps \(int, default 1\)"),
        ("optioned:zzz=3", r"no option 'zzz'; its options are"),
        ("optioned:steps=3.5", r"'steps': expected a finite int, found '3.5'"),
        ("optioned:rate=nan", r"'rate': expected a finite float"),
        ("optioned:exact=1", r"'exact': expected true or false"),
        ("optioned:mode=c", r"'mode': expected one of a, b, found 'c'"),
        ("optioned:steps=1,steps=2", r"'steps' is given twice"),
        ("optioned:steps", r"expected options as key=value"),
        ("needs-folder", r"needs the option 'folder': write needs-folder:folder=VALUE"),
        ("builds-nothing", r"did not build a method"),
        ("copy-last-frame:x=1", r"it takes no options"),
        ("noisy-truth:sigma=-1", r"expected sigma >= 0"),
    ],
)
def test_a_wrong_spec_names_its_fault(spec: str, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        build_method(spec)


def test_an_unknown_name_gets_near_matches() -> None:
    with pytest.raises(RegistryError, match=r"unknown method 'copy-last'; did you mean 'copy-last-frame'"):
        build_method("copy-last")


def test_the_reference_methods_are_registered_with_a_summary() -> None:
    for name in ("copy-last-frame", "context-mean", "flow-warp", "noisy-truth", "predictions"):
        assert name in METHODS
        assert METHODS.summary(name)


def test_options_that_differ_from_the_default_are_part_of_the_name() -> None:
    assert build_method("noisy-truth").card.name == "noisy-truth"
    assert build_method(f"noisy-truth:sigma={NoisyTruth.DEFAULT_SIGMA}").card.name == "noisy-truth"
    assert build_method("noisy-truth:sigma=0.1").card.name == "noisy-truth:sigma=0.1"
