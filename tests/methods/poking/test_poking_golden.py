"""The networks against numbers of the authors' program; see tests/golden/poking.md."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peers.poking_clips import filled, pokes, wave
from torch import Tensor

from methods.poking.config import NetworkConfig
from methods.poking.discriminators import PatchDiscriminator, TemporalDiscriminator
from methods.poking.losses import fake_hinge, gradient_penalty, real_hinge, squared_trajectory
from methods.poking.network import PokingNetwork

TOLERANCE = 1e-6

Moments = tuple[float, float, float]

NETWORKS: dict[tuple[int, int], dict[str, Moments | float]] = {
    (64, 64): {
        "phi": (0.05461192, 1.50578871, 0.11546123),
        "sigma 1": (0.16256317, 1.26325625, 1.39885272),
        "sigma 2": (0.16256317, 0.78273028, 1.24468209),
        "sigma 3": (0.16407408, 0.79021223, 0.10453597),
        "reconstruction": (-0.00183707, 0.74084625, 0.18518088),
        "rollout": (-0.00586682, 0.70965842, -0.12050169),
        "frame 3": (-0.00734565, 0.6892697, -0.18187717),
        "lowest state": (0.03753928, 0.38508817, 0.16474624),
        "highest state": (0.02469539, 0.30937354, 0.26273481),
        "trajectory": 0.56731368,
    },
    (64, 512): {
        "phi": (0.08265629, 1.54969073, -0.14077314),
        "sigma 1": (0.1617486, 1.26854063, -0.34304537),
        "sigma 2": (0.16204324, 0.78513667, -0.23286447),
        "sigma 3": (0.16338995, 0.78952933, 0.12002211),
        "reconstruction": (-0.01107417, 0.865586, -0.23881184),
        "rollout": (-0.01624696, 0.83208568, 0.30252168),
        "frame 3": (-0.01958383, 0.80099828, 0.48448462),
        "lowest state": (0.03015501, 0.3756253, -0.08117461),
        "highest state": (0.02149843, 0.4493354, -0.22858128),
        "trajectory": 0.59862772,
    },
    (128, 256): {
        "phi": (0.07973495, 1.21578879, 0.27726699),
        "sigma 1": (0.16512773, 1.26949729, 2.14049791),
        "sigma 2": (0.16148994, 0.79223637, -0.30519529),
        "sigma 3": (0.16359549, 0.78491718, 0.54068204),
        "sigma 4": (0.16475426, 0.79090572, 0.36921305),
        "reconstruction": (-0.01387292, 0.6739465, -0.15808609),
        "rollout": (-0.01423028, 0.65635321, 0.10364309),
        "frame 3": (-0.01447936, 0.64605061, 0.14535795),
        "lowest state": (0.05721667, 0.48176065, 0.83097841),
        "highest state": (0.02458662, 0.43664632, 0.03653222),
        "trajectory": 0.61314346,
    },
}


def moments(x: Tensor) -> Moments:
    return x.mean().item(), x.std(correction=0).item(), x.flatten()[0].item()


def network(**values: Any) -> PokingNetwork:
    with torch.device("meta"):
        empty = PokingNetwork(NetworkConfig(**values))
    made = filled(empty.to_empty(device="cpu"))
    assert isinstance(made, PokingNetwork)
    return made


@pytest.mark.parametrize(
    "case",
    [(64, 64), pytest.param((128, 256), marks=pytest.mark.slow), pytest.param((64, 512), marks=pytest.mark.slow)],
)
def test_networks(case: tuple[int, int]) -> None:
    size, width = case
    made, x = network(size=size, width=width), wave(size)
    with torch.no_grad():
        phi, states = made.encode_poke(pokes((30, 20), (3, -1.5))), made.encode(x)
        rolled = made.rollout(states, phi, 3)
        frames = made.decode(rolled)
        found: dict[str, Moments | float] = {
            "phi": moments(phi),
            **{f"sigma {level}": moments(state) for level, state in enumerate(states, 1)},
            "reconstruction": moments(made.decode(states)),
            "rollout": moments(frames),
            "frame 3": moments(frames[4:]),
            "lowest state": moments(rolled[0][4:]),
            "highest state": moments(rolled[-1][4:]),
            "trajectory": float(squared_trajectory(rolled, [state.repeat(3, 1, 1, 1) for state in states])),
        }
        whole = made(x, pokes((30, 20), (3, -1.5)), 3)
    wanted = NETWORKS[case]
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, abs=TOLERANCE), name
    assert torch.equal(whole.transpose(0, 1).flatten(0, 1), frames)


def test_rnn_ablation() -> None:
    made = network(width=64, predictor="rnn", rnn_cells=3)
    with torch.no_grad():
        video = made(wave(64), pokes((30, 20), (3, -1.5)), 3)
    assert moments(video) == pytest.approx((-0.01028191, 0.70560041, 0.31723284), abs=TOLERANCE)


@pytest.mark.parametrize(
    ("side", "scores", "penalties", "hinges"),
    [
        (64, (-0.0314302, 0.36130614, 0.06755207), (123.5016799, 173.56444744), (1.0314302, 0.9685698)),
        (128, (-0.04774994, 0.33044776, 0.04738585), (673.79632178, 446.28897003), (1.04823884, 0.95225006)),
    ],
)
def test_patch_discriminator(
    side: int, scores: Moments, penalties: tuple[float, float], hinges: tuple[float, float]
) -> None:
    network, x = filled(PatchDiscriminator()), wave(side).requires_grad_()
    found, maps = network(x)
    assert len(maps) == 3
    assert found.shape[2] == {64: 6, 128: 14}[side]
    assert moments(found) == pytest.approx(scores, abs=TOLERANCE)
    assert gradient_penalty(found, x).tolist() == pytest.approx(penalties, rel=TOLERANCE)
    hinge = (float(real_hinge(found).mean().detach()), float(fake_hinge(found).mean().detach()))
    assert hinge == pytest.approx(hinges, abs=TOLERANCE)


@pytest.mark.parametrize(
    ("side", "scores", "penalties", "maps"),
    [
        (
            64,
            (-0.04580486, 0.25465566, -0.04263381),
            (14775.85431385, 9022.96792556),
            (0.80543714, 0.81638283, 0.80748489, 0.73769701, 0.92850345),
        ),
        pytest.param(
            128,
            (-0.05577064, 0.22827013, -0.1163182),
            (920769.00566761, 52463.02377988),
            (0.80506042, 0.81316844, 0.79168661, 0.73037334, 0.83810536),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_temporal_discriminator(
    side: int, scores: Moments, penalties: tuple[float, float], maps: tuple[float, ...]
) -> None:
    with torch.device("meta"):
        empty = TemporalDiscriminator(10)
    network = filled(empty.to_empty(device="cpu"))
    clips = torch.stack([wave(side, 0.3 * t) for t in range(10)], dim=2).requires_grad_()
    found, kept = network(clips)
    assert found.shape == (2, 1, side // 16, side // 16)
    assert moments(found) == pytest.approx(scores, abs=TOLERANCE)
    assert [float(one.detach().abs().mean()) for one in kept] == pytest.approx(maps, abs=TOLERANCE)
    assert gradient_penalty(found, clips).tolist() == pytest.approx(penalties, rel=TOLERANCE)


COUNTS: list[tuple[dict[str, Any], int]] = [
    ({}, 39_110_819),
    ({"width": 256}, 9_943_459),
    ({"size": 128}, 40_103_203),
    ({"size": 128, "width": 256}, 10_393_635),
    ({"min_side": 8}, 40_103_203),
    ({"size": 128, "min_side": 8}, 41_659_427),
    ({"predictor": "rnn", "rnn_cells": 1}, 25_518_403),
    ({"predictor": "rnn", "rnn_cells": 2}, 39_675_715),
    ({"predictor": "rnn", "rnn_cells": 3}, 53_833_027),
    ({"predictor": "rnn", "rnn_cells": 1, "width": 256}, 6_936_131),
    ({"predictor": "rnn", "rnn_cells": 2, "width": 256}, 10_475_843),
    ({"predictor": "rnn", "rnn_cells": 3, "width": 256}, 14_015_555),
    ({"predictor": "rnn", "rnn_cells": 3, "width": 64}, 1_072_835),
    ({"width": 64}, 1_026_723),
]


@pytest.mark.parametrize(("values", "count"), COUNTS)
def test_parameter_counts(values: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        made = PokingNetwork(NetworkConfig(**values))
    assert sum(p.numel() for p in made.parameters()) == count


def test_parameter_counts_of_discriminators() -> None:
    with torch.device("meta"):
        counts = [
            sum(p.numel() for p in made.parameters()) for made in (PatchDiscriminator(), TemporalDiscriminator(10))
        ]
    assert counts == [2_764_737, 26_554_369]


def test_parameter_counts_of_the_four_parts() -> None:
    with torch.device("meta"):
        made = PokingNetwork(NetworkConfig())
    parts = (made.shape_enc, made.dynamics_enc, made.fusion_block, made.dec)
    counts = [sum(p.numel() for p in part.parameters()) for part in parts]
    assert counts == [5_018_880, 7_689_376, 21_384_064, 5_018_499]
