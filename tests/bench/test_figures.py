"""Figures: the numbers behind the curves by their definitions, files from records and logs, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Convolved, DriftingDiscs
from torch import Tensor

from bench.evaluate import evaluate
from bench.figures import curves, dose, run
from bench.figures.asked import asked, prepared
from bench.figures.curves import best_of_samples, expected_best, fvd_against_clips, fvd_of_subsets, over_time
from bench.figures.dose import dose_response, responses
from bench.figures.strips import strips
from bench.figures.style import COLOURS, MARKERS, style
from bench.figures.training import running_mean, training_curves
from bench.pokes import PokeRule
from bench.protocol import Protocol
from bench.record import LoadedRecord, MetricFacts, SetResult
from bench.store import Store
from bench.suite_file import Suite
from methods.baselines import CopyLastFrame, NoisyTruth, backward_warp
from methods.interface import Conditioning, ExactAnswer, MethodCard
from metrics.errors import ProtocolError, RecordError, TrainingError
from metrics.frechet import frechet_distance

PLAIN = Protocol(dataset="discs", size=32, metrics=("psnr", "ssim"), samples=3)
POKED = Protocol(dataset="discs", size=32, metrics=("psnr",), poke=PokeRule())


class Follows:
    """The whole picture moves along the poke, by a share of it."""

    SHARE = 0.5

    def __init__(self) -> None:
        self.card = MethodCard(name="follows", title="Follows", revision="1", inputs=frozenset({"context", "poke"}))

    def prepare(self, device: torch.device) -> None:
        pass

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        assert conditioning.poke is not None
        side = conditioning.x0.shape[-1]
        frames = []
        for t in range(1, conditioning.horizon + 1):
            shift = -self.SHARE * conditioning.poke.displacement * t / conditioning.horizon
            frames.append(backward_warp(conditioning.x0, shift[:, :, None, None].expand(-1, -1, side, side)))
        return torch.stack(frames, 1)[:, None]


class FollowsExactly(Follows):
    def exact_answer(self, conditioning: Conditioning) -> ExactAnswer:
        assert conditioning.poke is not None
        moved = self.SHARE * conditioning.poke.displacement.double()
        return ExactAnswer(moved, moved[:, :, None, None].expand(-1, -1, 32, 32))

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        raise AssertionError("the exact answer was there")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[LoadedRecord]:
    methods = [CopyLastFrame(), NoisyTruth(sigma=0.0), Convolved()]
    return evaluate(methods, DriftingDiscs(clips=9), PLAIN, Store(tmp_path_factory.mktemp("store")))


def with_features(record: LoadedRecord, clips: int) -> LoadedRecord:
    """The record as if FVD had been among its metrics, with random features."""
    rng = np.random.default_rng(0)
    arrays = {f"features/i3d/{kind}": rng.normal(size=(clips, 400)).astype(np.float32) for kind in ("pred", "target")}
    sources = tuple(f"source{k // 2}" for k in range(clips))
    fvd = MetricFacts(
        title="FVD", kind="set", version=1, convention="", higher_is_better=False, unit="", weights={}
    )  # fmt: skip
    changes: dict[str, Any] = {"clip_ids": tuple(f"clip{k}" for k in range(clips)), "sources": sources}
    changes |= {"metrics": {"fvd": fvd}, "set_results": {"fvd": SetResult(value=3.0, bias_corrected=2.0)}}
    return LoadedRecord(record.facts.model_copy(update=changes), arrays)


def written(paths: list[Path]) -> None:
    """Both files are there, and are what their names say."""
    assert [path.suffix for path in paths] == [".png", ".pdf"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert paths[1].read_bytes().startswith(b"%PDF")


def test_the_best_of_k_is_the_mean_over_all_choices() -> None:
    values = np.random.default_rng(1).normal(size=(3, 5))
    for higher, best in ((True, np.max), (False, np.min)):
        found = expected_best(values, higher)
        for k in range(1, 6):
            chosen = [best(values[:, list(some)], axis=1) for some in combinations(range(5), k)]
            np.testing.assert_allclose(found[:, k - 1], np.mean(chosen, axis=0))


def test_fvd_of_everything_is_that_of_the_record_and_subsets_keep_sources_together(
    records: list[LoadedRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = with_features(records[0], 16)
    arrays = record.arrays
    [whole] = fvd_of_subsets(record, 16)
    expected = frechet_distance(arrays["features/i3d/pred"], arrays["features/i3d/target"])
    assert whole == pytest.approx(expected, rel=1e-9)
    monkeypatch.setattr(curves, "SUBSETS", 2)
    pairs = [arrays[f"features/i3d/{kind}"].reshape(8, 2, 400) for kind in ("pred", "target")]
    possible = [
        frechet_distance(*(pair[list(some)].reshape(8, 400) for pair in pairs)) for some in combinations(range(8), 4)
    ]
    for value in fvd_of_subsets(record, 8):
        assert min(abs(value - one) for one in possible) < 1e-6 * value


def test_curves_from_records(records: list[LoadedRecord], tmp_path: Path) -> None:
    written(over_time(records, tmp_path / "deep" / "time"))
    written(best_of_samples(records, tmp_path / "best"))
    with pytest.raises(ProtocolError, match="no record has several samples"):
        best_of_samples(records[:2], tmp_path / "best")
    with pytest.raises(ProtocolError, match="FVD is not among the metrics"):
        fvd_against_clips(records, tmp_path / "fvd")
    with pytest.raises(ProtocolError, match="needs at least 16 clips, there are 10"):
        fvd_against_clips([with_features(records[0], 10)], tmp_path / "fvd")


def test_the_same_records_give_the_same_bytes(records: list[LoadedRecord], tmp_path: Path) -> None:
    one, other = (over_time(records[:2], tmp_path / name) for name in ("a", "b"))
    for first, second in zip(one, other, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_no_two_lines_look_alike() -> None:
    styles = [style(number) for number in range(35)]
    assert len({(one.color, str(one.linestyle)) for one in styles}) == 35
    assert len({one.marker for one in styles[: len(MARKERS)]}) == len(MARKERS)
    assert len(set(COLOURS)) == 7


def test_responses_are_measured_along_the_poke() -> None:
    given = asked(DriftingDiscs(clips=6), POKED, 3, torch.device("cpu"))
    doses = torch.tensor([0.0, 2.0, 4.0], dtype=torch.float64)
    exact = responses(FollowsExactly(), given, doses)
    np.testing.assert_allclose(exact, np.tile([0, 1, 2], (3, 1)), atol=1e-6)
    np.testing.assert_allclose(responses(Follows(), given, doses), exact, atol=0.6)
    still = responses(CopyLastFrame(), given, doses)
    np.testing.assert_allclose(still, 0, atol=1e-6)


def test_dose_and_strips(tmp_path: Path) -> None:
    given = asked(DriftingDiscs(clips=6), POKED, 2, torch.device("cpu"))
    methods = prepared([Follows(), CopyLastFrame()], POKED, torch.device("cpu"))
    written(dose_response(methods, given, tmp_path / "dose"))
    paths = strips(methods, given, tmp_path)
    assert [path.name for path in paths[::2]] == ["strips-follows.png", "strips-copy-last-frame.png"]
    written(paths[:2])
    with pytest.raises(ProtocolError, match="no method of the suite takes pokes"):
        dose_response(methods[1:], given, tmp_path / "dose")
    without = asked(DriftingDiscs(clips=6), PLAIN, 2, torch.device("cpu"))
    with pytest.raises(ProtocolError, match="need one poke for each clip"):
        dose_response(methods, without, tmp_path / "dose")


@pytest.mark.parametrize("known", [True, False])
def test_where_clips_are_poked_is_said_only_where_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    given = asked(DriftingDiscs(clips=6), POKED, 3, torch.device("cpu"))
    if known:
        whole = torch.ones(32, 32, dtype=torch.uint8)
        given = replace(given, clips=[replace(clip, parts=whole) for clip in given.clips])
    notes: list[str] = []
    monkeypatch.setattr(dose, "finish", lambda figure, path, title, note, axis: notes.append(note) or [])
    dose_response([FollowsExactly()], given, tmp_path / "dose")
    assert notes[0].startswith(f"discs, 32 px, 3 clips{' that are poked on the object' if known else ''}; motion by ")


def log_of(folder: Path, entries: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (folder / "plan.json").write_text(json.dumps({"method": "tiny", "recipe": "small"}))
    return folder


def test_training_curves(tmp_path: Path) -> None:
    entries = [{"iteration": k, "kind": "train", "loss": 1 / k, "seconds": 2.0 * k} for k in range(1, 60)]
    entries.append({"iteration": 59, "kind": "validation", "psnr": 20.0})
    folders = [log_of(tmp_path / name, entries) for name in ("a", "b")]
    written(training_curves(folders, tmp_path / "training"))
    np.testing.assert_allclose(running_mean(np.arange(50.0))[[0, 10]], [0, 9.5])
    with pytest.raises(TrainingError, match=r"holds no log.jsonl"):
        training_curves([tmp_path], tmp_path / "training")


def test_kinds_that_do_not_suit_are_said_or_refused(tmp_path: Path) -> None:
    suite = Suite(name="discs", title="Discs", protocol=PLAIN, methods=("copy-last-frame",))
    data = DriftingDiscs(clips=4)
    with pytest.raises(ProtocolError, match="there is no figure 'times'; there are: time, "):
        run.make_figures(suite, data, tmp_path, tmp_path, kinds=["times"])
    with pytest.raises(RecordError, match="has no record for this suite"):
        run.make_figures(suite, data, tmp_path, tmp_path, kinds=["time"])
    lines = run.make_figures(suite, data, tmp_path, tmp_path / "out")
    assert [line.partition(":")[0] for line in lines if line.startswith("no ")] == [
        "no time", "no fvd", "no best-of-k", "no dose", "no training",
    ]  # fmt: skip
    assert f"{tmp_path}/out/strips-copy-last-frame.png" in lines
