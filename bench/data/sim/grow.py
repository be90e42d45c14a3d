"""Grows a potted plant from the table of its species."""

from __future__ import annotations

import numpy as np

from bench.data.sim.assembly import Assembly
from bench.data.sim.body import Elastic, Joint
from bench.data.sim.exact import PI, Random, compose, cosine, rotation, sine
from bench.data.sim.foliage import GOLDEN_ANGLE, Foliage, Site, grow_chain
from bench.data.sim.palette import (
    bark_material,
    leaf_green,
    organ_material,
    pot_material,
    soil_material,
)
from bench.data.sim.species import PLANTS, Branches, Organ, Species, Stems

ROOT_BALL = Elastic(2.6, 0.3)
"""The soil gives a little, so stems that share a pot feel each other."""

Sites = dict[str, list[list[Site]]]
"""For each kind of place ("stem", "tip", "branch", "branch_tip"): what carries organs, as a row of sites each."""


def grow_plant(name: str, rng: Random) -> Assembly:
    """A plant of the species `name` in a pot that stands on the floor at the origin."""
    return _Grower(PLANTS[name], rng).assembly


class _Grower:
    def __init__(self, species: Species, rng: Random) -> None:
        self.rng, self.assembly = rng, Assembly()
        height, self.pot_radius = self._pot()
        joints = tuple(Joint(axis, ROOT_BALL) for axis in "xyz")
        self.root = self.assembly.body(0, (0.0, 0.0, height), joints=joints)
        self.green = leaf_green(rng, species.autumn)
        self.stalk = self.assembly.material(bark_material(rng, "green", self.green))
        sites: Sites = {"pot": [[Site(self.root, 0.0, "pot")]]}
        if species.stems:
            bark = self.assembly.material(bark_material(rng, species.stems.bark, self.green))
            sites |= self._stems(species.stems, bark)
            if species.branches:
                sites |= self._branches(species.branches, sites["stem"], bark)
        for organ in species.organs:
            self._organs(organ, sites[organ.at])

    def _pot(self) -> tuple[float, float]:
        """Height of the soil, and radius of the pot there."""
        rng, assembly = self.rng, self.assembly
        radius, height = rng.uniform(0.11, 0.155), rng.uniform(0.16, 0.23)
        top = radius * rng.uniform(1.05, 1.3)
        clay, soil = assembly.material(pot_material(rng)), assembly.material(soil_material(rng))
        part = assembly.part("pot")
        assembly.frustum(0, (radius, top), height, clay, part, density=0, cap=False)
        rim = (0.0, 0.0, height - 0.022)
        assembly.frustum(0, (top * 1.08, top * 1.08), 0.036, clay, part, offset=rim, density=0, cap=False)
        assembly.ellipsoid(0, (top * 1.05, top * 1.05, 0.02), soil, part, offset=(0, 0, height + 0.002), density=0)
        return height, top

    def _stems(self, stems: Stems, bark: int) -> Sites:
        rng = self.rng
        along, tips = [], []
        count = rng.integer(*stems.count)
        for k in range(count):
            azimuth = rng.uniform(0, 2 * PI) if count == 1 else k * GOLDEN_ANGLE + rng.spread(0.15)
            distance = 0.0 if count == 1 else stems.spread * self.pot_radius * rng.uniform(0.5, 1.0)
            chain = grow_chain(
                self.assembly,
                rng,
                Site(self.root, 0.0, f"stem{k}", (distance * cosine(azimuth), distance * sine(azimuth))),
                _up(azimuth, rng.within(stems.lean)),
                stems.segments,
                rng.within(stems.length),
                stems.radius,
                rng.spread(stems.bend) + rng.within(stems.curl),
                stems.elastic,
                bark,
                stems.wiggle,
            )
            along.append([Site(body, chain.step, f"stem{k}") for body in chain.bodies])
            tips.append(along[-1][-1:])
        return {"stem": along, "tip": tips}

    def _branches(self, branches: Branches, stems: list[list[Site]], bark: int) -> Sites:
        rng = self.rng
        along: list[list[Site]] = []
        turn = rng.uniform(0, 2 * PI)
        for stem in stems:
            count = rng.integer(*branches.count)
            for k in range(count):
                name = f"branch{len(along)}"
                place = _on(stem, branches.zone, k, count)
                chain = grow_chain(
                    self.assembly,
                    rng,
                    Site(place.body, place.height, name),
                    _up(turn + k * GOLDEN_ANGLE, rng.within(branches.tilt)),
                    branches.segments,
                    rng.within(branches.length),
                    branches.radius,
                    rng.within(branches.bend),
                    branches.elastic,
                    bark,
                )
                along.append([Site(body, chain.step, name) for body in chain.bodies])
        return {"branch": along, "branch_tip": [row[-1:] for row in along]}

    def _organs(self, organ: Organ, rows: list[list[Site]]) -> None:
        rng = self.rng
        material = self.assembly.material(organ_material(rng, organ, self.green))
        foliage = Foliage(self.assembly, rng, organ, material, self.stalk)
        number = 0
        start = rng.uniform(0, 2 * PI)
        for row in rows:
            count = rng.integer(*organ.count)
            for k in range(count):
                place = row[0] if len(row) == 1 else _on(row, organ.zone, k, count)
                tilt = organ.tilt[0] + (organ.tilt[1] - organ.tilt[0]) * (k + rng.uniform()) / count
                azimuth = start + k * GOLDEN_ANGLE + rng.spread(0.1)
                out = 0.45 * self.pot_radius * (k + 0.5) / count if organ.at == "pot" else 0.0
                name = f"{organ.kind}{number}" if organ.own_part else place.part
                offset = (out * cosine(azimuth), out * sine(azimuth))
                foliage.grow(Site(place.body, place.height, name, offset), _up(azimuth, tilt))
                number += 1


def _up(azimuth: float, tilt: float) -> np.ndarray:
    """Turns z away from the vertical by `tilt` towards `azimuth`."""
    return compose(rotation("z", azimuth), rotation("y", tilt))


def _on(row: list[Site], zone: tuple[float, float], k: int, count: int) -> Site:
    """The k-th of `count` places spread evenly over `zone` of a row of sites; the last is at its end."""
    along = zone[0] + (zone[1] - zone[0]) * (k + 1) / count
    position = min(along * len(row), len(row) - 1e-6)
    site = row[int(position)]
    return Site(site.body, site.height * (position - int(position)), site.part)
