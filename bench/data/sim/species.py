"""The plant species, as tables of measures in metres, radians and Hz. `grow.py` turns one into an object."""

from __future__ import annotations

from dataclasses import dataclass

from bench.data.sim.body import Elastic

Limits = tuple[float, float]
Count = tuple[int, int]

TRUNK = Elastic(1.5, 0.16)
BRANCH = Elastic(1.8, 0.15)
LEAF = Elastic(2.3, 0.14)
LONG_LEAF = Elastic(1.7, 0.15)
STIFF = Elastic(2.2, 0.20)


@dataclass(frozen=True)
class Stems:
    """Stems, canes or a trunk that stand in the pot.

    Attributes:
        radius: at the base and at the tip.
        segments: elastic pieces; each bends in two directions.
        lean: angle from the vertical.
        bend: standard deviation of the total curl.
        wiggle: how crooked it is, radians per joint.
        spread: largest distance from the middle, as a fraction of the pot's radius.
        curl: total curl outwards beyond that.
        bark: "wood", "green", "ringed", "jointed" or "ribbed".
    """

    count: Count
    length: Limits
    radius: Limits
    segments: int
    lean: Limits
    bend: float = 0.15
    curl: Limits = (0.0, 0.0)
    wiggle: float = 0.05
    spread: float = 0.0
    bark: str = "wood"
    elastic: Elastic = TRUNK


@dataclass(frozen=True)
class Branches:
    """Branches on every stem, spread over `zone` of its height; `bend` below 0 curls them upwards."""

    count: Count
    length: Limits
    radius: Limits
    segments: int
    tilt: Limits
    bend: Limits
    zone: Limits = (0.35, 1.0)
    elastic: Elastic = BRANCH


@dataclass(frozen=True)
class Organ:
    """Leaves, flowers or foliage that grow at one kind of place.

    Attributes:
        kind: "strap" (a long leaf that bends), "blade" (a leaf on a stalk), "cone" (a thick leaf), "frond" (a rib
            with leaflets), "flower" or "pad" (a cushion of foliage).
        at: "pot", "stem" (along it), "tip" (of a stem), "branch" (along it) or "branch_tip".
        count: at each such place.
        width: half width as a fraction of the length.
        tilt: angle from the direction of what carries it; ordered from the first limit to the second.
        bend: total curl outwards along a strap, cone or rib.
        droop: angle between stalk and blade, or how far a flower nods.
        stalk: length of the stalk.
        zone: part of a stem or branch that carries organs.
        own_part: each is a part of its own; else it belongs to what carries it.
        variegation: probability of light rims.
    """

    kind: str
    at: str
    count: Count
    length: Limits
    width: Limits
    tilt: Limits
    bend: Limits = (0.0, 0.0)
    segments: int = 1
    outline: str = "ovate"
    droop: Limits = (0.5, 0.9)
    stalk: Limits = (0.03, 0.03)
    stalk_radius: float = 0.004
    zone: Limits = (0.2, 1.0)
    own_part: bool = True
    cross_curve: float = -1.5
    veins: Limits = (5.0, 9.0)
    variegation: float = 0.0
    banded: float = 0.0
    holes: bool = False
    elastic: Elastic = LEAF


@dataclass(frozen=True)
class Species:
    """One plant species. A `held_out` one is only in sim-plants-unseen; `autumn` is the probability of red leaves."""

    name: str
    organs: tuple[Organ, ...]
    stems: Stems | None = None
    branches: Branches | None = None
    held_out: bool = False
    autumn: float = 0.0


