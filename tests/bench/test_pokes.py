"""Simulated pokes against the rule worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import DriftingDiscs, smooth_texture
from pydantic import ValidationError

from bench.flow.source import FlowSource
from bench.foreground import grabcut
from bench.pokes import DrawnPoke, PokeRule, candidates, draw_pokes, pokes_for, simulate_poke, still_targets
from methods.interface import Clip, Poke
from metrics.errors import DataError

RULE = PokeRule()


def flow_with(size: int = 32, **patches: tuple[slice, slice, float, float]) -> torch.Tensor:
    """Zero flow with patches (rows, columns, dx, dy)."""
    flow = torch.zeros(2, size, size)
    for rows, columns, dx, dy in patches.values():
        flow[0, rows, columns], flow[1, rows, columns] = dx, dy
    return flow


def random_flow(seed: int, size: int = 32) -> torch.Tensor:
    return torch.randn(2, size, size, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize("seed", range(8))
def test_the_poke_is_the_flow_at_its_place(seed: int) -> None:
    flow = random_flow(seed)
    draw = simulate_poke(flow, None, PokeRule(count=5), seed, "clip")
    assert draw.location.shape == draw.displacement.shape == (5, 2)
    for (x, y), vector in zip(draw.location.long().tolist(), draw.displacement, strict=True):
        assert torch.equal(vector, flow[:, y, x])


def test_candidates_by_hand_and_every_one_is_drawn() -> None:
    """Two of 26 x 26 pixels move: mean + 2 std of the scaled amplitude lies between the slower and the faster."""
    flow = flow_with(fast=(slice(10, 11), slice(20, 22), 4.0, 3.0), slow=(slice(5, 6), slice(5, 6), 0.25, 0.0))
    amplitude = torch.linalg.vector_norm(flow, dim=0)[3:-3, 3:-3].numpy() / 5
    threshold = amplitude.mean() + 2 * amplitude.std()
    assert 0.05 < threshold < 1
    drawn = {tuple(simulate_poke(flow, None, RULE, seed, "clip").location[0].long().tolist()) for seed in range(60)}
    assert drawn == {(20, 10), (21, 10)}
    assert simulate_poke(flow, None, RULE, 0, "clip").kind == "strong"


def test_scaling_the_flow_changes_no_place() -> None:
    flow = random_flow(3)
    for seed in range(5):
        one, other = (simulate_poke(f, None, RULE, seed, "clip") for f in (flow, 8 * flow))
        assert torch.equal(one.location, other.location)
        assert torch.equal(8 * one.displacement, other.displacement)


def test_the_border_is_left_out() -> None:
    flow = flow_with(64, border=(slice(0, 3), slice(0, 64), 9.0, 0.0), inner=(slice(3, 4), slice(3, 4), 1.0, 0.0))
    draw = simulate_poke(flow, None, RULE, 0, "clip")
    assert draw.location.tolist() == [[3, 3]]
    assert [RULE.margin_at(side) for side in (32, 64, 128, 256)] == [3, 3, 5, 9]
    assert PokeRule(margin=1).margin_at(128) == 1


@pytest.mark.parametrize(
    ("amplitude", "kind", "places"),
    [
        (np.array([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]]), "strong", [7]),
        (np.array([[0.0, 0.0, 0.0, 1.0]]), "moderate", [3]),
        (np.array([[0.0, 0.0, 1.0, 1.0]]), "weak", [2, 3]),
        (np.array([[0.0, 0.0, 0.0, 0.0]]), "still", [0]),
    ],
)
def test_fallbacks(amplitude: np.ndarray, kind: str, places: list[int]) -> None:
    """Mean + 2 std: 0.79, 1.12, 1.5, 0; mean + std: 0.46, 0.68, 1, 0."""
    found, how = candidates(amplitude, None)
    assert (how, found.tolist()) == (kind, places)


def test_a_foreground_without_motion_falls_back_to_the_whole_window() -> None:
    amplitude = np.zeros((4, 8))
    amplitude[0, 0] = 1.0
    foreground = np.zeros((4, 8), bool)
    foreground[3] = True
    found, how = candidates(amplitude, foreground)
    assert (how, found.tolist()) == ("moderate", [0])
    foreground[0, 0] = True
    assert candidates(amplitude, foreground)[1] == "strong"


def test_still_clips_are_marked_not_replaced() -> None:
    draw = simulate_poke(torch.zeros(2, 32, 32), None, RULE, 0, "clip")
    assert (draw.kind, draw.location.tolist(), draw.displacement.tolist()) == ("still", [[3, 3]], [[0, 0]])
    pan = torch.full((2, 32, 32), 1.7)
    draw = simulate_poke(pan, None, RULE, 0, "clip")
    assert draw.kind == "still"
    assert torch.equal(draw.displacement, torch.full((1, 2), 1.7))


def test_parts_restrict_the_place() -> None:
    flow = flow_with(object=(slice(8, 12), slice(8, 12), 2.0, 0.0), spurious=(slice(20, 24), slice(20, 24), 6.0, 0.0))
    parts = torch.zeros(32, 32, dtype=torch.uint8)
    parts[8:12, 8:12] = 4
    rule = PokeRule(foreground="parts")
    for seed in range(10):
        draw = simulate_poke(flow, None, rule, seed, "clip", parts)
        assert draw.displacement.tolist() == [[2.0, 0.0]]
        assert simulate_poke(flow, None, RULE, seed, "clip").displacement.tolist() == [[6.0, 0.0]]
    with pytest.raises(DataError, match="no parts"):
        simulate_poke(flow, None, rule, 0, "clip")


def test_grabcut_finds_the_object_every_time() -> None:
    picture = torch.from_numpy(smooth_texture(64, 64, 1)).permute(2, 0, 1) * 0.3
    picture[0, 18:46, 22:42] += 0.7
    truth = np.zeros((64, 64), bool)
    truth[18:46, 22:42] = True
    masks = [grabcut(picture, 3) for _ in range(3)]
    assert all(np.array_equal(mask, masks[0]) for mask in masks)
    assert (masks[0] & truth).sum() / (masks[0] | truth).sum() > 0.95
    flow = flow_with(64, on=(slice(30, 32), slice(30, 32), 1.0, 0.0), off=(slice(5, 7), slice(5, 7), 5.0, 0.0))
    rule = PokeRule(foreground="grabcut")
    assert simulate_poke(flow, picture, rule, 0, "clip").displacement.tolist() == [[1.0, 0.0]]
    with pytest.raises(DataError, match="needs x0"):
        simulate_poke(flow, None, rule, 0, "clip")


def test_background_pokes_lie_beside_the_object_with_the_vector_of_a_moving_pixel() -> None:
    flow = flow_with(object=(slice(10, 16), slice(10, 16), 3.0, 1.0))
    parts = torch.zeros(32, 32, dtype=torch.uint8)
    parts[9:20, 9:20] = 1
    for rule in (PokeRule(background=1), PokeRule(background=1, foreground="parts")):
        draw = simulate_poke(flow, None, rule.model_copy(update={"count": 20}), 1, "clip", parts)
        assert draw.kind == "background"
        assert draw.displacement.tolist() == [[3.0, 1.0]] * 20
        x, y = draw.location.long().T
        assert not flow[:, y, x].any()
        if rule.foreground == "parts":
            assert not parts[y, x].any()


def test_background_share_and_targets() -> None:
    rule = PokeRule(background=0.125)
    ids = [f"clip{i}" for i in range(400)]
    flow = torch.stack([random_flow(i % 5) for i in range(400)])
    poke = draw_pokes(flow, torch.zeros(400, 3, 32, 32), ids, rule, 0)
    assert 30 <= len(poke.rows("background")) <= 70
    frames = torch.randint(0, 256, (4, 5, 3, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    kinds = DrawnPoke(torch.zeros(4, 2), torch.zeros(4, 2), kinds=("strong", "background", "weak", "background"))
    target = still_targets(frames, kinds, context=2)
    assert torch.equal(target[[0, 2]], frames[[0, 2]])
    for row in (1, 3):
        assert torch.equal(target[row, :2], frames[row, :2])
        assert all(torch.equal(target[row, t], frames[row, 1]) for t in range(2, 5))


def test_draws_depend_on_seed_and_clip_alone() -> None:
    flow = torch.stack([random_flow(i) for i in range(6)])
    x0, ids = torch.zeros(6, 3, 32, 32), [f"c{i}" for i in range(6)]
    whole = draw_pokes(flow, x0, ids, RULE, 5)
    for rows in ([0], [5, 2], [3, 4, 1]):
        some = draw_pokes(flow[rows], x0[rows], [ids[row] for row in rows], RULE, 5)
        assert torch.equal(some.location, whole.location[rows])
        assert torch.equal(some.displacement, whole.displacement[rows])
    assert not torch.equal(draw_pokes(flow, x0, ids, RULE, 6).location, whole.location)
    same = draw_pokes(flow[[0, 0]], x0[[0, 0]], ["a", "b"], RULE, 5)
    assert not torch.equal(same.location[0], same.location[1])


def test_more_pokes_continue_fewer() -> None:
    for background in (0.0, 1.0):
        few, many = (
            simulate_poke(random_flow(1), None, PokeRule(count=n, background=background), 2, "c") for n in (2, 7)
        )
        assert torch.equal(few.location, many.location[:2])
        assert torch.equal(few.displacement, many.displacement[:2])
    flow = torch.stack([random_flow(1), random_flow(2)])
    assert draw_pokes(flow, flow, ["a", "b"], PokeRule(count=3), 0).location.shape == (2, 3, 2)


class Poked(DriftingDiscs):
    """Discs whose flow and poke are known."""

    context = 2

    def load(self, clip_id: str) -> Clip:
        poke = Poke(torch.tensor([[4.0, 5.0]]), torch.tensor([[1.0, -2.0]]))
        return replace(super().load(clip_id), flow=random_flow(int(clip_id[-3:])), poke=poke)


def test_pokes_of_a_data_set() -> None:
    dataset = Poked(6)
    ids = [ref.clip_id for ref in dataset.clips()][1:4]
    source = FlowSource(dataset, "exact")
    poke = pokes_for(dataset, ids, source, RULE, 0)
    assert poke.location.shape == poke.displacement.shape == (3, 2)
    for row, clip_id in enumerate(ids):
        x, y = poke.location[row].long().tolist()
        assert torch.equal(poke.displacement[row], source(clip_id)[:, y, x])
    true = pokes_for(dataset, ids, source, PokeRule(source="true"), 0)
    assert true.kinds == ("true",) * 3
    assert true.location.tolist() == [[4.0, 5.0]] * 3
    assert true.displacement.tolist() == [[1.0, -2.0]] * 3
    discs = DriftingDiscs(6)
    with pytest.raises(DataError, match="no true poke"):
        pokes_for(discs, ids, FlowSource(discs, "exact", context=2), PokeRule(source="true"), 0)


def test_faults_are_named() -> None:
    with pytest.raises(DataError, match="finite flow"):
        simulate_poke(torch.full((2, 32, 32), float("nan")), None, RULE, 0, "c")
    with pytest.raises(DataError, match="leaves nothing"):
        simulate_poke(torch.zeros(2, 8, 8), None, PokeRule(margin=4), 0, "c")
    with pytest.raises(DataError, match="no true pokes"):
        draw_pokes(torch.zeros(1, 2, 8, 8), torch.zeros(1, 3, 8, 8), ["c"], PokeRule(source="true"), 0)
    with pytest.raises(ValidationError, match="as the data have them"):
        PokeRule(source="true", count=2)


def test_every_field_changes_the_hash() -> None:
    rules = [
        RULE,
        PokeRule(source="true"),
        PokeRule(margin=3),
        PokeRule(foreground="parts"),
        PokeRule(background=0.1),
        PokeRule(count=2),
    ]
    assert len({rule.hash for rule in rules}) == len(rules)
    assert PokeRule().hash == RULE.hash
