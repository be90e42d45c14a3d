"""Metrics of control in the harness, on a picture whose motion is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.data.interface import ClipRef
from bench.evaluate import evaluate
from bench.pokes import PokeRule
from bench.protocol import Protocol
from bench.store import Store
from bench.tables import build_table
from methods.baselines import CopyLastFrame, NoisyTruth, backward_warp
from methods.interface import Clip, Conditioning, MethodCard, clip_generator
from metrics.control_metrics import Leakage, Response
from metrics.errors import ProtocolError

METRICS = (
    "endpoint_error", "direction_error", "poke_share", "dose_slope", "leakage", "flow_error", "zero_stillness",
    "beside_stillness", "moving_lpips", "moving_psnr", "retrieval",
)  # fmt: skip
STEPS = ((4.0, 0.0), (0.0, 4.0), (-4.0, 0.0), (0.0, -4.0))
ON_A_SQUARE = Protocol(
    dataset="square", context=1, metrics=METRICS, poke=PokeRule(foreground="parts"), flow="exact", tracker="dis"
)


class SlidingSquare:
    """A textured square on a textured ground; four clips of one scene, in which it slides four ways. Flow is exact."""

    name, size, skipped = "square", 64, ()
    content_hash = "0"

    def clips(self) -> Sequence[ClipRef]:
        return [ClipRef(f"scene{scene}@{way}", f"scene{scene}") for scene in range(2) for way in range(4)]

    def describe(self) -> str:
        return "a square"

    def load(self, clip_id: str) -> Clip:
        scene, _, way = clip_id.partition("@")
        generator = clip_generator(0, scene)
        ground, square = (smooth(generator, self.size) for _ in range(2))
        frames = []
        for t in range(11):
            dx, dy = (round(step * t / 10 * 2) / 2 for step in STEPS[int(way)])
            moved = backward_warp(square[None], torch.tensor([-dx, -dy])[None, :, None, None].expand(-1, -1, 64, 64))[0]
            frame = ground.clone()
            top, left = round(20 + dy), round(20 + dx)
            frame[:, top : top + 24, left : left + 24] = moved[:, top : top + 24, left : left + 24]
            frames.append(frame)
        parts = torch.zeros(64, 64, dtype=torch.uint8)
        parts[20:44, 20:44] = 1
        flow = parts[None].float() * torch.tensor(STEPS[int(way)])[:, None, None]
        video = (torch.stack(frames) * 255).round().byte()
        return Clip(video, clip_id, scene, 10.0, flow=flow, parts=parts)


def smooth(generator: torch.Generator, size: int) -> Tensor:
    coarse = torch.rand(1, 3, size // 4, size // 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)[0]


class MovesEverything:
    """Shifts the whole picture along the poke."""

    card = MethodCard(name="everything", title="Everything", revision="1", inputs=frozenset({"context", "poke"}))

    def prepare(self, device: torch.device) -> None:
        pass

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        assert conditioning.poke is not None
        frames = []
        for t in range(1, conditioning.horizon + 1):
            shift = -conditioning.poke.displacement * t / conditioning.horizon
            frames.append(backward_warp(conditioning.x0, shift[:, :, None, None].expand(-1, -1, 64, 64)))
        return torch.stack(frames, 1)[:, None]


@pytest.fixture(scope="module")
def means(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    methods = [NoisyTruth(sigma=0.0), CopyLastFrame(), MovesEverything()]
    folder = tmp_path_factory.mktemp("store")
    records = evaluate(methods, SlidingSquare(), ON_A_SQUARE, Store(folder), batch_size=3)
    table = build_table("T", records)
    assert "Motion is measured by 'dis' flow" in table.markdown()
    frame = table.frame()
    assert {"8"} == set(frame["clips"].astype(str))
    return {name: dict(zip(part["metric"], part["value"], strict=True)) for name, part in frame.groupby("method")}


def test_the_truth_shows_the_error_of_the_tracker(means: dict[str, dict[str, float]]) -> None:
    truth = means["Truth + noise (0)"]
    assert truth["endpoint_error"] < 0.5
    assert truth["direction_error"] < 5
    assert truth["poke_share"] == pytest.approx(1, abs=0.1)
    assert truth["leakage"] < 0.25
    assert (truth["moving_lpips"], truth["moving_psnr"], truth["retrieval"]) == (0, 100, 1)


def test_a_still_prediction_does_not_respond(means: dict[str, dict[str, float]]) -> None:
    still = means["Copy last frame"]
    assert still["endpoint_error"] == pytest.approx(4)
    assert still["poke_share"] == still["dose_slope"] == still["leakage"] == 0
    assert still["zero_stillness"] == still["beside_stillness"] == 1
    assert still["retrieval"] == pytest.approx(0.25)
    assert still["direction_error"] != still["direction_error"]


def test_moving_everything_follows_the_poke_and_is_punished_by_leakage(means: dict[str, dict[str, float]]) -> None:
    found = means["Everything"]
    assert found["endpoint_error"] < 0.5
    assert found["dose_slope"] == pytest.approx(1, abs=0.1)
    assert found["poke_share"] == pytest.approx(1, abs=0.1)
    assert found["leakage"] > 3
    assert found["zero_stillness"] == 1
    assert found["beside_stillness"] < 0.1
    assert found["flow_error"] > 8 * means["Truth + noise (0)"]["flow_error"]
    assert found["moving_psnr"] > means["Copy last frame"]["moving_psnr"]


def test_metrics_of_control_need_a_poke_and_a_tracker() -> None:
    with pytest.raises(ValueError, match="leakage measures how pokes are followed: give poke, and a tracker"):
        Protocol(dataset="a", metrics=("leakage",), poke=PokeRule())


def test_the_error_is_one_of_the_program() -> None:
    from bench.suite_file import load_suite

    with pytest.raises(ProtocolError, match="leakage measures how pokes are followed"):
        load_suite("reference", {"metrics": ["leakage"]})


def test_measured_from_the_truth_too_the_truth_is_perfect(tmp_path: Path) -> None:
    protocol = Protocol(
        dataset="square",
        context=1,
        metrics=("endpoint_error", "direction_error", "poke_share", "leakage", "flow_error", "retrieval"),
        poke=PokeRule(foreground="parts"),
        flow="exact",
        tracker="dis",
        anchored=True,
    )
    frame = build_table(
        "T", evaluate([NoisyTruth(sigma=0.0), CopyLastFrame()], SlidingSquare(), protocol, Store(tmp_path))
    ).frame()
    values = {name: dict(zip(part["metric"], part["value"], strict=True)) for name, part in frame.groupby("method")}
    perfect = {
        "endpoint_error": 0,
        "direction_error": 0,
        "poke_share": 1,
        "leakage": 0,
        "flow_error": 0,
        "retrieval": 1,
    }
    assert values["Truth + noise (0)"] == pytest.approx(perfect, abs=1e-4)
    assert values["Copy last frame"]["endpoint_error"] == 4
    assert values["Copy last frame"]["poke_share"] == values["Copy last frame"]["leakage"] == 0


def test_measuring_from_a_truth_that_is_not_known_exactly_is_refused(tmp_path: Path) -> None:
    class WithoutFlow(SlidingSquare):
        def load(self, clip_id: str) -> Clip:
            return replace(super().load(clip_id), flow=None)

    protocol = Protocol(
        dataset="square", context=1, metrics=("leakage",), poke=PokeRule(), tracker="dis", anchored=True
    )
    with pytest.raises(ProtocolError, match="knows no exact flow; use --set anchored=false"):
        evaluate([CopyLastFrame()], WithoutFlow(), protocol, Store(tmp_path))


def test_leakage_leaves_out_what_is_truly_hidden_at_the_end() -> None:
    """A block of four pixels moves by (3, 4) onto others, and a prediction moves these as well, by 5 px."""
    flow, target = torch.zeros(1, 2, 10, 10), torch.zeros(1, 1, 3, 10, 10)
    step = torch.tensor([3.0, 4.0])[:, None, None]
    flow[0, :, 2:4, 2:4] = step
    found = flow.clone()
    found[0, :, 6:8, 5:7] = step
    response = Response(target, target, torch.zeros(1, 2), torch.ones(1, 2), found, flow, exact=True)
    visible = torch.ones(1, 10, 10, dtype=torch.bool)
    assert float(Leakage().score(response)) == pytest.approx(4 * 5 / 96)
    assert float(Leakage().score(replace(response, visible=visible))) == pytest.approx(4 * 5 / 96)
    visible[0, 6:8, 5:7] = False
    assert float(Leakage().score(replace(response, visible=visible))) == 0


def test_what_the_data_know_to_be_hidden_reaches_leakage(tmp_path: Path) -> None:
    class KnowsWhatIsSeen(SlidingSquare):
        def load(self, clip_id: str) -> Clip:
            clip = super().load(clip_id)
            dx, dy = (int(step) for step in STEPS[int(clip_id.partition("@")[2])])
            assert clip.parts is not None
            return replace(clip, visible=clip.parts.roll((dy, dx), (0, 1)).eq(0) | clip.parts.eq(1))

    protocol = ON_A_SQUARE.model_copy(update={"metrics": ("leakage",)})
    known, unknown = (
        evaluate([NoisyTruth(sigma=0.0)], data, protocol, Store(tmp_path / str(number)))[0].clip_values("leakage")
        for number, data in enumerate((KnowsWhatIsSeen(), SlidingSquare()))
    )
    assert (known < 0.7 * unknown).all()


def test_pokes_beside_the_object_count_for_stillness_and_not_for_following(tmp_path: Path) -> None:
    protocol = Protocol(
        dataset="square",
        context=1,
        metrics=("endpoint_error", "direction_error", "poke_share", "dose_slope", "leakage"),
        poke=PokeRule(foreground="parts", background=1.0),
        flow="exact",
        tracker="dis",
    )
    (record,) = evaluate([MovesEverything()], SlidingSquare(), protocol, Store(tmp_path))
    values = {name: record.clip_values(name) for name in protocol.metrics}
    assert all(torch.isnan(torch.as_tensor(values[name])).all() for name in protocol.metrics[:4])
    assert bool((torch.as_tensor(values["leakage"]) > 1).all())


@pytest.mark.parametrize("foreground", ["none", "parts"])
def test_after_a_poke_beside_the_object_what_stands_still_is_right(tmp_path: Path, foreground: str) -> None:
    class WithoutParts(SlidingSquare):
        def load(self, clip_id: str) -> Clip:
            clip = super().load(clip_id)
            return clip if foreground == "parts" else replace(clip, parts=None)

    protocol = Protocol(
        dataset="square",
        context=1,
        metrics=("flow_error", "leakage", "endpoint_error"),
        poke=PokeRule.model_validate({"foreground": foreground, "background": 1.0}),
        flow="exact",
        tracker="dis",
        anchored=True,
    )
    still, moved = evaluate([CopyLastFrame(), MovesEverything()], WithoutParts(), protocol, Store(tmp_path))
    for name in ("flow_error", "leakage"):
        assert still.clip_values(name).max() == 0
        assert moved.clip_values(name).min() > 1
    assert np.isnan([record.clip_values("endpoint_error") for record in (still, moved)]).all()


def test_motion_that_no_metric_asks_for_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> Tensor:
        raise AssertionError("motion was measured")

    protocol = ON_A_SQUARE.model_copy(update={"metrics": ("moving_psnr",)})
    monkeypatch.setattr("bench.motion.flow_between", refused)
    (record,) = evaluate([CopyLastFrame()], SlidingSquare(), protocol, Store(tmp_path))
    assert bool(torch.isfinite(torch.as_tensor(record.clip_values("moving_psnr"))).all())
    with pytest.raises(AssertionError, match="motion was measured"):
        evaluate(
            [CopyLastFrame()],
            SlidingSquare(),
            protocol.model_copy(update={"metrics": ("moving_psnr", "leakage")}),
            Store(tmp_path),
        )