SPECIES: tuple[Species, ...] = (
    Species(
        "ficus",
        stems=Stems((1, 1), (0.45, 0.60), (0.030, 0.019), 4, (0.0, 0.12), 0.2),
        branches=Branches((6, 8), (0.20, 0.30), (0.012, 0.007), 2, (0.55, 0.95), (-0.3, -0.1)),
        organs=(Organ("blade", "branch", (5, 6), (0.13, 0.20), (0.32, 0.40), (0.6, 1.2), own_part=False),),
    ),
    Species(
        "palm",
        stems=Stems((1, 1), (0.28, 0.55), (0.036, 0.028), 4, (0.0, 0.15), 0.25, bark="ringed"),
        organs=(
            Organ(
                "strap",
                "tip",
                (9, 13),
                (0.38, 0.55),
                (0.09, 0.13),
                (0.30, 1.10),
                (0.9, 1.5),
                4,
                "serrate",
                veins=(14.0, 14.0),
                elastic=LONG_LEAF,
            ),
        ),
    ),
    Species(
        "snake_plant",
        organs=(
            Organ(
                "strap",
                "pot",
                (7, 11),
                (0.45, 0.80),
                (0.055, 0.070),
                (0.04, 0.30),
                (-0.15, 0.2),
                3,
                "strap",
                cross_curve=2.5,
                veins=(1.0, 1.0),
                variegation=0.6,
                banded=0.6,
                elastic=STIFF,
            ),
        ),
    ),
    Species(
        "monstera",
        organs=(
            Organ(
                "blade",
                "pot",
                (6, 9),
                (0.25, 0.36),
                (0.42, 0.52),
                (0.12, 0.65),
                (0.2, 0.5),
                3,
                "heart",
                droop=(0.7, 1.2),
                stalk=(0.22, 0.45),
                stalk_radius=0.011,
                veins=(5.0, 5.0),
                holes=True,
                elastic=LONG_LEAF,
            ),
        ),
    ),
    Species(
        "orchid",
        stems=Stems((1, 2), (0.62, 0.82), (0.010, 0.006), 7, (0.02, 0.22), curl=(1.0, 1.6), bark="green"),
        organs=(
            Organ(
                "strap",
                "pot",
                (4, 7),
                (0.22, 0.32),
                (0.15, 0.19),
                (0.6, 1.15),
                (0.5, 0.8),
                2,
                "oval",
                veins=(1.0, 1.0),
            ),
            Organ(
                "flower", "stem", (5, 7), (0.060, 0.075), (0.45, 0.5), (0.8, 1.2), zone=(0.30, 1.0), stalk=(0.05, 0.05)
            ),
        ),
    ),
    Species(
        "bamboo",
        stems=Stems((3, 6), (0.60, 0.95), (0.014, 0.010), 5, (0.0, 0.14), 0.15, spread=0.6, bark="jointed"),
        organs=(
            Organ(
                "strap",
                "stem",
                (6, 8),
                (0.16, 0.26),
                (0.08, 0.12),
                (0.5, 1.2),
                (0.4, 0.8),
                2,
                "lance",
                zone=(0.4, 1.0),
                own_part=False,
            ),
        ),
    ),
    Species(
        "cactus",
        stems=Stems((1, 1), (0.45, 0.65), (0.075, 0.064), 4, (0.0, 0.05), 0.1, bark="ribbed", elastic=STIFF),
        branches=Branches((2, 4), (0.26, 0.40), (0.045, 0.036), 4, (1.25, 1.4), (-1.5, -1.2), (0.35, 0.75), STIFF),
        organs=(
            Organ(
                "flower", "branch_tip", (0, 1), (0.03, 0.04), (0.4, 0.5), (0.0, 0.1), stalk=(0.01, 0.01), own_part=False
            ),
        ),
    ),
    Species(
        "dracaena",
        stems=Stems((2, 3), (0.20, 0.50), (0.020, 0.016), 3, (0.05, 0.28), 0.2, spread=0.4),
        organs=(
            Organ(
                "strap",
                "tip",
                (11, 14),
                (0.28, 0.42),
                (0.045, 0.06),
                (0.12, 1.25),
                (0.3, 1.1),
                3,
                "blade",
                veins=(1.0, 1.0),
                variegation=0.5,
                elastic=LONG_LEAF,
            ),
        ),
    ),
    Species(
        "spider_plant",
        organs=(
            Organ(
                "strap",
                "pot",
                (22, 28),
                (0.36, 0.58),
                (0.036, 0.048),
                (0.08, 0.80),
                (1.0, 1.9),
                4,
                "strap",
                veins=(0.0, 0.0),
                variegation=1.0,
                elastic=LONG_LEAF,
            ),
        ),
    ),
    Species(
        "gerbera",
        stems=Stems((2, 4), (0.40, 0.68), (0.010, 0.008), 4, (0.03, 0.32), 0.25, spread=0.3, bark="green"),
        organs=(
            Organ(
                "blade",
                "pot",
                (5, 7),
                (0.20, 0.30),
                (0.22, 0.28),
                (0.6, 1.1),
                outline="serrate",
                stalk=(0.08, 0.08),
                stalk_radius=0.006,
            ),
            Organ(
                "flower", "tip", (1, 1), (0.085, 0.12), (0.28, 0.32), (0.0, 0.2), droop=(0.4, 1.1), stalk=(0.01, 0.01)
            ),
        ),
    ),
    Species(
        "bonsai",
        stems=Stems((1, 1), (0.45, 0.55), (0.042, 0.022), 5, (0.2, 0.4), 0.3, (-0.9, 0.9), wiggle=0.25),
        branches=Branches((4, 6), (0.15, 0.25), (0.016, 0.010), 2, (0.8, 1.1), (-0.7, -0.4), (0.4, 1.0)),
        organs=(
            Organ("pad", "branch_tip", (1, 1), (0.10, 0.13), (0.5, 0.6), (0.0, 0.1), own_part=False),
            Organ("pad", "tip", (1, 1), (0.10, 0.13), (0.5, 0.6), (0.0, 0.1), own_part=True),
        ),
    ),
    Species(
        "aloe",
        organs=(
            Organ("cone", "pot", (12, 17), (0.28, 0.44), (0.085, 0.10), (0.10, 1.10), (-0.6, -0.4), 3, elastic=STIFF),
        ),
    ),
    Species(
        "fern",
        organs=(
            Organ(
                "frond",
                "pot",
                (8, 11),
                (0.45, 0.65),
                (0.28, 0.32),
                (0.15, 0.80),
                (0.7, 1.3),
                4,
                "lance",
                veins=(0.0, 0.0),
                elastic=LONG_LEAF,
            ),
        ),
    ),
    Species(
        "pothos",
        stems=Stems(
            (5, 7),
            (0.50, 0.80),
            (0.008, 0.006),
            6,
            (0.2, 0.6),
            curl=(1.2, 2.3),
            wiggle=0.1,
            spread=0.4,
            bark="green",
            elastic=BRANCH,
        ),
        organs=(
            Organ(
                "blade",
                "stem",
                (6, 7),
                (0.11, 0.16),
                (0.42, 0.50),
                (0.7, 1.0),
                outline="heart",
                stalk=(0.05, 0.05),
                variegation=0.6,
                own_part=False,
            ),
        ),
        held_out=True,
    ),
    Species(
        "maple",
        stems=Stems((1, 1), (0.42, 0.56), (0.022, 0.013), 4, (0.0, 0.08), 0.2),
        organs=(
            Organ(
                "blade",
                "stem",
                (12, 16),
                (0.16, 0.23),
                (0.50, 0.58),
                (0.5, 1.05),
                outline="lobed",
                stalk=(0.13, 0.22),
                stalk_radius=0.006,
                zone=(0.35, 1.0),
                elastic=BRANCH,
            ),
        ),
        held_out=True,
        autumn=0.5,
    ),
)

PLANTS = {species.name: species for species in SPECIES}
SEEN = tuple(species.name for species in SPECIES if not species.held_out)
UNSEEN = tuple(species.name for species in SPECIES if species.held_out)
HUMAN = "human"
