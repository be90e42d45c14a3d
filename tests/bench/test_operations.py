"""The arithmetic of a training against a closed form, and the budgets of the suites that compare methods by it."""

from __future__ import annotations

import pytest
from peers.tiny_training import TinyTraining

from bench.training.operations import MIDDLES, budgets_of_suite, operations_of_a_step
from bench.training.plan import PREDICTOR, Plan, make_plan
from bench.training.suite_plans import chosen_plans
from methods.training import TRAININGS

TOLERANCE = 0.04
"""As the suite states it."""


def budgets(suite: str) -> dict[tuple[str, str], tuple[Plan, int]]:
    """Each plan of a suite, and the numbers of its predictor."""
    found = {}
    for plan, _ in chosen_plans(suite):
        values = plan.build().networks[PREDICTOR].state_dict().values()
        found[plan.method, plan.recipe] = (plan, sum(value.numel() for value in values))
    return found


def test_operations_are_those_of_the_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRAININGS._loaded, "tiny", TinyTraining)
    clips, side, width = 4, 32, 4
    first = 2 * clips * side**2 * width * 5 * 9  # 3 x 3, 5 channels to 4
    second = 2 * clips * side**2 * 3 * width  # 1 x 1, to 3
    critic = 2 * clips * (side - 4) ** 2 * 3 * 25  # 5 x 5 without padding, to 1
    # The critic's step: one prediction, four looks, gradients of the critic's weights for two of these. The
    # predictor's: one prediction and one look, and back through the look, through the second layer with its weights,
    # to the first one's weights.
    expected = (1 + 2) * first + (1 + 3) * second + (4 + 2 + 2) * critic
    plan = make_plan("tiny")
    assert operations_of_a_step(plan) == expected
    assert operations_of_a_step(plan, (0.5,)) == expected


def test_equal_clips_are_equal() -> None:
    found = budgets("equal-clips")
    assert {plan.loop.steps * plan.loop.batch_size for plan, _ in found.values()} == {30_000}
    assert all(0.95e6 < numbers < 1.1e6 for _, numbers in found.values())


def test_equal_compute_is_equal() -> None:
    found = budgets("equal-compute")
    staged = {"srvp", "poking"}  # the others' steps all cost the same
    spent = {
        name: plan.loop.steps * operations_of_a_step(plan, MIDDLES if name[0] in staged else (0.5,))
        for name, (plan, _) in found.items()
    }
    assert all(abs(value / 750e12 - 1) < TOLERANCE for value in spent.values()), spent
    assert all(0.95e6 < numbers < 1.1e6 for _, numbers in found.values())


def test_budgets_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.training.operations.operations_of_a_step", lambda plan: 1e12 / plan.loop.steps)
    lines = budgets_of_suite("equal-clips").splitlines()
    assert len(lines) == 2 + 5
    assert "| 1,027,590 | 7,500   | 30,000  | 1.0 " in lines[5]
