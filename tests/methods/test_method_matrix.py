"""Every registered method passes the conformance kit; networks are untrained, as their training begins with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from peers.untrained import NARROWER, TRAINED, untrained_method

from bench.check import data_source
from bench.evaluation.prediction import condition
from bench.protocol import Protocol
from methods.conformance import check_method
from methods.conformance.base import Result
from methods.conformance.clips import generated_clips
from methods.interface import Clip
from methods.registry import METHODS, build_method

WEIGHTLESS = [name for name in METHODS if name not in {*TRAINED, "oracle", "predictions"}]
ALL = {
    *("card", "prepare", "shape", "type", "finite values", "range", "more context", "samples", "inputs kept"),
    *("same seed", "batch size", "order of clips", "random state", "threads", "processes"),
}
"""Items that apply to every method."""


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The spec of a trained method with the weights that its training begins with."""
    folder = tmp_path_factory.mktemp("weights")

    return lambda name: untrained_method(name, folder)


def conforms(spec: str, **options) -> dict[str, Result]:
    """The results by item, after asserting that none failed."""
    found = list(check_method(lambda: build_method(spec), **options))
    assert [result.line(16) for result in found if result.verdict == "failed"] == []
    results = {result.name: result for result in found}
    assert {name for name, result in results.items() if result.verdict == "passed"} >= ALL
    return results


def refused(results: dict[str, Result]) -> set[str]:
    return {name for name in results if name.startswith(("wrong", "too", "miss")) and results[name].verdict == "passed"}


@pytest.mark.parametrize("spec", [*WEIGHTLESS, "noisy-truth:sigma=0"])
def test_a_method_without_weights_conforms(spec: str) -> None:
    results = conforms(spec, size=32)
    sees_truth = "truth" in build_method(spec).card.inputs
    assert results["no peek"].verdict == ("not applicable" if sees_truth else "passed")
    assert results["context"].found.startswith("not declared" if sees_truth else "answers")


@pytest.mark.parametrize(
    ("name", "control", "faults"),
    [
        ("hao", "tracks", {"wrong size", "missing tracks"}),
        pytest.param("ivrnn", None, {"wrong size", "too few frames"}, marks=pytest.mark.slow),
        ("poking", "poke", {"wrong size", "missing poke"}),
        pytest.param("savp", None, {"wrong size", "too few frames"}, marks=pytest.mark.slow),
        ("srvp", None, {"wrong size", "too few frames"}),
    ],
)
def test_a_trained_method_conforms(
    name: str, control: str | None, faults: set[str], untrained: Callable[[str], str]
) -> None:
    results = conforms(untrained(name))
    assert results["no peek"].verdict == "passed"
    assert refused(results) == faults
    for signal in ("poke", "tracks"):
        assert results[signal].found.startswith("answers" if signal == control else "not declared: equal bits")


def test_the_matrix_names_every_trained_method() -> None:
    assert set(NARROWER) == set(TRAINED)


@pytest.mark.parametrize("samples", [1, 3])
def test_predictions_on_disk_conform(samples: int, tmp_path: Path) -> None:
    for clip in generated_clips(32, 1, 10):
        video = clip.frames[1:].permute(0, 2, 3, 1).numpy()
        np.savez(tmp_path / f"{clip.clip_id}.npz", video=np.stack([video // (k + 1) for k in range(samples)]))
    results = conforms(f"predictions:folder={tmp_path}", size=32)
    found_by_id = {"other horizon", "other size", "clip ids", "context", "tracks"}
    assert {results[name].verdict for name in found_by_id} == {"not applicable"}
    assert results["no peek"].verdict == "passed"


@pytest.mark.slow
def test_the_oracle_conforms_on_its_own_clips() -> None:
    results = conforms("oracle", source=data_source("sim-pokes"))
    assert refused(results) == {"wrong size", "wrong horizon", "missing poke"}
    assert results["poke"].found == "answers another displacement"
    assert results["zero poke"].verdict == "measured"


@pytest.mark.parametrize("count", [1, 3])
def test_the_harness_shows_no_future_frame(count: int) -> None:
    """Neither in the tensors of a conditioning nor in the memory behind them; the kit's own clips come another way."""
    clips = generated_clips(32, 2, 10)[:count]
    protocol = Protocol(dataset="d", size=32, context=2, horizon=10, metrics=("psnr",))
    others = [Clip(torch.cat([c.frames[:2], 255 - c.frames[2:]]), c.clip_id, c.source, 10.0) for c in clips]
    one, another = (condition(list(shown), protocol, torch.device("cpu")) for shown in (clips, others))
    assert torch.equal(one[0].context, another[0].context)
    assert not torch.equal(one[1], another[1])
    assert one[0].context.untyped_storage().nbytes() == one[0].context.numel() * 4


@pytest.mark.parametrize("name", [*METHODS])
def test_a_registered_method_has_a_summary(name: str) -> None:
    assert METHODS.summary(name)


@pytest.mark.parametrize("name", WEIGHTLESS)
def test_the_card_has_notes(name: str) -> None:
    assert build_method(name).card.notes


@pytest.mark.parametrize("name", TRAINED)
def test_the_card_of_a_trained_method_has_notes(name: str, untrained: Callable[[str], str]) -> None:
    assert build_method(untrained(name)).card.notes
