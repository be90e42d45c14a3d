"""Scenes: every kind can be built, stands in the picture, and agrees with the physics engine."""

from __future__ import annotations

import numpy as np
import pytest

from bench.data.sim.body import STATIC
from bench.data.sim.exact import QUANTUM
from bench.data.sim.physics import World
from bench.data.sim.scene import build_scene, primitive_corners
from bench.data.sim.species import HUMAN, PLANTS, SEEN, SPECIES, UNSEEN
from bench.data.sim.splits import SPLITS
from metrics.errors import DataError

KINDS = [*PLANTS, HUMAN]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_framed_and_at_rest(kind: str) -> None:
    scene = build_scene(kind, "framing")
    moving = [k for k, p in enumerate(scene.primitives) if p.body != STATIC]
    place, depth = scene.camera.project(primitive_corners(scene.primitives, scene.rest)[0, moving])
    assert depth.min() > 0.3
    assert place.min() > -0.12
    assert place.max() < 1.12
    extent = (place.reshape(-1, 2).max(0) - place.reshape(-1, 2).min(0)).max()
    assert extent > 0.35
    assert len(scene.parts) < 256
    used = {p.part for p in scene.primitives}
    assert used == set(range(1, len(scene.parts)))
    pose = World(scene).run([], 0)
    assert np.abs(pose.position - scene.rest.position).max() <= 4 * QUANTUM
    assert np.abs(pose.rotation - scene.rest.rotation).max() <= 4 * QUANTUM


@pytest.mark.parametrize("kind", ["bamboo", HUMAN])
def test_a_scene_depends_on_kind_and_seed_alone(kind: str) -> None:
    one, again, other = build_scene(kind, "1"), build_scene(kind, "1"), build_scene(kind, "2")
    assert np.array_equal(one.rest.position, again.rest.position)
    assert np.array_equal(one.camera.position, again.camera.position)
    assert one.materials == again.materials
    assert not np.array_equal(one.camera.position, other.camera.position)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_a_scene_are_quantised(kind: str) -> None:
    scene = build_scene(kind, "grid")
    values = [
        scene.camera.position,
        scene.camera.forward,
        scene.lamp.direction,
        scene.rest.position,
        scene.rest.rotation,
    ]
    values += [p.offset for p in scene.primitives] + [np.array(p.size) for p in scene.primitives]
    for value in values:
        assert np.array_equal(value / QUANTUM, np.round(value / QUANTUM))


def test_a_person_stands_on_planted_feet() -> None:
    scene = build_scene(HUMAN, "feet")
    assert len(scene.anchors) == 4
    heights = [
        (scene.rest.position[0, a.body] + scene.rest.rotation[0, a.body] @ np.array(a.point))[2] for a in scene.anchors
    ]
    assert min(heights) == pytest.approx(0.052, abs=1e-5)
    assert max(heights) < 0.25
    assert {"head", "torso", "left hand", "right foot"} <= set(scene.parts)


def test_fifteen_species_of_which_two_are_held_out() -> None:
    assert len(SPECIES) == 15
    assert len(UNSEEN) == 2
    assert not set(SEEN) & set(UNSEEN)
    for split in SPLITS.values():
        if split.name == "sim-plants-unseen":
            assert set(split.kinds) == set(UNSEEN)
        else:
            assert not set(split.kinds) & set(UNSEEN)


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(DataError, match="unknown kind of object 'oak'"):
        build_scene("oak", "1")
