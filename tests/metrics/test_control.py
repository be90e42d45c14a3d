"""Measures of control against cases worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from metrics.control import (
    direction_error,
    dose_response_slope,
    endpoint_error,
    flow_at,
    flow_error,
    leakage,
    magnitude_error,
    response_along,
    still_pixels,
    stillness,
    trajectory_error,
)
from metrics.control_retrieval import retrieval_accuracy
from metrics.errors import VideoError


def vectors(*pairs: tuple[float, float]) -> Tensor:
    return torch.tensor(pairs, dtype=torch.float64)


def object_flow(dx: float, dy: float, size: int = 8) -> Tensor:
    """An object of 4 x 4 pixels that moves, everything else at rest: `[1, 2, size, size]`."""
    flow = torch.zeros(1, 2, size, size)
    flow[0, 0, 2:6, 2:6], flow[0, 1, 2:6, 2:6] = dx, dy
    return flow


def test_flow_is_read_between_pixels() -> None:
    flow = torch.zeros(1, 2, 4, 6)
    flow[0, 0] = torch.arange(6.0)
    flow[0, 1] = 10 * torch.arange(4.0)[:, None]
    points = torch.tensor([[[0.0, 0.0], [2.5, 1.25], [5.0, 3.0], [-4.0, 99.0]]])
    expected = vectors((0, 0), (2.5, 12.5), (5, 30), (0, 30))
    torch.testing.assert_close(flow_at(flow, points)[0], expected, rtol=0, atol=1e-12)


def test_poke_errors_by_hand() -> None:
    poke = vectors((3, 4), (3, 4), (3, 4), (3, 4), (-2, 0))
    response = vectors((3, 4), (0, 0), (-4, 3), (6, 8), (2, 0))
    assert endpoint_error(response, poke).tolist() == [0, 5, pytest.approx(math.sqrt(50)), 5, 4]
    assert magnitude_error(response, poke).tolist() == [0, -5, 0, 5, 0]
    assert response_along(response, poke).tolist() == [5, 0, 0, 10, -2]
    angles = direction_error(response, poke)
    assert angles[[0, 2, 3, 4]].tolist() == pytest.approx([0, 90, 0, 180])
    assert angles[1].isnan()
    assert direction_error(vectors((0.3, 0.4), (0.3, 0.41)), vectors((3, 4), (3, 4))).isnan().tolist() == [True, False]
    assert response_along(vectors((1, 1)), vectors((0, 0))).isnan().all()


@given(st.floats(-3.1, 3.1), st.floats(1, 30), st.floats(-3.1, 3.1))
def test_direction_does_not_depend_on_length_or_on_a_common_turn(angle: float, length: float, turn: float) -> None:
    poke = vectors((2 * math.cos(turn), 2 * math.sin(turn)))
    response = vectors((length * math.cos(turn + angle), length * math.sin(turn + angle)))
    assert float(direction_error(response, poke)) == pytest.approx(math.degrees(abs(angle)), abs=1e-6)


def test_dose_response_by_hand() -> None:
    length = torch.tensor([1.0, 2.0, 4.0, 7.0], dtype=torch.float64)
    angle = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64)
    poke = length[:, None] * torch.stack([angle.cos(), angle.sin()], -1)
    aside = torch.stack([-poke[:, 1], poke[:, 0]], -1)
    unit = poke / length[:, None]
    cases = {1.0: poke, 0.5: 0.5 * poke + 3 * aside, 0.0: 3 * unit, -1.0: -poke}
    found = dose_response_slope(torch.stack(list(cases.values())), poke.expand(len(cases), -1, -1))
    assert found.tolist() == pytest.approx(list(cases), abs=1e-12)
    assert float(dose_response_slope(torch.zeros(1, 4, 2), poke[None])) == 0
    assert float(dose_response_slope(0.5 * unit[None] + poke[None], poke[None])) == pytest.approx(1)
    same = torch.tensor([[[3.0, 4.0], [-5.0, 0.0], [0.0, 5.0]]])
    assert dose_response_slope(same, same).isnan().all()
    with_zero = torch.cat([poke, torch.zeros(1, 2)])[None]
    assert float(dose_response_slope(with_zero + 0.25, with_zero)) == pytest.approx(
        float(dose_response_slope(poke[None] + 0.25, poke[None]))
    )


def test_trajectory_error_by_hand() -> None:
    truth = torch.zeros(1, 2, 3, 2)
    pred = truth.clone()
    pred[0, 0, :, 0] = torch.tensor([0.0, 3.0, 6.0])
    pred[0, 1, :, 1] = torch.tensor([0.0, 1.0, 2.0])
    assert trajectory_error(pred, truth).tolist() == [[0, 2, 4]]
    visible = torch.tensor([[[True, True, False], [True, False, False]]])
    found = trajectory_error(pred, truth, visible)[0]
    assert found[:2].tolist() == [0, 3]
    assert found[2].isnan()
    pred[0, 1, 1] = torch.nan
    assert trajectory_error(pred, truth, visible)[0, 1] == 3


def test_flow_measures_by_hand() -> None:
    truth = object_flow(3, 4)
    still = still_pixels(truth)
    assert still.sum() == 48
    nothing, everything = torch.zeros_like(truth), torch.tensor([3.0, 4.0]).view(1, 2, 1, 1).expand_as(truth)
    assert [float(flow_error(flow, truth)) for flow in (truth, nothing, everything)] == [0, 1.25, 3.75]
    assert [float(flow_error(flow, truth, ~still)) for flow in (truth, nothing, everything)] == [0, 5, 0]
    assert [float(leakage(flow, still)) for flow in (truth, nothing, everything)] == [0, 0, 5]
    assert [float(stillness(flow)) for flow in (truth, nothing, everything)] == [0.75, 1, 0]
    assert leakage(everything, torch.zeros_like(still)).isnan().all()
    assert still_pixels(truth, limit=5).all()


def test_the_truth_is_perfect_and_a_still_prediction_does_not_respond() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(6, 2, 16, 16, generator=generator) * 4
    truth[:, :, :, :8] = 0
    location = torch.randint(8, 16, (6, 1, 2), generator=generator).float()
    poke = flow_at(truth, location)[:, 0]
    still = torch.zeros_like(poke)
    assert endpoint_error(poke, poke).max() == magnitude_error(poke, poke).abs().max() == 0
    assert direction_error(poke, poke, least=0).max() < 1e-6
    assert leakage(truth, still_pixels(truth)).max() == flow_error(truth, truth).max() == 0
    torch.testing.assert_close(response_along(poke, poke), torch.linalg.vector_norm(poke, dim=-1))
    torch.testing.assert_close(endpoint_error(still, poke), torch.linalg.vector_norm(poke, dim=-1))
    assert response_along(still, poke).abs().max() == 0


def test_retrieval() -> None:
    """Three pokes of scene a, two of b, one of c."""
    scenes = ["a", "b", "a", "b", "a", "c"]
    truth = torch.cat([object_flow(dx, dy) for dx, dy in [(4, 0), (0, 4), (-4, 0), (0, -4), (0, 4), (1, 1)]])

    def score(pred: Tensor) -> list[float]:
        found = retrieval_accuracy(pred, truth, scenes)
        assert found[5].isnan()
        return found[:5].tolist()

    assert score(truth) == score(0.3 * truth) == [1, 1, 1, 1, 1]
    assert score(-truth) == [0, 0, 0, 0, 0]
    assert score(object_flow(3, 1).expand(6, -1, -1, -1)) == [1, 1, 0, 0, 0]
    assert score(torch.zeros_like(truth)) == pytest.approx([1 / 3, 1 / 2, 1 / 3, 1 / 2, 1 / 3])
    same = truth.clone()
    same[2] = same[0]
    assert retrieval_accuracy(same, same, scenes)[:5].tolist() == [0.5, 1, 0.5, 1, 1]


@pytest.mark.parametrize(
    "call",
    [
        lambda: flow_at(torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 2)),
        lambda: flow_at(torch.zeros(2, 2, 4, 4), torch.zeros(1, 1, 2)),
        lambda: endpoint_error(torch.zeros(3, 2), torch.zeros(4, 2)),
        lambda: endpoint_error(torch.zeros(3), torch.zeros(3)),
        lambda: dose_response_slope(torch.zeros(3, 2), torch.zeros(3, 2)),
        lambda: trajectory_error(torch.zeros(1, 2, 3, 2), torch.zeros(1, 2, 4, 2)),
        lambda: trajectory_error(torch.zeros(1, 2, 3, 2), torch.zeros(1, 2, 3, 2), torch.ones(1, 2, 3)),
        lambda: flow_error(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 5)),
        lambda: flow_error(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4), torch.ones(4, 4, dtype=torch.bool)),
        lambda: leakage(torch.zeros(1, 2, 4, 4, dtype=torch.long), torch.ones(1, 4, 4, dtype=torch.bool)),
        lambda: retrieval_accuracy(torch.zeros(2, 3), torch.zeros(2, 3), ["a"]),
    ],
)
def test_faulty_input_is_named(call: Callable[[], Tensor]) -> None:
    with pytest.raises(VideoError, match=r"expected .* found"):
        call()
