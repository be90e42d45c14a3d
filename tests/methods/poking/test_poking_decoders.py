"""The decoder that moves x0: what it does without a poke, at the start, and with a given flow."""

from __future__ import annotations

import pytest
import torch

from methods.baselines import backward_warp
from methods.interface import Poke
from methods.poking.config import PokingConfig
from methods.poking.decoders import WarpDecoder, strongest_poke
from methods.poking.losses import motion_error, poke_error
from methods.poking.network import PokingNetwork

SIDE, HORIZON = 32, 3


def network(seed: int = 0, poke_encoder: str = "plus") -> PokingNetwork:
    torch.manual_seed(seed)
    config = PokingConfig(size=SIDE, width=64, min_side=8, poke_encoder=poke_encoder, decoder="warp")
    return PokingNetwork(config).double()


def images(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1


def poke(*displacements: tuple[float, float]) -> Poke:
    location = torch.tensor([[12.0, 20.0]], dtype=torch.float64).repeat(len(displacements), 1)
    return Poke(location, torch.tensor(displacements, dtype=torch.float64))


def stirred(made: PokingNetwork) -> PokingNetwork:
    """With weights in the convolution that begins at zero."""
    torch.nn.init.normal_(made.dec.motion.weight, std=0.05)
    return made


@pytest.mark.parametrize("poke_encoder", ["official", "plus"])
def test_without_a_poke_x0_stays_exactly(poke_encoder: str) -> None:
    x0 = images()
    with torch.no_grad():
        found = stirred(network(poke_encoder=poke_encoder))(x0, poke((0.0, 0.0), (3.0, -4.0)), HORIZON)
    torch.testing.assert_close(found[0], x0[:1].expand(HORIZON, -1, -1, -1), rtol=0, atol=1e-12)
    assert (found[1] - x0[1]).abs().mean() > 0.01


def test_it_begins_near_x0() -> None:
    x0 = images()
    with torch.no_grad():
        found = network()(x0, poke((2.0, 0.0), (0.0, -2.0)), HORIZON)
    assert (found - x0[:, None]).abs().mean() < 0.15 * (x0[0] - x0[1]).abs().mean()


def test_the_flow_is_the_poke_times_a_complex_gain() -> None:
    made, x0 = network(), images(1)
    with torch.no_grad():
        made.dec.motion.bias.copy_(torch.tensor([0.5, 0.25, 60.0]))  # sure of itself: nothing is drawn anew
        found = made(x0, poke((2.0, 6.0)), HORIZON)
    product = complex(0.5, 0.25) * complex(2, 6)
    flow = torch.tensor([-product.real, -product.imag], dtype=torch.float64)[None, :, None, None]
    torch.testing.assert_close(found[0, 0], backward_warp(x0, flow.expand(1, 2, SIDE, SIDE))[0])


def test_some_rows_are_those_of_all() -> None:
    made, x0, given = stirred(network()), images(), poke((2.0, 1.0), (0.0, -5.0))
    rows = torch.tensor([5, 0, 3])
    with torch.no_grad():
        states = made.rollout(made.encode(x0), made.encode_poke(given), HORIZON)
        every = made.film(states, x0, given)
        some = made.film([state[rows] for state in states], x0, given, rows)
    torch.testing.assert_close(some, every[rows])


def test_images_are_drawn_as_by_the_paper() -> None:
    made, plain = network(), PokingNetwork(PokingConfig(size=SIDE, width=64, min_side=8)).double()
    drawn = {key: value for key, value in made.dec.state_dict().items() if not key.startswith("motion")}
    plain.dec.load_state_dict(drawn)
    states = made.encode(images())
    assert isinstance(made.dec, WarpDecoder)
    torch.testing.assert_close(made.decode(states), plain.decode(states), rtol=0, atol=0)


def test_the_longest_of_several_pokes_counts() -> None:
    several = Poke(torch.zeros(2, 2, 2), torch.tensor([[[3.0, 4.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, -2.0]]]))
    assert strongest_poke(several).displacement.tolist() == [[3.0, 4.0], [0.0, -2.0]]
    assert strongest_poke(poke((0.0, 2.0))).displacement.tolist() == [[0.0, 2.0]]


def test_the_motion_error_by_hand() -> None:
    """A block of four pixels moves by (3, 1); the rest stands still."""
    truth = torch.zeros(1, 2, 12, 12, dtype=torch.float64)
    truth[0, :, 4:6, 4:6] = torch.tensor([3.0, 1.0], dtype=torch.float64)[:, None, None]
    back = torch.zeros_like(truth)
    back[0, :, 5:7, 7:9] = torch.tensor([-3.0, -1.0], dtype=torch.float64)[:, None, None]
    assert float(motion_error(back, truth)) == 0  # the ground that the block covers at the end does not count
    assert float(motion_error(torch.zeros_like(truth), truth, still=2.5)) == pytest.approx(4.0)
    everywhere = torch.zeros_like(truth) + torch.tensor([-3.0, -1.0], dtype=torch.float64)[:, None, None]
    assert float(motion_error(everywhere, truth)) == pytest.approx(4.0)
    assert float(motion_error(everywhere, truth, still=2.5)) == pytest.approx(10.0)
    away = torch.full_like(truth, 50.0)  # all leave the picture: nothing is left to compare
    assert float(motion_error(torch.zeros_like(truth), away)) == 0


def test_ground_of_which_a_smaller_part_is_covered_counts_as_still() -> None:
    """Between whole pixels a block two pixels wide covers three: here 0.6, 1 and 0.4 of them."""
    truth = torch.zeros(1, 2, 12, 12, dtype=torch.float64)
    truth[0, 0, 4:6, 4:6] = 3.4
    back = torch.zeros_like(truth)
    back[0, 0, 4:6, 7:10] = -3.4
    counted = 144 - 4 - 4
    assert float(motion_error(back, truth, still=2.5)) == pytest.approx(2.5 * 2 * 3.4 / counted)


def test_the_motion_loss_teaches_the_flow() -> None:
    """Alone, it turns the decoder's flow into that of the data."""
    made = network()
    x0, given = images(), poke((4.0, 0.0), (0.0, -4.0))
    truth = given.displacement[:, :, None, None].expand(-1, -1, SIDE, SIDE)
    optimizer = torch.optim.Adam(made.parameters(), 3e-3)
    errors = []
    for _ in range(25):
        states = made.rollout(made.encode(x0), made.encode_poke(given), HORIZON)
        loss = motion_error(made.dec.flow([state[-2:] for state in states], strongest_poke(given).displacement), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    assert errors[0] == pytest.approx(4.0)
    assert min(errors) < 1.0


def test_a_motion_loss_needs_a_flow() -> None:
    with pytest.raises(ValueError, match="motion_weight is for decoder 'warp'"):
        PokingConfig(motion_weight=0.1)
    with pytest.raises(ValueError, match="poke_weight is for decoder 'warp'"):
        PokingConfig(poke_weight=0.1)


def test_the_poke_loss_looks_at_the_poked_point_where_it_ends() -> None:
    """Wanted are (-3, 1) at (7, 3) and (0, 0) at (2, 2); found, a ramp and a constant."""
    truth = torch.zeros(2, 2, 8, 9)
    truth[0, :, 4, 4] = torch.tensor([3.0, -1.0])
    found = torch.zeros(2, 2, 8, 9)
    found[0, 0], found[0, 1] = -torch.arange(9).float(), 0.5
    found[1, 0] = 0.25
    places = torch.tensor([[4.0, 4.0], [2.0, 2.0]])
    assert poke_error(found, truth, places).item() == pytest.approx((abs(-7 + 3) + abs(0.5 - 1) + 0.25) / 2)
    assert poke_error(-truth.new_tensor([3.0, -1.0])[:, None, None].expand(1, 2, 8, 9), truth[:1], places[:1]) == 0
