"""Small simulated data for the tests of bench.data.sim."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.data.sim.physics import World
from bench.data.sim.poking import Stage
from bench.data.sim.scene import Scene, build_scene
from bench.data.sim.splits import Split


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the tests out of the user's cache; they share one, so that shards are made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POKEBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_split() -> Split:
    """Three scenes in three shards: plants and a person, two clips each."""
    return Split("sim-tiny", "for tests", "natural", ("cactus", "human", "palm"), 3, 2, 1)


@pytest.fixture(scope="session")
def ficus() -> Scene:
    return build_scene("ficus", "test")


@pytest.fixture(scope="session")
def monstera_world() -> World:
    return World(build_scene("monstera", "test"))


@pytest.fixture(scope="session")
def ficus_stage() -> Stage:
    return Stage.build("ficus", "test")
