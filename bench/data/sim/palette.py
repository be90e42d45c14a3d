"""Colours and materials of plants and pots."""

from __future__ import annotations

from bench.data.sim.body import Material
from bench.data.sim.exact import Random
from bench.data.sim.species import Organ

Colour = tuple[float, float, float]

GREENS: tuple[Colour, ...] = (
    (0.045, 0.17, 0.035),
    (0.09, 0.26, 0.045),
    (0.14, 0.31, 0.06),
    (0.06, 0.21, 0.11),
    (0.18, 0.28, 0.08),
    (0.07, 0.24, 0.06),
)
AUTUMN: Colour = (0.42, 0.09, 0.03)
BARKS: tuple[Colour, ...] = ((0.20, 0.12, 0.07), (0.30, 0.22, 0.15), (0.14, 0.10, 0.08), (0.33, 0.27, 0.19))
FLOWERS: tuple[Colour, ...] = (
    (0.80, 0.12, 0.40),
    (0.85, 0.80, 0.82),
    (0.90, 0.62, 0.10),
    (0.48, 0.15, 0.62),
    (0.82, 0.08, 0.07),
    (0.92, 0.42, 0.06),
)
POTS: tuple[Colour, ...] = (
    (0.50, 0.20, 0.10),
    (0.70, 0.67, 0.62),
    (0.08, 0.12, 0.28),
    (0.16, 0.16, 0.17),
    (0.50, 0.09, 0.09),
    (0.78, 0.56, 0.18),
    (0.12, 0.33, 0.30),
    (0.32, 0.32, 0.35),
)


def scaled(colour: Colour, factor: float) -> Colour:
    """A lighter or darker colour."""
    r, g, b = (min(v * factor, 0.95) for v in colour)
    return r, g, b


def mixed(one: Colour, other: Colour, weight: float) -> Colour:
    """`weight` of `other` in `one`."""
    r, g, b = (x + (y - x) * weight for x, y in zip(one, other, strict=True))
    return r, g, b


def varied(rng: Random, colour: Colour) -> Colour:
    """A colour near `colour`."""
    common = rng.uniform(0.8, 1.25)
    r, g, b = (min(v * common * rng.uniform(0.88, 1.14), 0.95) for v in colour)
    return r, g, b


def leaf_green(rng: Random, autumn: float) -> Colour:
    """The leaf colour of one plant, red with probability `autumn`."""
    return varied(rng, AUTUMN if rng.chance(autumn) else rng.choice(GREENS))


def pot_material(rng: Random) -> Material:
    """Clay: plain, glazed, ringed or dotted."""
    colour = rng.choice(POTS)
    pattern = rng.choice(("plain", "rings", "dots", "glazed"))
    two_tone = pattern in ("rings", "dots")
    return Material(
        {"rings": "rings", "dots": "cloth"}.get(pattern, "plain"),
        low=colour if two_tone else scaled(colour, 0.82),
        high=mixed(colour, (0.9, 0.88, 0.84), 0.5) if two_tone else scaled(colour, 1.1),
        scale=rng.uniform(8, 16) if two_tone else 18.0,
        seed=rng.integer(1, 999),
        gloss=0.35 if pattern == "glazed" else 0.12,
        options={"pattern": "dots"},
    )


def soil_material(rng: Random) -> Material:
    """Potting soil."""
    return Material("speckle", (0.02, 0.014, 0.010), (0.13, 0.085, 0.055), scale=55, seed=rng.integer(1, 999))


def bark_material(rng: Random, kind: str, green: Colour) -> Material:
    """Surface of stems: "wood", "green", "ringed" (a palm), "jointed" (bamboo) or "ribbed" (a cactus)."""
    if kind == "green":
        base = mixed(green, (0.25, 0.30, 0.12), 0.5)
        return Material("plain", scaled(base, 0.8), scaled(base, 1.2), scale=20)
    if kind == "ringed":
        base = varied(rng, (0.29, 0.21, 0.13))
        return Material("rings", base, scaled(base, 0.42), scale=rng.uniform(22, 32), gloss=0.05)
    if kind == "jointed":
        base = varied(rng, (0.30, 0.38, 0.12))
        return Material("rings", base, scaled(base, 0.42), scale=rng.uniform(8, 12), gloss=0.15)
    if kind == "ribbed":
        base = varied(rng, (0.11, 0.25, 0.10))
        return Material("ribs", scaled(base, 0.5), scaled(base, 1.35), options={"ribs": rng.uniform(3, 5)})
    base = varied(rng, rng.choice(BARKS))
    return Material("bark", scaled(base, 0.55), scaled(base, 1.4), scale=42)


def organ_material(rng: Random, organ: Organ, green: Colour) -> Material:
    """Surface of the leaves, petals or foliage of `organ`."""
    if organ.kind == "flower":
        petal = varied(rng, rng.choice(FLOWERS))
        return Material(
            "leaf",
            scaled(petal, 0.75),
            petal,
            mixed(petal, (1.0, 1.0, 1.0), 0.3),
            scale=20,
            seed=rng.integer(1, 999),
            translucency=0.5,
            options={"veins": 0.0, "rim": 0.0, "bands": 0.0, "slant": 0.9},
        )
    if organ.kind == "pad":
        return Material("speckle", scaled(green, 0.5), scaled(green, 1.5), scale=45, seed=rng.integer(1, 999))
    if organ.kind == "cone":
        base = mixed(green, (0.30, 0.38, 0.30), 0.6)
        return Material("speckle", scaled(base, 0.8), scaled(base, 1.15), seed=rng.integer(1, 999), gloss=0.2)
    light = rng.chance(organ.variegation)
    return Material(
        "leaf",
        low=scaled(green, 0.62),
        high=scaled(green, 1.25),
        accent=(0.62, 0.60, 0.28) if light else mixed(green, (0.75, 0.8, 0.45), 0.28),
        scale=rng.uniform(9, 22),
        seed=rng.integer(1, 999),
        gloss=rng.uniform(0.05, 0.3),
        translucency=0.45,
        options={
            "veins": rng.within(organ.veins),
            "rim": 0.9 if light else 0.0,
            "bands": organ.banded,
            "slant": 1.5 if organ.outline == "serrate" else 0.9,
        },
    )


def heart_material(rng: Random) -> Material:
    """The middle of a flower."""
    return Material("speckle", (0.12, 0.06, 0.02), (0.55, 0.34, 0.06), scale=140, seed=rng.integer(1, 999))
