"""Plans of evaluations: the model, what it rests on, and how it compares with what then happens."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import DriftingDiscs, Unkept
from torch import Tensor
from typer.testing import CliRunner

from bench import provenance
from bench.cli import app
from bench.evaluate import evaluate
from bench.planning.calibration import calibrate
from bench.planning.costs import (
    CALL,
    CLIP,
    WRITE,
    Answerer,
    Coefficient,
    CostModel,
    Equation,
    added,
    clip_units,
    fit,
    predict_amounts,
    predict_column,
    score_amounts,
)
from bench.planning.from_records import record_equations
from bench.planning.plan import Plan, busiest_share, flow_share, plan
from bench.planning.run import make_plan
from bench.planning.storage import Storage, storage
from bench.planning.wording import duration, size_of
from bench.pokes import PokeRule
from bench.protocol import Protocol
from bench.store import Store
from methods.interface import Conditioning, MethodCard
from methods.registry import build_method
from metrics.errors import DataError

SMALL = Protocol(dataset="discs", size=32, metrics=("psnr", "ssim", "lpips_alex"), min_clips=4)
NOTHING = Storage(0, 0, 0, 0, 0, 0)
CARD = MethodCard(name="m", title="M", revision="1")
STORED = Path(__file__).resolve().parents[2] / "results" / "records"


def hours(clips: int, processes: int, batch_size: int = 8, model: CostModel | None = None, **changes: object) -> Plan:
    """The plan of one method under a protocol with PSNR, where each piece of work takes a second a unit."""
    protocol = Protocol(dataset="d", metrics=("psnr",), **changes)  # type: ignore[arg-type]
    columns = ("psnr", predict_column("m"), CLIP, WRITE, CALL)
    known = Coefficient(1.0, 0.1, frozenset({"record"}), frozenset({(64, 10)}))
    model = model or CostModel(dict.fromkeys(columns, known), 0.1, 5)
    return plan("T", [CARD], protocol, clips, model, NOTHING, batch_size=batch_size, processes=processes, device="cpu")


@pytest.mark.parametrize(
    ("clips", "batch_size", "processes", "share"),
    [
        (64, 8, 1, (64, 8)),
        (64, 8, 4, (16, 2)),
        (65, 8, 4, (17, 3)),
        (70, 8, 2, (38, 5)),
        (5, 8, 4, (5, 1)),
        (33, 1, 4, (9, 9)),
    ],
)
def test_the_busiest_process_has_what_the_evaluation_gives_it(
    clips: int, batch_size: int, processes: int, share: tuple[int, int]
) -> None:
    assert busiest_share(clips, batch_size, processes) == share
    batches = [list(range(clips))[start : start + batch_size] for start in range(0, clips, batch_size)]
    given = [batches[rank::processes] for rank in range(processes)]
    assert max(sum(map(len, mine)) for mine in given) == share[0]


@pytest.mark.parametrize(
    ("clips", "processes", "share"), [(130, 1, 130), (130, 2, 128), (130, 3, 64), (130, 8, 64), (20, 4, 20)]
)
def test_files_of_flow_are_shared_out(clips: int, processes: int, share: int) -> None:
    assert flow_share(clips, processes) == share


def test_time_falls_with_the_number_of_processes_exactly() -> None:
    one = hours(64, 1)
    assert one.seconds == 64 * (1 + 1 + 2 + 1) + 8 * (1 + 3)  # clip, prediction, PSNR with its truth, writing; calls
    assert [hours(64, n).seconds for n in (2, 4, 8)] == [one.seconds / n for n in (2, 4, 8)]
    assert hours(128, 1).seconds == 2 * one.seconds
    assert (one.low, one.high) == pytest.approx((one.seconds / 1.2, 1.2 * one.seconds))


def test_another_shape_is_extrapolated_in_pixels_and_frames_and_says_so() -> None:
    def predicted(found: Plan) -> tuple[float | None, str]:
        return next((line.seconds, line.basis) for line in found.lines if line.what == predict_column("m"))

    assert predicted(hours(10, 1)) == (10, "measured (records)")
    seconds, basis = predicted(hours(10, 1, size=128, horizon=20))
    assert seconds == 80
    assert basis == "extrapolated from 64 px x 10 (records)"
    wide = hours(10, 1, size=128, horizon=20)
    assert wide.high / wide.seconds > hours(10, 1).high / hours(10, 1).seconds


def test_what_was_not_measured_is_not_given_a_number() -> None:
    found = hours(10, 1, model=CostModel())
    assert found.seconds == 0
    assert all((line.seconds, line.basis) == (None, "not measured") for line in found.lines)
    assert "at least 0.0 s" in found.text()
    assert "nothing was measured" in found.text()


def test_the_fit_finds_what_made_the_measurements_and_nothing_negative() -> None:
    def measured(seconds: float, **amounts: float) -> Equation:
        return Equation(amounts, seconds, "calibration", (64, 10))

    model = fit([measured(0.5 + 2 * n + 3 * k, a=n, b=k, fixed=1) for n, k in ((4, 1), (8, 1), (8, 5), (2, 9))])
    found = {name: coefficient.seconds for name, coefficient in model.coefficients.items()}
    assert found == pytest.approx({"a": 2, "b": 3, "fixed": 0.5})
    assert model.error < 1e-9
    falling = fit([measured(3, a=1, fixed=1), measured(2, a=2, fixed=1), measured(1, a=3, fixed=1)])
    assert all(coefficient.seconds >= 0 for coefficient in falling.coefficients.values())
    assert falling.error > 0.2
    assert fit([]) == CostModel()


def test_measures_of_control_ask_for_more_predictions_and_motion() -> None:
    given = {"dataset": "d", "poke": PokeRule(), "tracker": "dis-tracked"}
    quiet = score_amounts(Protocol(metrics=("moving_psnr",), **given), Answerer("m", 1, True), 1)
    assert quiet == {"moving_psnr": 1}
    asked = Protocol(metrics=("dose_slope", "zero_stillness", "beside_stillness"), anchored=True, **given)
    poked, blind = (score_amounts(asked, Answerer("m", 2, takes), 1) for takes in (True, False))
    assert poked[predict_column("m")] == 4 * 2
    assert predict_column("m") not in blind, "what takes no poke is not asked again"
    assert (poked["motion dis-tracked"], blind["motion dis-tracked"]) == (5 * 2, 2)


class Asked:
    """Shows x0, and counts the clips that it predicts."""

    def __init__(self, inputs: set[str]) -> None:
        self.card = replace(CARD, inputs=frozenset(inputs))
        self.clips = 0

    def prepare(self, device: torch.device) -> None:
        self.clips = 0

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        self.clips += len(conditioning.clip_ids)
        return conditioning.x0[:, None, None].expand(-1, 1, conditioning.horizon, -1, -1, -1)


@pytest.mark.parametrize("inputs", [{"context"}, {"context", "poke"}])
def test_predictions_are_counted_as_they_are_made(tmp_path: Path, inputs: set[str]) -> None:
    names = ("dose_slope", "zero_stillness", "beside_stillness", "psnr")
    protocol = Protocol(dataset="discs", size=32, metrics=names, poke=PokeRule(), tracker="dis", min_clips=4)
    method, answerer = Asked(inputs), Answerer("m", 1, "poke" in inputs)
    planned = added(predict_amounts(protocol, answerer), score_amounts(protocol, answerer, 1))[predict_column("m")]
    evaluate([method], DriftingDiscs(clips=4), protocol, Store(tmp_path))
    assert planned == pytest.approx(method.clips / 4 * clip_units(protocol))
    found = calibrate([method], protocol, 4, device=torch.device("cpu"), batch_size=4)
    assert not found.refused
    amounts = sum(equation.amounts.get(predict_column("m"), 0) for equation in found.equations)
    warmed = planned  # one clip, in no equation
    assert amounts + warmed == pytest.approx(method.clips * clip_units(protocol))


@pytest.fixture
def cheap_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many features as I3D gives: the first pixels."""

    def pooled(video: Tensor, *, mode: str = "exact", batch_size: int = 8) -> Tensor:
        return video.flatten(1)[:, :400].clone()

    monkeypatch.setattr(sys.modules["metrics.fvd"], "i3d_logits", pooled)
    monkeypatch.setattr("bench.evaluation.scoring.ReferenceCache", Unkept)


