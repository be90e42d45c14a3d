import pytest
import torch

from bench.verify.sanity import Check, all_checks, closed_form_pair, run_checks

QUICK = [check for check in all_checks(quick=True) if not check.name.startswith("FVD, black")]


@pytest.mark.parametrize("check", QUICK, ids=lambda check: check.name)
def test_check_is_within_its_budget(check):
    [result] = run_checks([check])
    assert result.passed, result.line()


@pytest.mark.slow
@pytest.mark.parametrize(
    "check", [c for c in all_checks() if c.name.startswith("FVD, black")], ids=lambda check: check.name
)
def test_black_against_white_is_within_its_budget(check):
    [result] = run_checks([check])
    assert result.passed, result.line()


def test_the_closed_form_pair_has_the_published_sums():
    first, second = ((video * 255).round().to(torch.int64).sum().item() for video in closed_form_pair())
    assert (first, second) == (15_150_518, 15_885_060)


@pytest.mark.parametrize("measured", [1.1, float("nan"), [1.0, 1.1], [float("nan"), 1.0]])
def test_a_value_outside_its_budget_fails(measured):
    expected = [1.0] * (len(measured) if isinstance(measured, list) else 1)
    [result] = run_checks([Check("x", "y", 0.05, lambda: (expected, measured))])
    assert not result.passed
    assert result.line().startswith("FAIL")
