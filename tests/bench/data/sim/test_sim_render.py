"""The ray caster against plain ray by ray geometry, and properties of the picture."""

from __future__ import annotations

import numpy as np
import pytest

from bench.data.sim.body import OUTLINES, Shape
from bench.data.sim.outlines import in_hole, outline_width
from bench.data.sim.physics import World
from bench.data.sim.raycast import camera_rays, cast, quadric
from bench.data.sim.render import render
from bench.data.sim.scene import Pose, Scene, build_scene, primitive_frames
from metrics.errors import DataError


def nearest_hit(scene: Scene, direction: np.ndarray) -> tuple[float, int]:
    """One ray from the camera, primitive by primitive, with numpy's own linear algebra."""
    rotations, origins = primitive_frames(scene.primitives, scene.rest)
    best, found = np.inf, -1
    for index, p in enumerate(scene.primitives):
        o = rotations[0, index].T @ (scene.camera.position - origins[0, index])
        d = rotations[0, index].T @ direction
        *q, linear, constant = quadric(p)
        a = np.dot(q, d * d)
        b = 2 * np.dot(q, o * d) + linear * d[2]
        c = np.dot(q, o * o) + linear * o[2] + constant
        roots = np.roots([a, b, c])
        for t in sorted(float(r.real) for r in roots if abs(r.imag) < 1e-12):
            x, y, z = o + t * d
            if p.shape is Shape.FRUSTUM:
                inside = 0 <= z <= p.size[2]
            elif p.shape is Shape.LEAF:
                along = p.span[0] + (p.span[1] - p.span[0]) * x / p.size[0]
                half = p.size[1] * float(outline_width(np.array(OUTLINES.index(p.outline)), np.array(along)))
                inside = 0 <= x <= p.size[0] and abs(y) <= half
                if inside and p.holes:
                    inside = not bool(in_hole(np.array(along), np.array(abs(y) / half)))
            else:
                inside = True
            if t > 1e-4 and inside and t < best:
                best, found = t, index
    return best, found


@pytest.mark.parametrize("kind", ["monstera", "cactus", "human", "orchid"])
def test_first_hits_match_plain_geometry(kind: str) -> None:
    scene = build_scene(kind, "rays")
    size = 48
    hits = cast(scene.primitives, scene.rest, camera_rays(scene.camera, size))
    directions = scene.camera.rays(size)
    seen = np.argwhere(hits.primitive[0] >= 0)
    rng = np.random.default_rng(0)
    chosen = np.concatenate([rng.permutation(seen)[:60], rng.integers(0, size, (40, 2))])
    for y, x in chosen:
        depth, index = nearest_hit(scene, directions[y, x])
        assert hits.primitive[0, y, x] == index
        if index >= 0:
            assert hits.depth[0, y, x] == pytest.approx(depth, rel=1e-9)


def test_static_pixels_are_shared_between_frames(ficus: Scene) -> None:
    pose = World(ficus).run([], 2)
    hits = cast(ficus.primitives, pose, camera_rays(ficus.camera, 64))
    assert np.array_equal(hits.primitive[0], hits.primitive[2])


def test_a_frame_does_not_depend_on_its_neighbours() -> None:
    world = World(build_scene("palm", "frames"))
    state = world.rest_state()
    state.velocities[:] = 0.8
    pose = world.run([], 3, state)
    together = render(world.scene, pose, 64)
    assert together.shape == (4, 3, 64, 64)
    assert together.dtype == np.uint8
    for k in range(4):
        assert np.array_equal(render(world.scene, pose[[k]], 64)[0], together[k])
    assert (together[0] != together[3]).any()


def test_frames_that_do_not_differ_are_equal(ficus: Scene) -> None:
    still = Pose(np.repeat(ficus.rest.position, 3, 0), np.repeat(ficus.rest.rotation, 3, 0))
    frames = render(ficus, still, 64)
    assert (frames == frames[0]).all()


@pytest.mark.parametrize("kind", ["ficus", "human", "pothos"])
def test_pictures_have_light_and_contrast(kind: str) -> None:
    scene = build_scene(kind, "light")
    frame = render(scene, scene.rest, 64)[0].astype(float)
    assert 40 < frame.mean() < 225
    assert frame.std() > 12
    assert frame.max() > 120


def test_sizes_show_the_same_scene(ficus: Scene) -> None:
    small = render(ficus, ficus.rest, 64)[0].astype(float)
    large = render(ficus, ficus.rest, 128)[0].astype(float)
    reduced = large.reshape(3, 64, 2, 64, 2).mean((2, 4))
    assert np.abs(reduced - small).mean() < 5


@pytest.mark.parametrize("size", [63, 257, 0, -64, 64.0, True, "64"])
def test_sizes_that_cannot_be_drawn_are_refused(ficus: Scene, size: object) -> None:
    with pytest.raises(DataError, match="64 to 256 px"):
        render(ficus, ficus.rest, size)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [64, 100, 256])
def test_any_size_in_between_can_be_drawn(size: int) -> None:
    scene = build_scene("snake_plant", "size")
    assert render(scene, scene.rest, size).shape == (1, 3, size, size)