def bytes_in(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())


@pytest.mark.filterwarnings("ignore::metrics.fvd.BiasWarning")
def test_bytes_are_those_that_are_then_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap_features: None
) -> None:
    protocol = SMALL.model_copy(update={"metrics": ("fvd", "psnr", "ssim"), "poke": PokeRule(), "samples": 3})
    discs, cache = DriftingDiscs(clips=40), tmp_path / "cache"
    monkeypatch.setenv("POKEBENCH_CACHE", str(cache))
    methods = [build_method("copy-last-frame"), build_method("noisy-truth")]
    hardware = provenance.hardware("cpu")
    ids = [(ref.clip_id, ref.source) for ref in discs.clips()]
    cards = [method.card for method in methods]
    wanted = storage(cards, protocol, ids, batch_size=8, hardware=hardware)
    monkeypatch.setattr(Store, "remove_parts", lambda *_: None)
    evaluate(methods, discs, protocol, Store(tmp_path / "store"))
    unfinished = bytes_in(tmp_path / "store" / ".partial", "*")
    assert wanted.unfinished == pytest.approx(unfinished, rel=0.1)
    assert wanted.records == pytest.approx(bytes_in(tmp_path / "store", "*") - unfinished, rel=0.1)
    assert wanted.features == 2 * 40 * 2 * 400 * 4
    assert wanted.flow == pytest.approx(bytes_in(cache, "*.flow"), rel=0.1)
    assert wanted.frames == 40 * 12 * 3 * 32 * 32


