"""Motion measured in predictions, from x0 and from the truth."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bench.flow.registry import DEFAULT, FLOWS, FlowEstimator, flow_between
from bench.motion import MotionMeter, _read
from bench.protocol import Protocol

SIDE = 64


def texture(seed: int) -> Tensor:
    coarse = torch.rand(1, 3, SIDE // 4, SIDE // 4, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic").clamp(0, 1)[0]


def scene(dx: int, dy: int) -> Tensor:
    """A textured bar of 6 px before a textured wall, moved by (dx, dy) from its place."""
    picture, bar = texture(1), texture(2)
    picture[:, 12 + dy : 52 + dy, 28 + dx : 34 + dx] = bar[:, 12:52, 28:34]
    return picture


def exact(dx: int, dy: int) -> Tensor:
    flow = torch.zeros(2, SIDE, SIDE)
    flow[:, 12:52, 28:34] = torch.tensor([dx, dy]).float()[:, None, None]
    return flow[None]


def meter(anchored: bool = True) -> MotionMeter:
    return MotionMeter(DEFAULT, anchored=anchored, device=torch.device("cpu"))


def film(last: Tensor) -> Tensor:
    return last[None, None]


def test_a_copy_moves_by_nothing_and_the_truth_exactly_by_the_truth() -> None:
    x0, truth = scene(0, 0), scene(9, 1)
    flow = exact(9, 1)
    assert not meter().measure(x0[None], film(x0), truth[None], flow).any()
    assert torch.equal(meter().measure(x0[None], film(truth), truth[None], flow), flow)
    assert not torch.allclose(meter(False).measure(x0[None], film(truth), truth[None], flow), flow, atol=0.5)


@pytest.mark.parametrize(("moved", "wanted"), [(1, (1, 0)), (8, (8, 0)), (10, (10, 0))])
def test_what_is_near_either_end_is_measured_from_there(moved: int, wanted: tuple[int, int]) -> None:
    found = meter().measure(scene(0, 0)[None], film(scene(moved, 0)), scene(9, 0)[None], exact(9, 0))
    inside = found[0, :, 20:44, 30:32].flatten(1)
    torch.testing.assert_close(inside.median(1).values, torch.tensor(wanted).float(), atol=0.35, rtol=0)


def test_reading_is_exact_at_whole_pixels_and_linear_between() -> None:
    ramp = torch.arange(SIDE).float().expand(1, 1, SIDE, SIDE)
    place = torch.full((1, 2, SIDE, SIDE), 5.0)
    assert bool((_read(ramp, place) == 5).all())
    assert torch.allclose(_read(ramp, place + 0.25), torch.tensor(5.25))
    assert bool((_read(ramp, place + 1000) == SIDE - 1).all())


def test_a_protocol_anchors_a_tracker_and_keeps_its_hash_without() -> None:
    given = {"dataset": "sim-plants", "metrics": ["psnr"], "tracker": DEFAULT}
    assert Protocol(**given).hash == Protocol(**given, anchored=False).hash
    assert Protocol(**given).hash != Protocol(**given, anchored=True).hash
    with pytest.raises(ValueError, match="says how a tracker measures"):
        Protocol(dataset="sim-plants", metrics=("psnr",), anchored=True)


def answers(count: int, clips: int = 3) -> tuple[Tensor, list[Tensor]]:
    """x0 of some clips, and `count` videos of each in which the bar moves differently."""
    x0 = scene(0, 0)[None].expand(clips, -1, -1, -1)
    films = [
        torch.stack([torch.stack([scene((k + row) * t // 3, t // 2) for t in range(1, 5)]) for row in range(clips)])
        for k in range(count)
    ]
    return x0, films


@pytest.mark.parametrize("tracker", ["dis", "dis-tracked"])
def test_the_number_of_threads_moves_no_bit(tracker: str) -> None:
    import cv2

    x0, films = answers(2)
    measuring = MotionMeter(tracker, anchored=True, device=torch.device("cpu"))
    one_by_one = [
        torch.cat(
            [
                flow_between(FLOWS.get(tracker)("cpu"), torch.cat([x0[row, None], film[row]])[None])
                for row in range(len(film))
            ]
        )
        for film in films
    ]
    threads, of_opencv = torch.get_num_threads(), cv2.getNumThreads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found = measuring.from_x0_each(x0, films)
            assert all(torch.equal(ours, known) for ours, known in zip(found, one_by_one, strict=True))
            measured = measuring.measure(x0, films[0], films[1][:, -1], one_by_one[1])
            if count == 1:
                alone = measured
            assert torch.equal(measured, alone)
            assert torch.equal(measuring.measure(x0, films[0], films[1][:, -1], one_by_one[1], found[0]), alone)
            assert (torch.get_num_threads(), cv2.getNumThreads()) == (count, of_opencv)
    finally:
        torch.set_num_threads(threads)


def test_equal_answers_of_a_clip_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counting(tracker: FlowEstimator, frames: Tensor) -> Tensor:
        seen.append(len(frames))
        return flow_between(tracker, frames)

    monkeypatch.setattr("bench.motion.flow_between", counting)
    x0, (first, second) = answers(2)
    mixed = first.clone()
    mixed[1] = second[1]
    found = meter().from_x0_each(x0, [first, first.clone(), mixed])
    assert sum(seen) == len(first) + 1
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[2][[0, 2]], found[0][[0, 2]])
    assert not torch.equal(found[2][1], found[0][1])
    assert torch.equal(found[2], meter().from_x0(x0, mixed))
