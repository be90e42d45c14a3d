"""Pokes as maps, the two poke encoders, depth, the readings of phi, and K pokes on one image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peers.poking_clips import filled, pokes, wave
from pydantic import ValidationError
from torch import Tensor

from methods.interface import Poke
from methods.poking.config import NetworkConfig
from methods.poking.network import PokingNetwork
from methods.poking.poke_encoders import PlusPokeEncoder, PokeEncoder
from methods.poking.poke_map import check_poke, patch_side, poke_map
from methods.poking.predictor import strengths
from metrics.errors import MethodError

SMALL: dict[str, Any] = {"size": 32, "width": 64, "min_side": 8}


def drawn_slowly(poke: Poke, size: int) -> Tensor:
    """Section 3.2 of the paper with the released program's square, one pixel after the other."""
    reach = max(3, 2 * (size // 64) + 1) // 2
    found = torch.zeros(len(poke.location), 2, size, size, dtype=poke.location.dtype)
    for row, (place, shift) in enumerate(zip(poke.location, poke.displacement, strict=True)):
        column, line = (int(v) for v in place)
        for y in range(line - reach, line + reach + 1):
            for x in range(column - reach, column + reach + 1):
                if 0 <= x < size and 0 <= y < size:
                    found[row, :, y, x] = shift
    return found


@pytest.mark.parametrize(("size", "side"), [(32, 3), (64, 3), (128, 5), (256, 9)])
def test_patch_side(size: int, side: int) -> None:
    assert patch_side(size) == side


@pytest.mark.parametrize("size", [32, 64, 128])
def test_poke_map(size: int) -> None:
    places = torch.tensor([[0, 0], [size - 1, 5], [9, size - 2], [20, 11]]).double()
    poke = Poke(places, torch.tensor([[3, -1.5], [0.25, 8], [-2, 0], [0, 1]]).double())
    assert torch.equal(poke_map(poke.location, poke.displacement, size), drawn_slowly(poke, size))


def test_poke_map_channel_0_is_x_and_rows_are_y() -> None:
    drawn = poke_map(torch.tensor([[5.0, 9.0]]), torch.tensor([[2.0, -1.0]]), 32)
    assert drawn[0, :, 9, 5].tolist() == [2.0, -1.0]
    assert drawn[0, :, 5, 9].tolist() == [0.0, 0.0]


def test_several_pokes_in_one_map_the_last_on_top() -> None:
    location = torch.tensor([[[5.0, 5.0], [6.0, 5.0], [20.0, 20.0]]])
    displacement = torch.tensor([[[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]])
    drawn = poke_map(location, displacement, 32)[0, 0]
    assert [drawn[5, x].item() for x in range(3, 9)] == [0, 1, 2, 2, 2, 0]
    assert drawn[20, 20] == 3


@pytest.mark.parametrize(
    ("location", "displacement", "said"),
    [
        ([[32.0, 3.0]], [[1.0, 1.0]], r"inside the image, 0 <= x, y <= 31, found \(32, 3\)"),
        ([[3.0, -1.0]], [[1.0, 1.0]], "inside the image"),
        ([[float("nan"), 3.0]], [[1.0, 1.0]], "inside the image"),
        ([[3.0, 3.0]], [[float("inf"), 1.0]], "finite"),
        ([[3.0, 3.0, 1.0]], [[1.0, 1.0, 1.0]], r"\[B, 2\] or \[B, n, 2\]"),
        ([[3.0, 3.0], [4.0, 4.0]], [[1.0, 1.0]], r"\[2, 2\] and \[1, 2\]"),
    ],
)
def test_pokes_that_no_image_can_be_given(location: Any, displacement: Any, said: str) -> None:
    with pytest.raises(MethodError, match=said):
        check_poke(Poke(torch.tensor(location), torch.tensor(displacement)), 32)


def test_pokes_at_the_corners_are_inside() -> None:
    check_poke(Poke(torch.tensor([[0.0, 0.0], [31.0, 31.0], [31.4, -0.4]]), torch.zeros(3, 2)), 32)


def official(**values: Any) -> PokeEncoder:
    torch.manual_seed(0)
    return PokeEncoder(NetworkConfig(**values)).double()


def relative(first: Tensor, second: Tensor) -> float:
    return float(((first - second).norm() / second.norm()).detach())


def test_the_official_encoder_is_nearly_blind_to_length_and_not_to_direction() -> None:
    encoder = official(size=64, width=256)
    place = torch.full((6, 2), 30.0, dtype=torch.float64)
    shifts = torch.tensor([[10, 0], [1, 0], [2, 0], [8, 0], [0, 10], [-10, 0]]).double()
    with torch.no_grad():
        reference, one, two, eight, quarter, half = encoder(place, shifts)
    assert relative(one, reference) < 0.05
    assert relative(two, reference) < 0.01
    assert relative(eight, reference) < 0.001
    assert relative(quarter, reference) > 0.5
    assert relative(half, reference) > 0.7


@pytest.mark.parametrize("kind", ["official", "plus"])
def test_a_poke_of_length_zero_gives_exactly_zero_in_any_batch(kind: str) -> None:
    torch.manual_seed(0)
    made = PokingNetwork(NetworkConfig(**SMALL, poke_encoder=kind))
    place = torch.tensor([[3.0, 4.0], [20.0, 9.0], [31.0, 0.0]])
    shift = torch.tensor([[0.0, 0.0], [2.0, 1.0], [0.0, 0.0]])
    with torch.no_grad():
        phi = made.encode_poke(Poke(place, shift))
        alone = made.encode_poke(Poke(place[:1], shift[:1]))
    assert not phi[0].any()
    assert not phi[2].any()
    assert not alone.any()
    assert phi[1].abs().mean() > 0


def plus() -> PlusPokeEncoder:
    torch.manual_seed(0)
    return PlusPokeEncoder(NetworkConfig(size=64, width=64, poke_encoder="plus")).double()


def test_the_plus_encoder_grows_with_length() -> None:
    encoder = plus()
    place = torch.full((5, 2), 30.0, dtype=torch.float64)
    shifts = torch.tensor([[0.5, 0], [1, 0], [2, 0], [4, 0], [8, 0]]).double()
    with torch.no_grad():
        sizes = encoder(place, shifts).flatten(1).norm(dim=1)
    assert (sizes.diff() > 0).all()
    assert sizes[4] > 4 * sizes[1]
    direct = relative(encoder(place[:1], shifts[1:2]), encoder(place[:1], shifts[4:]))
    assert direct > 0.5


def test_the_channels_of_the_plus_encoder() -> None:
    encoder = plus()
    place, shift = torch.tensor([[[30.0, 20.0]]]).double(), torch.tensor([[[3.0, -4.0]]]).double() / encoder.unit
    drawn = encoder._drawn(place, shift)[0]
    unit = 64 / 5
    inside = [3 / unit, -4 / unit, 5 / unit, 1, 3 / unit, -4 / unit, 0, 0]
    assert drawn[:, 20, 30].tolist() == pytest.approx(inside)
    outside = [0, 0, 0, 0, 3 / unit, -4 / unit, (10 - 30) / 64, (50 - 20) / 64]
    assert drawn[:, 50, 10].tolist() == pytest.approx(outside)
    assert drawn[3].sum() == 9


def test_the_plus_encoder_gives_each_pixel_the_nearest_poke() -> None:
    encoder = plus()
    place = torch.tensor([[[10.0, 10.0], [50.0, 50.0]]]).double()
    shift = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]]).double() / encoder.unit
    drawn = encoder._drawn(place, shift)[0] * encoder.unit
    assert drawn[4:6, 0, 0].tolist() == pytest.approx([1, 0])
    assert drawn[4:6, 63, 40].tolist() == pytest.approx([0, 2])
    one, other = (encoder._drawn(place[:, k : k + 1], shift[:, k : k + 1])[0] for k in (0, 1))
    assert torch.equal(drawn[:, 0, 0], one[:, 0, 0] * encoder.unit)
    assert torch.equal(drawn[:, 63, 63], other[:, 63, 63] * encoder.unit)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_depth_keeps_the_lowest_levels(levels: int) -> None:
    config = NetworkConfig(**SMALL, levels=levels)
    made = PokingNetwork(config).double()
    states = made.encode(wave(32))
    assert [state.shape[1:] for state in states] == [torch.Size(shape) for shape in config.state_shapes]
    assert [state.shape[1:] for state in states] == [(64, 8, 8), (64, 8, 8), (32, 16, 16)][:levels]
    assert len(made.fusion_block.cells) == levels
    assert [block.conv1.conv.weight.shape[0] for block in made.dec.blocks] == [
        64 + 64 * (levels > 1),
        32 + 32 * (levels > 2),
    ]
    assert made(wave(32), pokes((9, 9), (1, 1)), 2).shape == (2, 2, 3, 32, 32)