def test_32_clips_take_about_what_runs_of_4_and_8_foretell(tmp_path: Path) -> None:
    specs = ("copy-last-frame", "noisy-truth")
    found = calibrate([build_method(spec) for spec in specs], SMALL, 32, device=torch.device("cpu"))
    assert found.clips == (4, 8)
    assert not found.refused
    assert found.peak_bytes > 50e6
    methods = [build_method(spec) for spec in specs]
    planned = plan(
        "T",
        [method.card for method in methods],
        SMALL,
        32,
        fit(found.equations),
        NOTHING,
        batch_size=8,
        processes=1,
        device="cpu",
        calibration=found,
    )
    assert {line.basis.partition(" (")[0] for line in planned.lines} <= {"measured", "measured together with others"}
    started = time.perf_counter()
    evaluate(methods, DriftingDiscs(clips=32), SMALL, Store(tmp_path))
    taken = time.perf_counter() - started
    assert planned.seconds / 4 < taken < 4 * planned.seconds


def test_a_method_that_knows_no_generated_clips_is_refused_with_the_reason() -> None:
    class Picky:
        card = replace(CARD, name="picky", sizes=frozenset({128}))

        def prepare(self, device: torch.device) -> None:
            raise AssertionError

        def predict(self, conditioning: object, samples: int, seed: int) -> Tensor:
            raise AssertionError

    found = calibrate([Picky()], SMALL, 32, device=torch.device("cpu"), batch_size=1)
    assert "predicts [128] px" in found.refused["picky"]
    assert not any(predict_column("picky") in equation.amounts for equation in found.equations)


def test_records_count_when_they_are_of_hardware_like_this() -> None:
    records = [record.facts for record in Store(STORED).records()]
    theirs = dict(records[0].provenance.hardware[0])
    found = record_equations(records, theirs)
    assert len(found) == 2 * sum(r.provenance.hardware[0]["processor"] == theirs["processor"] for r in records)
    assert record_equations(records, {**theirs, "device": "cuda:0"}) == []
    assert record_equations(records, {**theirs, "processor": "another"}) == []
    model = fit(found)
    assert model.error < 1
    assert (
        model.coefficients[predict_column("savp-small")].seconds
        > model.coefficients[predict_column("noisy-truth:sigma=0.0")].seconds
    )


def command(*words: str) -> str:
    done = CliRunner().invoke(app, ["plan", *words, "--device", "cpu"], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_the_command_plans_without_data_and_says_what_it_rests_on(tmp_path: Path) -> None:
    words = ("reference", "--gpus", "4", "--store", str(tmp_path))
    said = command(*words)
    assert "5 methods, 130 clips, 64 px, 2 + 10 frames, K = 1" in said
    assert "4 processes on cpu" in said
    assert "not measured" in said
    content = json.loads(command(*words, "--json"))
    assert (content["processes"], content["clips"], content["measurements"]) == (4, 130, 0)
    assert content["bytes"]["features"] == 5 * 130 * 2 * 400 * 4


def test_calibration_measures_all_but_what_it_names() -> None:
    said = command("reference", "--calibrate", "--set", "metrics=['psnr','ssim']", "--set", "size=32", "--clips", "20")
    assert "at least" not in said
    assert "measured (calibration)" in said
    assert "memory of a process" in said
    assert "not counted: the start of Python" in said


def test_a_number_of_clips_that_nobody_knows_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POKEBENCH_CACHE", str(tmp_path))
    pairs: Sequence[str] = ("dataset=iper", "clips=none")
    with pytest.raises(DataError, match="say with --clips"):
        make_plan("reference", pairs=pairs)
    assert make_plan("reference", pairs=pairs, clips=500).clips == 500


SUITE = """
title = "To be trained"
methods = ["hao:checkpoint=out/train/mine/hao-small-64/model.safetensors", "hao:checkpoint=nowhere.safetensors"]

[protocol]
dataset = "sim-plants"
size = 64
metrics = ["psnr"]
tracks = { source = "exact", count = 5 }

[[training]]
method = "hao"
recipe = "small-64"
"""


@pytest.mark.slow
def test_methods_that_are_yet_to_be_trained_are_measured_without_weights(tmp_path: Path) -> None:
    suite = tmp_path / "mine.toml"
    suite.write_text(SUITE)
    found = make_plan(str(suite), calibrated=True, batch_size=2)
    assert found.methods == ("hao, recipe small-64, untrained",)
    assert any(reason.startswith("hao:checkpoint=nowhere.safetensors: ") for reason in found.unknown)
    (line,) = (line for line in found.lines if line.what == predict_column(found.methods[0]))
    assert line.seconds
    assert line.basis == "measured (calibration)"


@pytest.mark.parametrize(("seconds", "said"), [(3.21, "3.2 s"), (100, "1.7 min"), (7200, "2.0 h")])
def test_durations_read_well(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(("count", "said"), [(12, "12 B"), (2048, "2.0 KiB"), (3 << 30, "3.0 GiB")])
def test_sizes_read_well(count: int, said: str) -> None:
    assert size_of(count) == said
