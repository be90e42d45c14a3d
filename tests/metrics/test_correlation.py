"""Motion correlation: hand-made fields, a slow transcription of the paper's formula, scores by their definitions."""

from __future__ import annotations

import math

import pytest
import torch

from metrics.correlation import (
    FORMS,
    area_under_curve,
    best_overlap,
    correlation_map,
    moving_foreground,
    variance_map,
)
from metrics.errors import VideoError


def pokes(count: int = 40, fixed: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    angle = torch.rand(count, generator=generator, dtype=torch.float64) * 2 * math.pi
    length = 3 + 9 * torch.rand(count, generator=generator, dtype=torch.float64)
    if fixed:
        length = torch.full_like(length, 6)
    return torch.stack([length * angle.cos(), length * angle.sin()], 1)


def rigid(p: torch.Tensor, size: int = 6, noise: float = 0.0) -> torch.Tensor:
    """The left half moves with the poke, the right half stands still."""
    flows = torch.zeros(len(p), 2, size, size, dtype=torch.float64)
    flows[..., : size // 2] = p[:, :, None, None]
    return flows + noise * torch.randn(flows.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_paper_form_is_the_formula() -> None:
    p = pokes(7)
    flows = rigid(p, noise=2.0)
    found = variance_map(flows, p, "paper")
    for y in range(6):
        for x in range(6):
            distances = []
            for k in range(7):
                dx, dy = flows[k, :, y, x].tolist()
                px, py = p[k].tolist()
                m, a = math.hypot(dx, dy), math.atan2(dy, dx)
                distances.append(math.hypot(m - math.hypot(px, py), a - math.atan2(py, px)))
            mean = sum(distances) / 7
            expected = sum((d - mean) ** 2 for d in distances) / 7
            assert float(found[y, x]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_what_moves_with_the_poke_correlates_and_what_stands_still_does_not(form: str) -> None:
    p = pokes()
    found = correlation_map(rigid(p), p, form)
    assert found[:, :3].min() == pytest.approx(1)
    assert found[:, 3:].max() < 0.05
    assert area_under_curve(found, rigid(p)[0, 0] != 0) == 1


def test_where_all_pokes_are_of_one_length_only_the_complex_form_tells_stillness_apart() -> None:
    """With no flow at all, the repaired variance is that of the lengths alone, which is none: a stated limit."""
    p = pokes(fixed=True)
    flows = rigid(p)
    assert variance_map(flows, p, "wrapped")[:, 3:].max() == pytest.approx(0, abs=1e-12)
    assert correlation_map(flows, p, "complex")[:, 3:].max() == 0
    assert correlation_map(flows, p, "complex")[:, :3].min() == pytest.approx(1)


def test_angles_wrap_in_the_repaired_form_only() -> None:
    angle = torch.tensor([3.1, -3.1, 3.0, -3.0], dtype=torch.float64)
    p = 6 * torch.stack([angle.cos(), angle.sin()], 1)
    turned = angle + 0.15
    flows = (6 * torch.stack([turned.cos(), turned.sin()], 1))[:, :, None, None].expand(-1, -1, 2, 2)
    assert variance_map(flows, p, "wrapped").max() < 1e-12
    assert variance_map(flows, p, "paper").min() > 5


def test_amplified_motion_keeps_its_complex_correlation() -> None:
    p = pokes()
    assert correlation_map(2.5 * rigid(p), p, "complex")[:, :3].min() == pytest.approx(1)
    turned = torch.stack([-p[:, 1], p[:, 0]], 1)
    assert correlation_map(rigid(turned), p, "complex")[:, :3].min() == pytest.approx(1)


def test_next_to_no_motion_counts_as_little_as_its_length_in_the_complex_form() -> None:
    """A twentieth of the motion, carried where nothing moves, follows the poke in all but length."""
    p = pokes(fixed=True)
    flows = rigid(p)
    flows[..., 3:] = 0.05 * p[:, :, None, None]
    found = correlation_map(flows, p, "complex")
    assert found[:, :3].min() == pytest.approx(1)
    assert found[:, 3:].flatten().tolist() == pytest.approx([0.05 * 6 / 0.5] * 18)
    assert correlation_map(0.5 / 6 * rigid(p), p, "complex")[:, :3].min() == pytest.approx(1)


def test_a_given_reference_makes_maps_comparable() -> None:
    p = pokes()
    flows = rigid(p, noise=1.0)
    variance = variance_map(flows, p, "wrapped")
    found = correlation_map(flows, p, "wrapped", reference=0.2)
    torch.testing.assert_close(found, (1 - variance / 0.2).clamp(0, 1))


def test_the_foreground_is_what_moves() -> None:
    p = pokes()
    flows = torch.zeros(len(p), 2, 10, 10)
    flows[..., :3, :3] = p[:, :, None, None].float()
    wanted = torch.zeros(10, 10, dtype=torch.bool)
    wanted[:3, :3] = True
    assert torch.equal(moving_foreground(flows), wanted)


def test_scores_equal_their_definitions() -> None:
    generator = torch.Generator().manual_seed(3)
    scores = torch.randint(0, 8, (9, 9), generator=generator).double()
    positive = torch.rand(9, 9, generator=generator) < 0.3
    counted = torch.rand(9, 9, generator=generator) < 0.8
    high, low = scores[positive & counted], scores[~positive & counted]
    pairs = (high[:, None] > low[None]).double() + 0.5 * (high[:, None] == low[None]).double()
    assert area_under_curve(scores, positive, counted) == pytest.approx(float(pairs.mean()))
    best = 0.0
    for threshold in range(8):
        chosen = (scores >= threshold) & counted
        wanted = positive & counted
        best = max(best, float((chosen & wanted).sum() / (chosen | wanted).sum()))
    assert best_overlap(scores, positive, counted) == pytest.approx(best)
    nothing = torch.zeros_like(positive)
    assert math.isnan(area_under_curve(scores, nothing))
    assert math.isnan(best_overlap(scores, nothing))


def test_bad_input_is_refused() -> None:
    with pytest.raises(VideoError, match="K at least 2"):
        variance_map(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2))
    with pytest.raises(VideoError, match=r"found \[3, 2, 4, 4\] and \[2, 2\]"):
        correlation_map(torch.zeros(3, 2, 4, 4), torch.zeros(2, 2))
