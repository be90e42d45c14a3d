"""The table of simulated data sets, and how each of their scenes becomes clips."""

from __future__ import annotations

from dataclasses import dataclass

from bench.data.sim.clips import SimClip, film
from bench.data.sim.exact import Random
from bench.data.sim.natural import natural_poses
from bench.data.sim.physics import World
from bench.data.sim.poking import PLACES, Poking, Stage, background_poke, poke_at, random_poke
from bench.data.sim.scene import build_scene
from bench.data.sim.species import HUMAN, SEEN, UNSEEN
from metrics.errors import DataError

VERSION = 1
"""Rises with every change that moves a pixel of a clip."""
BACKGROUND_EVERY = 8
"""One poke of this many is beside the object."""
SWAY_EVERY = 4
"""One object of this many sways in a light wind while it is poked."""


@dataclass(frozen=True)
class Split:
    """One simulated data set.

    Attributes:
        name: as the registry knows it.
        summary: one line.
        content: "natural", "pull", "impulse" or "counterfactual".
        kinds: objects, which scenes take in turn.
        scenes: number of scenes; scene k of a split is drawn from "<name>/<k>" and shares nothing with others.
        clips_per_scene: clips cut from each scene, or pokes of it.
        scenes_per_shard: scenes stored in one file.
    """

    name: str
    summary: str
    content: str
    kinds: tuple[str, ...]
    scenes: int
    clips_per_scene: int
    scenes_per_shard: int

    @property
    def shards(self) -> int:
        """Number of files."""
        return -(-self.scenes // self.scenes_per_shard)

    @property
    def clips(self) -> int:
        """Number of clips."""
        return self.scenes * self.clips_per_scene

    def kind(self, scene: int) -> str:
        """What scene number `scene` shows."""
        return self.kinds[scene % len(self.kinds)]

    def source(self, scene: int) -> str:
        """Name of scene number `scene`, also the seed from which it is drawn."""
        return f"{self.name}-{scene:05d}"

    def clip_id(self, scene: int, clip: int) -> str:
        """Id of clip number `clip` of a scene."""
        return f"{self.source(scene)}-{self.kind(scene)}@{clip:03d}"

    def locate(self, clip_id: str) -> tuple[int, int]:
        """Scene and clip number of an id.

        Raises:
            DataError: the id is not one of this split.
        """
        head, _, clip = clip_id.rpartition("@")
        scene = head.removeprefix(f"{self.name}-").partition("-")[0]
        if scene.isdecimal() and clip.isdecimal():
            place = int(scene), int(clip)
            if place[0] < self.scenes and place[1] < self.clips_per_scene and self.clip_id(*place) == clip_id:
                return place
        raise DataError(
            f"{self.name} has no clip {clip_id!r}; its ids go from {self.clip_id(0, 0)} to "
            f"{self.clip_id(self.scenes - 1, self.clips_per_scene - 1)}"
        )


_BOTH = tuple(kind for species in SEEN for kind in (species, HUMAN))
"""Plants and people in turn."""
_FEW = ("ficus", HUMAN, "cactus", HUMAN, "palm", HUMAN, "monstera", "orchid", HUMAN, "aloe")

SPLITS: dict[str, Split] = {
    split.name: split
    for split in (
        Split("sim-plants-train", "plants in wind and hands, 13 species, to train on", "natural", SEEN, 507, 8, 13),
        Split("sim-plants", "plants in wind and hands, 13 species, test", "natural", SEEN, 130, 2, 13),
        Split("sim-plants-unseen", "plants in wind and hands, 2 held-out species, test", "natural", UNSEEN, 64, 2, 8),
        Split("sim-humans-train", "moving people, to train on", "natural", (HUMAN,), 512, 8, 16),
        Split("sim-humans", "moving people, test", "natural", (HUMAN,), 128, 2, 16),
        Split(
            "sim-pokes", "true pokes: a pull at a known point; one in 8 beside the object", "pull", _BOTH, 208, 1, 13
        ),
        Split("sim-impulse", "true pokes: a short blow at a known point", "impulse", _BOTH, 104, 1, 13),
        Split("sim-counterfactual", "10 scenes, each poked 100 times at one place", "counterfactual", _FEW, 10, 100, 1),
    )
}


def make_scene(split: Split, scene: int, size: int) -> list[SimClip]:
    """All clips of one scene, in order, at `size` px.

    Raises:
        DataError: `size` cannot be drawn, or the scene cannot be simulated.
    """
    kind, source = split.kind(scene), split.source(scene)
    ids = [split.clip_id(scene, clip) for clip in range(split.clips_per_scene)]
    if split.content == "natural":
        world = World(build_scene(kind, source))
        poses = natural_poses(world, Random("natural", source), len(ids))
        return [film(world.scene, pose, size, name, source) for pose, name in zip(poses, ids, strict=True)]
    stage, pokings = _pokings(split, scene, size)
    return [
        film(stage.world.scene, found.pose, size, name, source, found.poke, found.seen)
        for found, name in zip(pokings, ids, strict=True)
    ]


def stage_of(split: Split, scene: int) -> Stage:
    """The stage on which the pokes of a scene begin.

    Raises:
        DataError: the split shows natural motion, whose clips begin nowhere at rest.
    """
    if split.content == "natural":
        raise DataError(f"{split.name} shows natural motion; true pokes are in the splits of pokes")
    sway = split.content != "counterfactual" and scene % SWAY_EVERY == SWAY_EVERY - 2
    return Stage.build(split.kind(scene), split.source(scene), sway)


def _pokings(split: Split, scene: int, size: int) -> tuple[Stage, list[Poking]]:
    stage = stage_of(split, scene)
    rng = Random("pokes", split.source(scene))
    if split.content == "counterfactual":
        return stage, _many_pokes(stage, rng, size, split.clips_per_scene)
    if split.content == "pull" and scene % BACKGROUND_EVERY == BACKGROUND_EVERY - 1:
        return stage, [background_poke(stage, rng, size)]
    return stage, [random_poke(stage, rng, size, split.content)]


def _many_pokes(stage: Stage, rng: Random, size: int, count: int) -> list[Poking]:
    """`count` pulls at one place: the first where a random poke succeeds."""
    first = random_poke(stage, rng, size, "pull")
    found = [first]
    for _ in range(count * PLACES):
        if len(found) == count:
            return found
        poking = poke_at(stage, first.seen, first.poke.location, rng, "pull")
        if poking is not None:
            found.append(poking)
    scene = stage.world.scene
    raise DataError(f"the {scene.kind} with seed {scene.seed} could not be poked {count} times; use another seed")