def test_all_levels_is_the_default() -> None:
    assert NetworkConfig(**SMALL, levels=3).state_shapes == NetworkConfig(**SMALL).state_shapes


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({}, (1, 1, 1, 1)),
        ({"phi": "first"}, (1, 0, 0, 0)),
        ({"phi": "linear"}, (1, 0.75, 0.5, 0.25)),
        ({"phi": "linear", "phi_frames": 2}, (1, 0.5, 0, 0)),
        ({"phi": "step"}, (1, 1, 1, 1)),
        ({"phi": "step", "phi_frames": 3}, (1, 1, 1, 0)),
    ],
)
def test_readings_of_phi(values: dict[str, Any], wanted: tuple[float, ...]) -> None:
    """The rollout with strengths is that of the cells driven by the scaled phi, step by step."""
    config = NetworkConfig(**SMALL, **values)
    assert strengths(config, 4) == wanted
    made = filled(PokingNetwork(config))
    assert isinstance(made, PokingNetwork)
    with torch.no_grad():
        states, phi = made.encode(wave(32)), made.encode_poke(pokes((9, 12), (2, 1)))
        found = made.rollout(states, phi, 4)
        for t, strength in enumerate(wanted):
            below = phi * strength
            for level, cell in enumerate(made.fusion_block.cells):
                below = cell([cell.drive(below)], states[level])
                states[level] = below
                torch.testing.assert_close(found[level][2 * t : 2 * t + 2], below, rtol=1e-9, atol=1e-10)


