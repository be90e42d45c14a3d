"""Leaves, flowers and cushions of foliage: how each organ of a species is built at its place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.data.sim.assembly import Assembly
from bench.data.sim.body import LEAF_ON_STEM, Elastic, Joint, Primitive, Shape
from bench.data.sim.exact import PI, Random, compose, cosine, rotation, sine
from bench.data.sim.palette import heart_material
from bench.data.sim.species import Organ

GOLDEN_ANGLE = 2.399963
LEAF_DENSITY = 300.0


@dataclass(frozen=True)
class Site:
    """Where something grows: at `height` along the z of `body`; `part` names what it belongs to."""

    body: int
    height: float
    part: str
    offset: tuple[float, float] = (0.0, 0.0)

    @property
    def place(self) -> tuple[float, float, float]:
        """In the frame of the body."""
        return (*self.offset, self.height)


@dataclass(frozen=True)
class Chain:
    """Elastic pieces in a row: their bodies, and the length of one."""

    bodies: tuple[int, ...]
    step: float


def both_ways(elastic: Elastic) -> tuple[Joint, ...]:
    """Joints that bend about x and y."""
    return Joint("x", elastic), Joint("y", elastic)


def grow_chain(
    assembly: Assembly,
    rng: Random,
    site: Site,
    first: np.ndarray,
    segments: int,
    length: float,
    radii: tuple[float, float],
    bend: float,
    elastic: Elastic,
    material: int,
    wiggle: float = 0.04,
) -> Chain:
    """A tapered stem of elastic segments that curls by `bend` radians in all; `first` turns it at its foot."""
    step = length / segments
    part = assembly.part(site.part)
    bodies: list[int] = []
    for i in range(segments):
        low, high = (radii[0] + (radii[1] - radii[0]) * k / segments for k in (i, i + 1))
        if i == 0:
            body = assembly.body(site.body, site.place, first, both_ways(elastic))
        else:
            crook = compose(rotation("y", bend / segments), rotation("x", rng.spread(wiggle)))
            body = assembly.body(bodies[-1], (0.0, 0.0, step), crook, both_ways(elastic))
        assembly.frustum(body, (low, high), step * 1.01, material, part)
        bodies.append(body)
    return Chain(tuple(bodies), step)


@dataclass(frozen=True)
class Foliage:
    """Builds organs.

    Attributes:
        material: of the organ's leaves.
        stalk: material of stalks and ribs.
    """

    assembly: Assembly
    rng: Random
    organ: Organ
    material: int
    stalk: int

    def grow(self, site: Site, first: np.ndarray) -> None:
        """One organ at `site`, turned by `first`."""
        {
            "strap": self._strap,
            "blade": self._blade,
            "cone": self._cone,
            "frond": self._frond,
            "flower": self._flower,
            "pad": self._pad,
        }[self.organ.kind](site, first)

    def _leaf(
        self,
        body: int,
        length: float,
        half_width: float,
        curve: tuple[float, float],
        part: int,
        *,
        frame: np.ndarray = LEAF_ON_STEM,
        height: float = 0.0,
        span: tuple[float, float] = (0.0, 1.0),
        outline: str = "",
        tint: float = 1.0,
    ) -> None:
        self.assembly.surface(
            Primitive(
                Shape.LEAF,
                body,
                frame,
                np.array([0.0, 0.0, height]),
                (length, half_width, *curve),
                self.material,
                part,
                span,
                outline or self.organ.outline,
                tint,
                self.organ.holes,
            ),
            LEAF_DENSITY,
        )

    def _chain(
        self, site: Site, first: np.ndarray, length: float, radii: tuple[float, float], material: int, wiggle: float
    ) -> Chain:
        bend = self.rng.within(self.organ.bend)
        organ = self.organ
        return grow_chain(
            self.assembly, self.rng, site, first, organ.segments, length, radii, bend, organ.elastic, material, wiggle
        )

    def _strap(self, site: Site, first: np.ndarray) -> None:
        organ, rng = self.organ, self.rng
        length, tint = rng.within(organ.length), rng.uniform(0.8, 1.2)
        half_width = length * rng.within(organ.width)
        angle = rng.within(organ.bend) / organ.segments
        step = length / organ.segments
        # A parabola with this curvature ends at the angle where the next patch begins, so the leaf has no kink.
        curvature = -sine(angle) / cosine(angle) / (2 * step)
        part, parent = self.assembly.part(site.part), site.body
        for i in range(organ.segments):
            place = site.place if i == 0 else (-curvature * step * step, 0.0, step)
            turned = first if i == 0 else rotation("y", angle)
            parent = self.assembly.body(parent, place, turned, both_ways(organ.elastic))
            span = (i / organ.segments, (i + 1) / organ.segments)
            self._leaf(parent, step * 1.02, half_width, (curvature, organ.cross_curve), part, span=span, tint=tint)

    def _blade(self, site: Site, first: np.ndarray) -> None:
        organ, rng = self.organ, self.rng
        radius = organ.stalk_radius
        chain = self._chain(site, first, rng.within(organ.stalk), (radius, radius * 0.7), self.stalk, 0.04)
        droop = rotation("y", rng.within(organ.droop))
        blade = self.assembly.body(chain.bodies[-1], (0, 0, chain.step), droop, both_ways(organ.elastic))
        length = rng.within(organ.length)
        curve = (-0.16 / length, organ.cross_curve * 0.35)
        part = self.assembly.part(site.part)
        self._leaf(blade, length, length * rng.within(organ.width), curve, part, tint=rng.uniform(0.8, 1.2))

    def _cone(self, site: Site, first: np.ndarray) -> None:
        length = self.rng.within(self.organ.length)
        radius = length * self.rng.within(self.organ.width)
        self._chain(site, first, length, (radius, 0.004), self.material, 0.02)

    def _frond(self, site: Site, first: np.ndarray) -> None:
        organ, rng = self.organ, self.rng
        length, tint = rng.within(organ.length), rng.uniform(0.85, 1.15)
        chain = self._chain(site, first, length, (0.006, 0.003), self.stalk, 0.02)
        longest = length * rng.within(organ.width)
        part = self.assembly.part(site.part)
        for i, body in enumerate(chain.bodies):
            for height in (0.25, 0.75):
                leaflet = longest * (1.05 - (i + height) / organ.segments)
                for side in (-1, 1):
                    frame = compose(rotation("x", side * 1.15), LEAF_ON_STEM)
                    self._leaf(
                        body, leaflet, 0.022, (-0.8, -1.0), part, frame=frame, height=height * chain.step, tint=tint
                    )

    def _flower(self, site: Site, first: np.ndarray) -> None:
        organ, rng = self.organ, self.rng
        daisy = organ.at == "tip"
        part = self.assembly.part(site.part)
        nod = compose(first, rotation("y", rng.within(organ.droop) if daisy else 0.0))
        body = self.assembly.body(site.body, site.place, nod, both_ways(organ.elastic))
        stalk, length = rng.within(organ.stalk), rng.within(organ.length)
        self.assembly.frustum(body, (0.005, 0.004), stalk, self.stalk, part, cap=False)
        petals = rng.integer(11, 15) if daisy else 5
        for k in range(petals):
            frame = compose(rotation("z", 2 * PI * k / petals), rotation("y", 1.35), LEAF_ON_STEM)
            half_width = length * rng.within(organ.width)
            tint = rng.uniform(0.88, 1.08)
            self._leaf(
                body, length, half_width, (-1.0, -2.0), part, frame=frame, height=stalk, outline="oval", tint=tint
            )
        button = length * (0.36 if daisy else 0.2)
        heart = self.assembly.material(heart_material(rng))
        self.assembly.ellipsoid(
            body, (button, button, button * 0.6), heart, part, offset=(0.0, 0.0, stalk), density=200
        )

    def _pad(self, site: Site, first: np.ndarray) -> None:
        organ, rng = self.organ, self.rng
        part = self.assembly.part(site.part)
        body = self.assembly.body(site.body, site.place, first, both_ways(organ.elastic))
        radius = rng.within(organ.length)
        spacing = (0.0, 0.33, 0.47, 0.57, 0.66, 0.74, 0.81)
        for k, out in enumerate(spacing):
            azimuth, lump = k * GOLDEN_ANGLE, radius * rng.uniform(0.5, 0.68)
            offset = (radius * out * cosine(azimuth), radius * out * sine(azimuth), rng.spread(0.1) * radius)
            self.assembly.ellipsoid(
                body,
                (lump, lump, lump * rng.within(organ.width)),
                self.material,
                part,
                offset=offset,
                density=80,
                tint=rng.uniform(0.8, 1.25),
            )
