"""A method that raises: one error that says everything, and nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import DriftingDiscs
from torch import Tensor

from bench.evaluate import evaluate, run_key
from bench.protocol import Protocol
from bench.store import Store
from methods.interface import Conditioning, MethodCard
from metrics.errors import MethodError

CLIPS = 720
LAST = "source233@000700"  # the clip number 700, of three clips a source


class Grey:
    """The cheapest of methods; raises on one clip while it has a fault."""

    def __init__(self, name: str, fault: BaseException | None = None) -> None:
        self.card = MethodCard(name=name, title=name, revision="1")
        self.fault, self.asked = fault, list[str]()

    def prepare(self, device: torch.device) -> None:
        """Nothing to load."""

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        self.asked += conditioning.clip_ids
        if self.fault is not None and LAST in conditioning.clip_ids:
            raise self.fault
        return torch.full((len(conditioning.clip_ids), 1, 2, 3, 16, 16), 0.5)


def protocol() -> Protocol:
    return Protocol(dataset="discs", size=16, context=1, horizon=2, metrics=("psnr",), min_clips=4)


def run(store: Path, *methods: Grey) -> None:
    evaluate(methods, DriftingDiscs(CLIPS, size=16, length=3), protocol(), Store(store), batch_size=16)


def kept(store: Path, name: str) -> set[str]:
    data = DriftingDiscs(CLIPS, size=16, length=3)
    parts = Store(store).parts(run_key(Grey(name).card, protocol(), data))
    return {clip_id for ids, _, _ in parts.values() for clip_id in ids}


def test_a_method_raises_on_clip_700_of_720(tmp_path: Path, faults: Any) -> None:
    assert LAST in {ref.clip_id for ref in DriftingDiscs(CLIPS).clips()}
    broken = Grey("broken", ZeroDivisionError("division by zero"))
    with faults.one():
        with pytest.raises(MethodError) as raised:
            run(tmp_path, Grey("before"), broken, Grey("after"))
        said = str(raised.value)
        assert said.startswith(
            "the method broken raised ZeroDivisionError: division by zero (test_methods_that_fail.py"
        )
        assert "in predict) on a batch of 16 clips (source229@000688, " in said
        assert "and 8 more). Correct the method and run the same command again" in said
        assert said.endswith("The results of 688 of 720 clips of broken are kept.")
        assert said.count("broken") == 2
        assert isinstance(raised.value.__cause__, ZeroDivisionError)
        before = {name: kept(tmp_path, name) for name in ("before", "broken", "after")}
        assert {name: len(found) for name, found in before.items()} == {"before": 704, "broken": 688, "after": 704}
        broken.fault = None
        methods = [Grey("before"), Grey("broken"), Grey("after")]
        run(tmp_path, *methods)
        for method in methods:
            faults.lost += len(before[method.card.name].intersection(method.asked))
        assert [len(method.asked) for method in methods] == [16, 32, 16]


def test_two_methods_that_raise_are_told_in_one_error(tmp_path: Path, faults: Any) -> None:
    with faults.one():
        with pytest.raises(MethodError) as raised:
            run(tmp_path, Grey("one", ValueError("a")), Grey("two", KeyError("b")), Grey("three"))
        assert "the method one raised ValueError: a" in str(raised.value)
        assert "the method two raised KeyError: 'b'" in str(raised.value)
        faults.lost += 704 - len(kept(tmp_path, "three"))


def test_a_method_that_cannot_be_prepared(tmp_path: Path, faults: Any) -> None:
    class Unready(Grey):
        def prepare(self, device: torch.device) -> None:
            raise FileNotFoundError("no such file: weights.bin")

    with faults.one(), pytest.raises(MethodError, match=r"unready cannot be prepared: FileNotFoundError: no such file"):
        run(tmp_path, Grey("other"), Unready("unready"))


def test_the_method_s_own_line_is_named_where_a_library_raised(tmp_path: Path, faults: Any) -> None:
    class Asks(Grey):
        def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
            return torch.nn.functional.conv2d(conditioning.x0, torch.zeros(1, 1, 3, 3))

    with faults.one(), pytest.raises(MethodError, match=r"RuntimeError: .*\(test_methods_that_fail\.py, line \d+, in"):
        run(tmp_path, Asks("asks"))