def test_impulses_divide_pokes_by_the_norm_of_the_data() -> None:
    scaled = filled(PokingNetwork(NetworkConfig(**SMALL, poke_norm=4.0)))
    plain = filled(PokingNetwork(NetworkConfig(**SMALL)))
    with torch.no_grad():
        phi = scaled.encode_poke(pokes((9, 12), (2, 1)))
        wanted = plain.encode_poke(pokes((9, 12), (0.5, 0.25)))
    assert torch.equal(phi, wanted)


def test_expanded_states_of_one_image_serve_many_pokes() -> None:
    made = filled(PokingNetwork(NetworkConfig(**SMALL)))
    x = wave(32)[:1]
    poke = Poke(torch.tensor([[9, 9], [20, 5], [3, 30]]).double(), torch.tensor([[1, 1], [-2, 0], [0, 3]]).double())
    with torch.no_grad():
        states = [state.expand(3, -1, -1, -1) for state in made.encode(x)]
        frames = made.decode(made.rollout(states, made.encode_poke(poke), 2))
        wanted = made(x.repeat(3, 1, 1, 1), poke, 2)
    torch.testing.assert_close(frames.unflatten(0, (2, 3)).transpose(0, 1), wanted, rtol=0, atol=1e-12)


def test_channels_last_changes_nothing_but_rounding() -> None:
    made = filled(PokingNetwork(NetworkConfig(**SMALL)))
    with torch.no_grad():
        wanted = made(wave(32), pokes((9, 12), (2, 1)), 2)
        found = made.to(memory_format=torch.channels_last)(wave(32), pokes((9, 12), (2, 1)), 2)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"size": 48}, "min_side times 2, 4, 8"),
        ({"size": 16}, "min_side times 2, 4, 8"),
        ({"size": 128, "width": 64}, "Take at least 128, a multiple of 8"),
        ({"width": 96, "min_side": 8}, "each must have half of the next"),
        ({"levels": 4}, "levels must be at most 3"),
        ({"levels": 1, "predictor": "rnn"}, "is for the hierarchy"),
        ({"poke_encoder": "plus", "poke_norm": 3.0}, "scales pokes itself"),
        ({"rnn_cells": 4}, "less than or equal to 3"),
        ({"depth": 2}, "Extra inputs"),
    ],
)
def test_configurations_that_fit_nothing(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        NetworkConfig(**values)


def test_a_held_state_hardly_changes() -> None:
    network = filled(PokingNetwork(NetworkConfig(**SMALL, hold=40.0)))
    x0 = wave(32)
    still = network.decode(network.encode(x0))
    video = network(x0, pokes((12, 9), (5, -2)), 3)
    assert torch.allclose(video, still[:, None].expand_as(video), atol=1e-6)
