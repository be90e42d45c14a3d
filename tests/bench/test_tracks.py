"""Sparse trajectories against flow and motion that are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from bench.data.sim.clips import film
from bench.data.sim.exact import Random
from bench.data.sim.flow import dense_flow, surface, track_points, visibility
from bench.data.sim.natural import natural_poses
from bench.data.sim.physics import World
from bench.data.sim.scene import build_scene
from bench.tracks import TrackRule, follow, tracks_of
from methods.interface import Clip
from metrics.errors import DataError, RegistryError

MovingVideo = Callable[..., np.ndarray]


def sliding(moving_video: MovingVideo, number: int = 0, frames: int = 5) -> Clip:
    """A texture of 64 px that slides by one px a frame to the left and up, under a still frame of 16 px."""
    video = moving_video(frames, 64, 64, dx=1, dy=1, seed=number).copy()
    still = np.ones((64, 64), bool)
    still[16:48, 16:48] = False
    video[:, still] = video[0, still]
    parts = torch.from_numpy((~still).astype(np.uint8))
    frames_ = torch.from_numpy(video).permute(0, 3, 1, 2)
    return Clip(frames_, f"clip-{number}", "video", 10.0, parts=parts)


def test_follow_by_hand() -> None:
    flows = torch.zeros(1, 3, 2, 8, 10)
    flows[:, 0, 0] = torch.arange(10.0) / 4  # dx grows with x
    flows[:, 1, 1] = -2
    flows[:, 2, 0] = 100
    start = torch.tensor([[[2.0, 3.0], [4.5, 7.0], [0.0, 1.0], [-3.0, 20.0]]])
    found = follow(start, flows)
    assert found.shape == (1, 4, 4, 2)
    expected = [
        [[2, 3], [2.5, 3], [2.5, 1], [9, 1]],
        [[4.5, 7], [5.625, 7], [5.625, 5], [9, 5]],
        [[0, 1], [0, 1], [0, 0], [9, 0]],
        [[0, 7], [0, 7], [0, 5], [9, 5]],
    ]
    torch.testing.assert_close(found[0], torch.tensor(expected, dtype=torch.float32), rtol=0, atol=1e-5)


def test_points_slide_with_the_texture(moving_video: MovingVideo) -> None:
    clips = [sliding(moving_video, number) for number in range(4)]
    found = tracks_of(clips, TrackRule(foreground="parts"), seed=0, context=1)
    assert found.shape == (4, 5, 5, 2)
    assert found.dtype == torch.float32
    start = found[:, :, 0]
    assert torch.equal(start, start.round())
    assert ((start >= 16) & (start < 48)).all()
    inner = ((start > 24) & (start < 44)).all(-1)
    steps = found[inner][:, 1:] - found[inner][:, :-1]
    assert inner.sum() >= 4
    assert (steps.mean((0, 1)) + 1).abs().max() < 0.1


def test_context_frames_before_x0_play_no_part(moving_video: MovingVideo) -> None:
    clip = sliding(moving_video, frames=6)
    cut = Clip(clip.frames[2:], clip.clip_id, clip.source, 10.0)
    assert torch.equal(tracks_of([clip], TrackRule(), 0, context=3), tracks_of([cut], TrackRule(), 0, context=1))


def test_tracks_depend_on_seed_and_clip_alone(moving_video: MovingVideo) -> None:
    clips = [sliding(moving_video, number) for number in range(4)]
    rule = TrackRule()
    together = tracks_of(clips, rule, 0, 1)
    assert torch.equal(tracks_of(clips[2:0:-1], rule, 0, 1), together[[2, 1]])
    assert not torch.equal(tracks_of(clips, rule, 1, 1)[:, :, 0], together[:, :, 0])
    assert torch.equal(tracks_of(clips, TrackRule(count=9), 0, 1)[:, :5], together)
    other = Clip(clips[0].frames, "another", "video", 10.0)
    assert not torch.equal(tracks_of([other], rule, 0, 1)[0, :, 0], together[0, :, 0])


def known(tracks: torch.Tensor) -> Clip:
    return Clip(torch.zeros(tracks.shape[1], 3, 32, 32, dtype=torch.uint8), "clip", "scene", 10.0, tracks=tracks)


def test_exact_tracks_that_stand_out_come_first() -> None:
    """Of 20 points one moves by 8 px, three by 4 and sixteen not at all: mean 1, std 2.1.

    The first exceeds the mean by two standard deviations, the next three by one.
    """
    step = torch.tensor([8.0] + [4.0] * 3 + [0.0] * 16)
    start = torch.stack([torch.arange(20.0), torch.full((20,), 5.0)], -1)
    tracks = start[:, None] + torch.stack([step, torch.zeros(20)], -1)[:, None] * torch.arange(4)[:, None]
    moved = set()
    for seed in range(20):
        found = tracks_of([known(tracks)], TrackRule(source="exact"), seed, 1)[0]
        assert found[0, :, 0].tolist() == [0, 8, 16, 24]
        assert set(found[1:4, 0, 0].tolist()) == {1, 2, 3}
        assert (found[4, 1:] == found[4, 0]).all()
        moved.add(tuple(found[:, 0, 0].tolist()))
    assert len(moved) > 10
    assert torch.equal(
        tracks_of([known(tracks)], TrackRule(source="exact", count=2), 3, 2)[0, :, 0],
        tracks_of([known(tracks[:, 1:])], TrackRule(source="exact", count=2), 3, 1)[0, :, 0],
    )


def test_exact_tracks_stay_inside_and_differ() -> None:
    tracks = torch.tensor([[[30.0, 1.0], [40.0, -1.0]], [[30.0, 1.0], [40.0, -1.0]], [[3.0, 3.0], [3.0, 3.0]]])
    found = tracks_of([known(tracks)], TrackRule(source="exact", count=2), 0, 1)[0]
    assert found.tolist() == [[[30, 1], [31, 0]], [[3, 3], [3, 3]]]
    with pytest.raises(DataError, match="2 points"):
        tracks_of([known(tracks)], TrackRule(source="exact", count=3), 0, 1)


def test_still_clips_have_points_too(moving_video: MovingVideo) -> None:
    clip = sliding(moving_video)
    clip = Clip(clip.frames[:1].expand(4, -1, -1, -1), "still", "video", 10.0)
    found = tracks_of([clip], TrackRule(), 0, 1)[0]
    assert torch.equal(found, found[:, :1].expand_as(found))
    assert len({tuple(point) for point in found[:, 0].tolist()}) == 5


def test_faults_are_named(moving_video: MovingVideo) -> None:
    clip = sliding(moving_video)
    with pytest.raises(DataError, match="no exact tracks"):
        tracks_of([clip], TrackRule(source="exact"), 0, 1)
    with pytest.raises(DataError, match="no frame after 5"):
        tracks_of([clip], TrackRule(), 0, 5)
    with pytest.raises(DataError, match="no frame after 2"):
        tracks_of([known(torch.zeros(1, 2, 2))], TrackRule(source="exact", count=1), 0, 2)
    with pytest.raises(DataError, match="no parts"):
        tracks_of([Clip(clip.frames, "bare", "video", 10.0)], TrackRule(foreground="parts"), 0, 1)
    for rule in (TrackRule(margin=32), TrackRule(margin=30, count=17)):
        with pytest.raises(DataError, match=f"fewer than {rule.count} of 64 x 64 px"):
            tracks_of([clip], rule, 0, 1)
    with pytest.raises(ValidationError, match="leave out estimator"):
        TrackRule(source="exact", foreground="parts")
    with pytest.raises(RegistryError, match="did you mean 'dis'"):
        TrackRule(estimator="diss")
    rules = [TrackRule(), TrackRule(count=4), TrackRule(source="exact"), TrackRule(foreground="parts")]
    assert len({rule.hash for rule in rules}) == len(rules)


def test_error_of_followed_points_in_the_simulated_world() -> None:
    """Against the true motion of the surface points chosen, for those seen in x0 and x10, over five plants.

    One step of the exact flow is exact. Further on, points are lost where another leaf comes before them, but both the
    exact flow and DIS do much better than the assumption that points stand still.
    """
    errors = [_errors(kind) for kind in ("ficus", "monstera", "palm", "orchid", "aloe")]
    still, exact, estimated = (torch.cat(found) for found in zip(*errors, strict=True))
    assert len(still) > 50
    assert exact[:, 1].max() < 1e-3
    assert exact[:, -1].mean() < 0.5 * still[:, -1].mean()
    assert estimated[:, -1].mean() < 0.7 * still[:, -1].mean()


def _errors(kind: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Distance from the truth `[points, 11]` of points at rest, carried by exact flow, and carried by DIS, in px."""
    world = World(build_scene(kind, "tracks"))
    (pose,) = natural_poses(world, Random("tracks", kind), 1)
    shown = film(world.scene, pose, 64, f"{kind}@000", kind)
    clip = Clip(torch.from_numpy(shown.frames[1:]), shown.clip_id, kind, 10.0, parts=torch.from_numpy(shown.parts))
    found = tracks_of([clip], TrackRule(foreground="parts", count=20), 0, 1)
    pose = pose[1:]
    steps = [dense_flow(world.scene, surface(world.scene, pose[t:], 64), pose[t + 1 : t + 2]) for t in range(10)]
    exact = follow(found[:, :, 0], torch.from_numpy(np.stack(steps, 1)).float())
    seen = surface(world.scene, pose, 64)
    x, y = found[0, :, 0].long().T.numpy()
    truth = torch.from_numpy(track_points(world.scene, seen, pose, x, y)[0]).float()
    kept = torch.from_numpy(visibility(world.scene, seen, pose)[-1][y, x])
    still, exact_error, error = (
        torch.linalg.vector_norm(tracks - truth, dim=-1)[kept] for tracks in (truth[:, :1], exact[0], found[0])
    )
    return still, exact_error, error


@pytest.mark.slow
def test_the_table_of_errors() -> None:
    from bench.track_quality import RULES, track_error_table

    table = track_error_table(clips=3)
    assert list(table.index) == list(RULES)
    assert table.loc["exact tracks", "tracked"] < 0.01
    assert table.loc["exact tracks", "on movable"] == 1
    assert table.loc["dis, foreground parts", "tracked"] < table.loc["dis, foreground parts", "still"]
    with pytest.raises(DataError, match="natural motion: sim-plants"):
        track_error_table("sim-pokes")
