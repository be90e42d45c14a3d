"""Flow estimators on motions that are known, the checks of flow, and the cache."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DriftingDiscs, smooth_texture
from scipy.ndimage import map_coordinates

from bench.data.interface import Settings
from bench.data.sim.dataset import SimDataSet
from bench.data.sim.splits import SPLITS
from bench.flow.quality import (
    endpoint_error,
    flow_error_table,
    forward_backward_residual,
    leaves_picture,
    warp_error,
)
from bench.flow.registry import FLOWS, flow_between
from bench.flow.source import FlowSource, context_of
from methods.interface import Clip
from metrics.errors import DataError, MethodError, RegistryError, WeightsError

WITHOUT_WEIGHTS = ("dis", "dis-tracked", "farneback", "tvl1")
LARGEST_ERROR = {"dis": 0.02, "dis-tracked": 0.02, "farneback": 0.02, "tvl1": 0.1}
"""Mean end-point error on a moving texture, px."""
SHIFTS = ((0.0, 0.0), (1.5, -0.75), (-3.0, 2.0), (5.0, 4.0))
FINE_TEXTURE = 1.0
"""Blur of the texture, px."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimDataSet]:
    """Two plants and two people of the simulated world, with a cache of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POKEBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        split = replace(
            SPLITS["sim-pokes"], name="tiny", content="natural", scenes=4, clips_per_scene=1, scenes_per_shard=4
        )
        yield SimDataSet(split, Settings(64, 12))


def shifted_pair(dx: float, dy: float, size: int = 64) -> torch.Tensor:
    """Float `[2, 3, size, size]`: a texture, and the same moved by (dx, dy) px."""
    margin = 12
    texture = smooth_texture(size + 2 * margin, size + 2 * margin, seed=4, blur=FINE_TEXTURE)
    ys, xs = np.mgrid[margin : margin + size, margin : margin + size].astype(float)
    frames = [
        np.stack([map_coordinates(texture[..., c], [ys - t * dy, xs - t * dx], order=3) for c in range(3)])
        for t in (0, 1)
    ]
    return torch.from_numpy(np.stack(frames)).float().clamp(0, 1)


@pytest.mark.parametrize(
    ("name", "shift"),
    [(name, shift) for name in WITHOUT_WEIGHTS for shift in SHIFTS if (name, shift) != ("tvl1", SHIFTS[3])],
)
def test_estimators_follow_a_translating_texture(name: str, shift: tuple[float, float]) -> None:
    pair = shifted_pair(*shift)
    flow = FLOWS.get(name)("cpu").estimate(pair[:1], pair[1:])
    assert flow.shape == (1, 2, 64, 64)
    assert flow.dtype == torch.float32
    truth = torch.tensor(shift)[:, None, None].expand(2, 64, 64)
    error = endpoint_error(flow[0], truth)[8:-8, 8:-8]
    print("ERR", name, shift, float(error.mean()))
    assert error.mean() < (1e-6 if shift == (0.0, 0.0) else LARGEST_ERROR[name])


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_results_do_not_depend_on_batch_or_type(name: str) -> None:
    pairs = torch.stack([shifted_pair(*shift) for shift in ((1.0, 0.0), (0.0, -2.0), (2.0, 2.0))])
    frames = (pairs * 255).round().byte()
    estimator = FLOWS.get(name)("cpu")
    whole = estimator.estimate(frames[:, 0], frames[:, 1])
    assert torch.equal(whole[1:2], estimator.estimate(frames[1:2, 0], frames[1:2, 1]))
    assert torch.equal(whole, estimator.estimate(frames[:, 0].float() / 255, frames[:, 1].float() / 255))


def test_tracking_through_frames_follows_what_one_step_loses() -> None:
    """A fine texture that moves 18 px in 9 steps: too far for one step from coarse to fine."""
    texture = torch.from_numpy(smooth_texture(64, 96, seed=2, blur=0.7)).permute(2, 0, 1)
    frames = torch.stack([texture[:, :, 20 - 2 * t : 84 - 2 * t] for t in range(10)])[None]
    truth = torch.tensor([18.0, 0.0])[:, None, None].expand(2, 64, 64)
    error = {
        name: float(endpoint_error(flow_between(FLOWS.get(name)("cpu"), frames)[0], truth)[8:-8, 8:-28].mean())
        for name in ("dis", "dis-tracked")
    }
    assert error["dis-tracked"] < 0.5
    assert error["dis-tracked"] < error["dis"] / 4


def test_raft_says_what_to_do_without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    monkeypatch.setenv("POKEBENCH_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=r"raft_large_C_T_SKHT_V2.*POKEBENCH_WEIGHTS.*no network.*such as dis"):
        FLOWS.get("raft")("cpu")
    (tmp_path / "raft_small_C_T_V2-01064c6d.pth").write_bytes(b"something else")
    with pytest.raises(WeightsError, match="begins with 01064c6d"):
        FLOWS.get("raft-small")("cpu")


def test_raft_runs_at_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """With weights of its own making: shapes, sizes that are no multiple of 8, and independence of the batch."""
    from torchvision.models.optical_flow import raft_small

    torch.manual_seed(0)
    state = raft_small(weights=None).state_dict()
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *_, **__: state)
    monkeypatch.setattr("bench.flow.raft.SmallRAFTFlow.updates", 2)
    estimator = FLOWS.get("raft-small")("cpu")
    frames = torch.randint(0, 256, (2, 2, 3, 60, 66), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    whole = estimator.estimate(frames[:, 0], frames[:, 1])
    assert whole.shape == (2, 2, 60, 66)
    one = estimator.estimate(frames[1:, 0], frames[1:, 1])
    torch.testing.assert_close(whole[1:], one, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_wrong_frames_are_refused(name: str) -> None:
    estimator, good = FLOWS.get(name)("cpu"), torch.zeros(1, 3, 32, 32)
    for first, second in (
        (good, good[..., :30]),
        (good[0], good[0]),
        (good[:, :1], good[:, :1]),
        (good.int(), good.int()),
    ):
        with pytest.raises(MethodError, match="expected two batches"):
            estimator.estimate(first, second)


def test_checks_by_hand() -> None:
    """A uniform shift by (2, 0): there and back is nothing, and fetching back along it leaves no error inside."""
    forward = torch.tensor([2.0, 0.0])[None, :, None, None].expand(1, 2, 6, 8)
    assert torch.equal(forward_backward_residual(forward, -forward), torch.zeros(1, 6, 8))
    torch.testing.assert_close(forward_backward_residual(forward, 0.5 * forward), torch.full((1, 6, 8), 3.0))
    first = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    second = first.roll(2, dims=-1)
    error = warp_error(first, second, forward)
    torch.testing.assert_close(error[..., :6], torch.zeros(1, 6, 6), atol=1e-6, rtol=0)
    copying = warp_error(first, second, torch.zeros_like(forward))
    torch.testing.assert_close(copying, (first - second).abs().mean(1))
    assert leaves_picture(forward)[0].all(0).tolist() == [False] * 6 + [True] * 2
    truth = torch.tensor([5.0, 4.0])[None, :, None, None].expand(1, 2, 6, 8)
    torch.testing.assert_close(endpoint_error(forward, truth), torch.full((1, 6, 8), 5.0))


def test_exact_flow_of_the_simulated_world(world: SimDataSet) -> None:
    """Static pixels are exactly 0; fetching the last frame back along the flow beats copying where things move and
    stay in sight; p equals where the tracks end."""
    source = FlowSource(world, "exact")
    for ref in world.clips():
        clip, seen = world.load(ref.clip_id), world.simulated(ref.clip_id)
        flow = source(ref.clip_id)
        assert torch.equal(flow, source.of(clip))
        assert (flow[:, clip.parts == 0] == 0).all()
        first, last = (clip.frames[t][None].float() / 255 for t in (source.context - 1, -1))
        moved = (torch.linalg.vector_norm(flow, dim=0) > 1) & torch.from_numpy(seen.visible)
        assert moved.sum() > 20
        warped = warp_error(first, last, flow[None])[0, moved].mean()
        copied = warp_error(first, last, torch.zeros(1, 2, 64, 64))[0, moved].mean()
        assert warped < 0.75 * copied
        start, end = clip.tracks[:, source.context - 1], clip.tracks[:, -1]
        columns, rows = start.long().T
        torch.testing.assert_close((end - start).T, flow[:, rows, columns], atol=2 / 128, rtol=0)


@pytest.mark.parametrize("name", ["dis", "dis-tracked", "farneback"])
def test_estimates_are_consistent_on_the_simulated_world(world: SimDataSet, name: str) -> None:
    """Where most of the picture is still: going there and back ends near the start, and warping beats copying."""
    estimator = FLOWS.get(name)("cpu")
    frames = torch.stack([world.load(ref.clip_id).frames[world.context - 1 :] for ref in world.clips()])
    forward, backward = flow_between(estimator, frames), flow_between(estimator, frames.flip(1))
    residual = forward_backward_residual(forward, backward)
    print("RES", name, residual.median())
    assert residual.median() < 0.1
    first, last = frames[:, 0].float() / 255, frames[:, -1].float() / 255
    stays = ~leaves_picture(forward)
    warped = warp_error(first, last, forward)[stays].mean()
    print("W", warped, warp_error(first, last, torch.zeros_like(forward))[stays].mean())
    assert warped < 0.8 * warp_error(first, last, torch.zeros_like(forward))[stays].mean()


def test_table_of_errors(world: SimDataSet) -> None:
    table = flow_error_table(world, ["dis", "dis-tracked"])
    assert list(table.index) == ["no motion", "dis", "dis-tracked"]
    truth = torch.stack([world.load(ref.clip_id).flow for ref in world.clips()])
    length = torch.linalg.vector_norm(truth, dim=1)
    still = table.loc["no motion"]
    assert still["mean"] == pytest.approx(float(length.mean()))
    assert still["moving"] == pytest.approx(float(length[length > 0.5].mean()))
    assert still["static"] == 0
    assert still["over 1 px"] == pytest.approx(float((length > 1).float().mean()))
    assert (table["clips"] == 4).all()
    frames = torch.stack([world.load(ref.clip_id).frames[1:] for ref in world.clips()])
    error = endpoint_error(flow_between(FLOWS.get("dis")("cpu"), frames), truth)
    assert table.loc["dis", "mean"] == pytest.approx(float(error.mean()))
    assert table.loc["dis", "median"] == pytest.approx(float(error.median()))
    assert (table["moving"][1:] < still["moving"]).all()


class CountingDIS:
    """Counts the pairs that are estimated."""

    name, version, backend = "counting", 1, "test"
    pairs = 0

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.settings = {"step": 1}

    def estimate(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        type(self).pairs += len(first)
        return FLOWS.get("dis")("cpu").estimate(first, second)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> Path:
    monkeypatch.setitem(FLOWS._loaded, "counting", CountingDIS)
    monkeypatch.setattr("bench.flow.source.CLIPS_PER_FILE", 4)
    CountingDIS.pairs = 0
    return own_cache


def test_cache_is_used_and_complete(counting: Path) -> None:
    discs = DriftingDiscs(10)
    source = FlowSource(discs, "counting", context=2)
    said: list[tuple[int, int, str]] = []
    source.prepare(lambda *words: said.append(words))
    assert [done for done, _, _ in said] == [4, 8, 10]
    assert CountingDIS.pairs == 10
    assert len(list(counting.rglob("*.flow"))) == 3
    again = FlowSource(DriftingDiscs(10), "counting", context=2)
    for ref in discs.clips():
        frames = discs.load(ref.clip_id).frames
        expected = FLOWS.get("dis")("cpu").estimate(frames[None, 1], frames[None, -1])[0]
        assert torch.equal(again(ref.clip_id), expected)
    assert CountingDIS.pairs == 10


def test_processes_share_the_files_among_them(counting: Path) -> None:
    discs = DriftingDiscs(10)
    for rank, pairs in ((0, 4 + 2), (1, 4 + 2 + 4)):
        FlowSource(discs, "counting", context=2).prepare(share=(rank, 2))
        assert CountingDIS.pairs == pairs
    FlowSource(discs, "counting", context=2).prepare()
    assert CountingDIS.pairs == 10


def test_what_moves_the_flow_has_its_own_entry(counting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def folders() -> int:
        return len({path.parent for path in counting.rglob("*.flow")})

    FlowSource(DriftingDiscs(2), "counting", context=2).prepare()
    FlowSource(DriftingDiscs(2), "counting", context=2).prepare()
    assert folders() == 1
    FlowSource(DriftingDiscs(2), "counting", context=1).prepare()
    assert folders() == 2
    FlowSource(DriftingDiscs(2, name="other"), "counting", context=2).prepare()
    assert folders() == 3
    monkeypatch.setattr(CountingDIS, "version", 2)
    FlowSource(DriftingDiscs(2), "counting", context=2).prepare()
    assert folders() == 4
    monkeypatch.setattr(CountingDIS, "backend", "another library")
    FlowSource(DriftingDiscs(2), "counting", context=2).prepare()
    assert folders() == 5


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "head"])
def test_a_damaged_file_is_made_again(counting: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    discs = DriftingDiscs(3)
    FlowSource(discs, "counting", context=2).prepare()
    (path,) = counting.rglob("*.flow")
    whole = path.read_bytes()
    broken = {
        "flip": whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:],
        "cut": whole[:-8],
        "empty": b"",
        "head": b"[]" + whole[2:],
    }[damage]
    path.write_bytes(broken)
    with caplog.at_level(logging.WARNING):
        FlowSource(discs, "counting", context=2)(discs.clips()[0].clip_id)
    assert "is damaged" in caplog.text
    assert path.read_bytes() == whole


def test_faults_are_named(own_cache: Path) -> None:
    discs = DriftingDiscs(3)
    with pytest.raises(DataError, match="give the number of context frames"):
        FlowSource(discs)
    with pytest.raises(DataError, match="knows no exact flow"):
        FlowSource(discs, "exact", context=2)(discs.clips()[0].clip_id)
    with pytest.raises(DataError, match="no clip 'nothing'"):
        FlowSource(discs, context=2)("nothing")
    with pytest.raises(DataError, match="no frame after 12"):
        FlowSource(discs, context=12).prepare()
    with pytest.raises(RegistryError, match="did you mean"):
        FlowSource(discs, "farnebeck", context=2)


def test_the_data_set_decides_which_frame_is_x0(world: SimDataSet) -> None:
    assert context_of(world) == context_of(world, 2) == 2
    with pytest.raises(DataError, match="x0 is frame 2"):
        context_of(world, 1)
    assert context_of(DriftingDiscs(1), 3) == 3


def test_sources_report_what_a_protocol_needs(world: SimDataSet) -> None:
    assert FlowSource(world, "exact").facts == {"estimator": "exact"}
    facts = FlowSource(world, "dis").facts
    assert facts == {
        "estimator": "dis",
        "version": 1,
        "settings": {"preset": "medium", "finest_scale": 0, "least_side": 128},
    }


def test_clips_carry_the_true_poke(world: SimDataSet) -> None:
    clip: Clip = world.load(world.clips()[0].clip_id)
    assert clip.poke is None
