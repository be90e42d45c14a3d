"""Maps, warp and forward pass against the authors' program; see tests/golden/hao.md."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from peers.hao_golden import deviation, filled_network, filled_state, frames, golden, scene

from methods.hao.network import HaoNetwork, zero_padded_warp
from methods.hao.trajectories import trajectory_map

FORWARD = 1e-9


def test_the_fill_is_that_of_the_file() -> None:
    stored = golden()
    state = filled_state()
    assert len(state) == 181
    for row, (key, value) in enumerate(state.items()):
        flat = value.double().reshape(-1)
        assert float(flat[0]) == pytest.approx(stored["state/first"][row], abs=1e-14), key
        assert float(flat[-1]) == pytest.approx(stored["state/last"][row], abs=1e-14), key
        assert float(flat.sum()) == pytest.approx(stored["state/sum"][row], abs=1e-9), key


@pytest.mark.parametrize("size", [64, 128])
def test_inputs_and_trajectory_maps(size: int) -> None:
    x0, target, tracks = scene(size)
    assert deviation(x0, f"s{size}/img") < 1e-14
    assert deviation(target, f"s{size}/gt") < 1e-14
    drawn = trajectory_map(tracks[:, :, 0], tracks[:, :, 1], size, size)
    assert np.array_equal(drawn.numpy(), golden()[f"s{size}/map"])


def test_single_trajectories() -> None:
    tracks = torch.from_numpy(golden()["raster/tracks"])[:, None]
    drawn = trajectory_map(tracks[:, :, 0], tracks[:, :, 1], 8, 8)
    assert np.array_equal(drawn.numpy(), golden()["raster/maps"])


def test_warp() -> None:
    stored = golden()
    found = zero_padded_warp(torch.from_numpy(stored["warp/x"]), torch.from_numpy(stored["warp/flow"]))
    assert deviation(found, "warp/out") < 1e-11


@pytest.mark.parametrize("size", [64, pytest.param(128, marks=pytest.mark.slow)])
def test_forward(size: int) -> None:
    x0, _, tracks = scene(size)
    network = filled_network()
    trajectories = trajectory_map(tracks[:, :, 0], tracks[:, :, 1], size, size)
    with torch.no_grad():
        encoded = network.enc_net(torch.cat([x0, trajectories], 1))
        found = network.predict(x0, trajectories)
        decoded = network.dec_net(encoded)
    parts = {
        "enc_c53": encoded.deepest,
        "enc_c43": encoded.eighth,
        "enc_c33": encoded.quarter,
        "dec_c12": decoded,
        "flow": found.heads.flow,
        "mask_logit": found.heads.mask_logit,
        "comp_raw": found.heads.completion,
        "mask": found.mask,
        "comp": found.completion,
        "warped": found.warped,
        "out": found.frame,
        "out_mean": found.frame.mean((2, 3)),
        "flow_mean": found.heads.flow.mean((2, 3)),
    }
    apart = {name: deviation(value, f"s{size}/eval/{name}") for name, value in parts.items()}
    assert max(apart.values()) < FORWARD, apart


@pytest.mark.slow
def test_every_frame_is_a_warp_of_the_first() -> None:
    tracks = torch.from_numpy(golden()["seq/tracks"])
    x0 = frames(0, 1, 3, 64, 64)
    assert deviation(x0, "seq/img") < 1e-14
    starts = tracks[None, :, 0].expand(9, -1, -1)
    trajectories = trajectory_map(starts, tracks[:, 1:].transpose(0, 1), 64, 64)
    with torch.no_grad():
        found = filled_network().predict(x0.expand(9, -1, -1, -1), trajectories).frame
    assert deviation(found, "seq/out") < FORWARD
    assert deviation(found.mean((2, 3)), "seq/out_mean") < FORWARD


def test_without_batch_norm() -> None:
    tracks = torch.from_numpy(golden()["nobn/tracks"])
    x0 = frames(0, 1, 3, 32, 64)
    assert deviation(x0, "nobn/img") < 1e-14
    trajectories = trajectory_map(tracks[:, :, 0], tracks[:, :, 1], 32, 64)
    with torch.no_grad():
        heads = filled_network(batch_norm=False)(x0, trajectories)
    assert deviation(heads.flow, "nobn/flow") < FORWARD
    assert deviation(heads.mask_logit, "nobn/mask_logit") < FORWARD
    assert deviation(heads.completion, "nobn/comp_raw") < FORWARD


def test_single_precision_stays_near() -> None:
    x0, _, tracks = scene(64)
    trajectories = trajectory_map(tracks[:, :, 0], tracks[:, :, 1], 64, 64)
    with torch.no_grad():
        found = copy.deepcopy(filled_network()).float().predict(x0.float(), trajectories.float())
    assert found.frame.dtype == torch.float32
    assert deviation(found.frame.double(), "s64/eval/out") < 5e-3
    assert deviation(found.heads.flow.double(), "s64/eval/flow") < 5e-3


def test_parameter_counts() -> None:
    with torch.device("meta"):
        full, plain, small = HaoNetwork(), HaoNetwork(batch_norm=False), HaoNetwork(16)

    def count(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert count(full.enc_net) == 14_726_592
    assert count(full.dec_net) == 17_668_992
    assert [count(head) for head in (full.conv_warp, full.conv_mask, full.conv_comp)] == [1_154, 577, 1_731]
    assert count(full) == 32_399_046
    assert count(plain) == 32_383_174
    assert sum(b.numel() for b in full.buffers()) == 15_897
    assert 1_000_000 < count(small) < 2_100_000
