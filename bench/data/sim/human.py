"""A clothed person: the body, its clothes, and poses for its joints. Forward is +x, left is +y, up is z; metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.data.sim.assembly import Assembly
from bench.data.sim.body import Anchor, Elastic, Joint, Material
from bench.data.sim.exact import PI, Random, compose, rotation, turn

ROOT = Elastic(0.9, 0.7)
SPINE = Elastic(1.2, 0.6)
ARM = Elastic(1.4, 0.45)
LEG = Elastic(1.2, 0.6)
HAND = Elastic(2.0, 0.4)

SKINS = ((0.72, 0.47, 0.34), (0.50, 0.30, 0.19), (0.26, 0.145, 0.085), (0.82, 0.60, 0.47), (0.41, 0.25, 0.16))
HAIR = (
    (0.04, 0.025, 0.02),
    (0.20, 0.11, 0.05),
    (0.44, 0.31, 0.14),
    (0.10, 0.10, 0.10),
    (0.36, 0.10, 0.04),
    (0.5, 0.5, 0.5),
)
SHIRT_PATTERNS = ("plain", "stripes", "bars", "plaid", "dots")

FOOT_DOWN = 0.052
"""Height of the ankle above the floor."""


@dataclass(frozen=True)
class Build:
    """Proportions of one person: factors on height and girth, and the clothes worn."""

    tall: float
    wide: float
    short_sleeves: bool
    shorts: bool
    skirt: bool
    long_hair: bool


def grow_human(rng: Random) -> Assembly:
    """A standing person with planted feet."""
    build = Build(
        tall=rng.uniform(0.93, 1.07),
        wide=rng.uniform(0.88, 1.18),
        short_sleeves=rng.chance(0.5),
        shorts=rng.chance(0.25),
        skirt=rng.chance(0.2),
        long_hair=rng.chance(0.4),
    )
    return _Sculptor(build, rng).assembly


class _Sculptor:
    def __init__(self, build: Build, rng: Random) -> None:
        self.build, self.rng = build, rng
        self.assembly = Assembly()
        self._wardrobe()
        chest = self._trunk()
        self._head(chest)
        for side, name in ((1, "left"), (-1, "right")):
            self._arm(chest, side, name)
            self._leg(side, name)
        self._stand()

    def _wardrobe(self) -> None:
        rng, add = self.rng, self.assembly.material
        skin = rng.choice(SKINS)
        self.skin = add(Material("plain", _shade(skin, 0.92), _shade(skin, 1.06), scale=14, gloss=0.06))
        self.face = add(
            Material(
                "head",
                _shade(skin, 0.95),
                _shade(skin, 1.05),
                rng.choice(HAIR),
                seed=rng.integer(1, 999),
                options={"long": self.build.long_hair},
            )
        )
        self.hair = add(
            Material(
                "speckle",
                _shade(self.assembly.materials[self.face].accent, 0.7),
                _shade(self.assembly.materials[self.face].accent, 1.3),
                scale=60,
            )
        )
        first, second = rng.colour(0.04, 0.75), rng.colour(0.04, 0.75)
        self.shirt = add(
            Material(
                "cloth",
                first,
                second,
                scale=rng.uniform(9, 17),
                seed=rng.integer(1, 999),
                options={"pattern": rng.choice(SHIRT_PATTERNS)},
            )
        )
        cloth = _shade(rng.colour(0.04, 0.6), 0.7)
        self.trousers = add(
            Material(
                "cloth", cloth, _shade(cloth, 1.35), scale=20, seed=rng.integer(1, 999), options={"pattern": "plain"}
            )
        )
        shoe = rng.colour(0.02, 0.5)
        self.shoes = add(Material("plain", _shade(shoe, 0.7), shoe, scale=20, gloss=0.15))

    def _trunk(self) -> int:
        rng, make, tall, wide = self.rng, self.assembly, self.build.tall, self.build.wide
        heading = PI + rng.uniform(-0.8, 0.8) + (PI if rng.chance(0.1) else 0.0)  # PI faces the camera
        tip, sway = (-0.10, 0.10), (-0.07, 0.07)
        slides = tuple(Joint(axis, ROOT, "slide") for axis in "xyz")
        self.pelvis = make.body(0, (0, 0, 0), rotation("z", heading), slides + _ball(ROOT))
        make.free(self.pelvis, sway, sway, (-0.09, 0.0), tip, tip, (-0.35, 0.35))
        part = make.part("hips")
        make.frustum(
            self.pelvis,
            (0.090 * wide, 0.098 * wide),
            0.15,
            self.trousers,
            part,
            aspect=1.45,
            offset=(0, 0, -0.06),
            density=900,
            cap=False,
        )
        make.ellipsoid(
            self.pelvis, (0.092 * wide, 0.132 * wide, 0.075), self.trousers, part, offset=(0, 0, -0.05), density=0
        )
        if self.build.skirt:
            make.frustum(
                self.pelvis,
                (0.20 * wide, 0.10 * wide),
                0.40,
                self.trousers,
                part,
                aspect=1.25,
                offset=(0, 0, -0.34),
                density=0,
                cap=False,
            )
        part = make.part("torso")
        waist = make.body(self.pelvis, (0, 0, 0.09), rotation("y", rng.spread(0.06)), _ball(SPINE))
        make.free(waist, (-0.15, 0.15), (-0.12, 0.22), (-0.25, 0.25))
        make.ellipsoid(waist, (0.098 * wide, 0.138 * wide, 0.06), self.shirt, part, density=0)
        make.frustum(
            waist, (0.096 * wide, 0.108 * wide), 0.16 * tall, self.shirt, part, aspect=1.42, density=800, cap=False
        )
        chest = make.body(waist, (0, 0, 0.16 * tall), rotation("x", rng.spread(0.05)), _ball(SPINE))
        make.free(chest, (-0.15, 0.15), (-0.10, 0.20), (-0.25, 0.25))
        make.ellipsoid(chest, (0.108 * wide, 0.153 * wide, 0.05), self.shirt, part, density=0)
        make.frustum(
            chest, (0.108 * wide, 0.112 * wide), 0.19 * tall, self.shirt, part, aspect=1.48, density=800, cap=False
        )
        make.ellipsoid(
            chest, (0.111 * wide, 0.172 * wide, 0.065), self.shirt, part, offset=(0, 0, 0.19 * tall), density=0
        )
        return chest

    def _head(self, chest: int) -> None:
        rng, make, tall = self.rng, self.assembly, self.build.tall
        part = make.part("head")
        neck = make.body(chest, (0, 0, 0.22 * tall), rotation("y", rng.spread(0.06)), _ball(Elastic(1.5, 0.5)))
        make.frustum(neck, (0.056, 0.048), 0.11, self.skin, part, density=800, cap=False)
        head = make.body(neck, (0, 0, 0.10), rotation("z", rng.spread(0.2)), _ball(Elastic(1.5, 0.5)))
        make.free(head, (-0.15, 0.15), (-0.2, 0.25), (-0.5, 0.5))
        make.ellipsoid(head, (0.098, 0.080, 0.120), self.face, part, offset=(0.012, 0, 0.10), density=800)
        make.ellipsoid(head, (0.016, 0.014, 0.02), self.skin, part, offset=(0.108, 0, 0.085), density=0)
        make.ellipsoid(head, (0.096, 0.087, 0.085), self.hair, part, offset=(-0.016, 0, 0.150), density=0)
        if self.build.long_hair:
            make.ellipsoid(head, (0.055, 0.085, 0.15), self.hair, part, offset=(-0.060, 0, 0.06), density=0)

    def _arm(self, chest: int, side: int, name: str) -> None:
        rng, make, tall, wide = self.rng, self.assembly, self.build.tall, self.build.wide
        raised, forward = rng.choice(((0.10, 0.45), (0.8, 1.5), (0.3, 1.1), (1.6, 2.4))), rng.spread(0.4)
        lift, elbow = rng.within(raised), rng.uniform(0.1, 1.4)
        rest = compose(rotation("x", side * lift), rotation("y", -forward), rotation("y", PI))
        upper = make.body(chest, (0, side * 0.172 * wide, 0.195 * tall), rest, _ball(ARM))
        make.free(upper, (-side * (0.08 - lift), -side * (2.4 - lift)), (forward - 1.1, forward + 0.4), (-0.4, 0.4))
        part = make.part(f"{name} upper arm")
        make.ellipsoid(upper, (0.058 * wide, 0.058 * wide, 0.058), self.shirt, part, density=0)
        make.frustum(upper, (0.054 * wide, 0.043 * wide), 0.28 * tall, self.shirt, part, density=900)
        bend = compose(rotation("z", rng.spread(0.3)), rotation("y", elbow))
        lower = make.body(
            upper, (0, 0, 0.28 * tall), bend, (Joint("y", Elastic(1.6, 0.4)), Joint("x", Elastic(2.8, 0.5)))
        )
        make.free(lower, (0.05 - elbow, 2.0 - elbow))
        part = make.part(f"{name} forearm")
        sleeve = self.skin if self.build.short_sleeves else self.shirt
        make.frustum(lower, (0.042 * wide, 0.029 * wide), 0.24 * tall, sleeve, part, density=900)
        hand = make.body(lower, (0, 0, 0.245 * tall), rotation("y", rng.spread(0.15)), _pair(HAND))
        make.free(hand, (-0.4, 0.4), (-0.4, 0.4))
        part = make.part(f"{name} hand")
        make.ellipsoid(hand, (0.020, 0.040, 0.052), self.skin, part, offset=(0, 0, 0.045), density=900)
        make.ellipsoid(hand, (0.017, 0.034, 0.048), self.skin, part, offset=(0, 0, 0.088), density=0)
        make.ellipsoid(hand, (0.014, 0.014, 0.034), self.skin, part, offset=(0.012, 0.036, 0.055), density=0)

    def _leg(self, side: int, name: str) -> None:
        rng, make, tall, wide = self.rng, self.assembly, self.build.tall, self.build.wide
        thigh, shin = 0.43 * tall, 0.43 * tall
        spread, stride, knee = rng.uniform(0.05, 0.24), rng.spread(0.16), abs(rng.spread(0.18)) + 0.08
        rest = compose(rotation("x", side * spread), rotation("y", -stride - knee / 2), rotation("y", PI))
        upper = make.body(self.pelvis, (0, side * 0.088 * wide, -0.05), rest, _ball(LEG))
        part = make.part(f"{name} thigh")
        cover = self.skin if self.build.skirt else self.trousers
        make.ellipsoid(upper, (0.086 * wide, 0.080 * wide, 0.08), cover, part, density=0)
        make.frustum(upper, (0.084 * wide, 0.058 * wide), thigh, cover, part, density=900)
        lower = make.body(upper, (0, 0, thigh), rotation("y", knee), (Joint("y", LEG),))
        part = make.part(f"{name} shin")
        bare = self.build.shorts or self.build.skirt
        make.frustum(lower, (0.056 * wide, 0.038 * wide), shin, self.skin if bare else self.trousers, part, density=900)
        level = compose(_inverse(rotation("y", -stride + knee / 2 + PI)), rotation("x", -side * spread))
        foot = make.body(lower, (0, 0, shin), level, _pair(Elastic(1.5, 0.6)))
        part = make.part(f"{name} foot")
        make.ellipsoid(foot, (0.120, 0.046, 0.042), self.shoes, part, offset=(0.05, 0, -0.010), density=900)
        make.ellipsoid(foot, (0.048, 0.044, 0.055), self.shoes, part, offset=(-0.01, 0, 0.005), density=0)
        make.anchors += [Anchor(foot, (-0.04, 0.0, 0.0)), Anchor(foot, (0.12, 0.0, 0.0))]

    def _stand(self) -> None:
        """Lifts the person so that the lower foot is on the floor."""
        make = self.assembly
        position, orientation = (value[0] for value in make.rest_pose())
        lowest = min(float((position[a.body] + turn(orientation[a.body], np.array(a.point)))[2]) for a in make.anchors)
        make.bodies[self.pelvis].offset = make.bodies[self.pelvis].offset + np.array([0, 0, FOOT_DOWN - lowest])


def _ball(elastic: Elastic) -> tuple[Joint, ...]:
    turning = Elastic(elastic.frequency * 1.3, elastic.damping)
    return Joint("x", elastic), Joint("y", elastic), Joint("z", turning)


def _pair(elastic: Elastic) -> tuple[Joint, ...]:
    return Joint("x", elastic), Joint("y", elastic)


def _inverse(matrix: np.ndarray) -> np.ndarray:
    return matrix.T.copy()


def _shade(colour: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    r, g, b = (min(v * factor, 0.95) for v in colour)
    return r, g, b
