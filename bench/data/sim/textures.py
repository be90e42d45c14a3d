"""Procedural surfaces: colour as a function of the place on the surface, with exact arithmetic only.

Each texture returns linear RGB, float32 `[N, 3]`, from places in metres; a solid's texture is fixed to its
primitive, so it moves with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.data.sim.body import Material
from bench.data.sim.exact import cell_hash, noise, ramp, triangle

HEAD_AXES = (0.098, 0.080, 0.120)
"""Half axes of the head on which the face is drawn."""


@dataclass(frozen=True)
class Place:
    """N places on surfaces: local coordinates in metres, and position on a leaf (`along` 0..1, `across` -1..1)."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    along: np.ndarray
    across: np.ndarray


def solid_colour(material: Material, place: Place) -> np.ndarray:
    """Colour of an object's surface."""
    return _SOLIDS[material.kind](material, place)


def plane_colour(material: Material, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Colour of floor or wall at (u, v) metres."""
    grain = _grain(u, v, 6.0, material.seed) * np.float32(0.6) + _grain(u, v, 25.0, material.seed + 1) * np.float32(0.4)
    return _mix(material, np.clip(_PLANES[material.kind](material, u, v, grain), 0, 1))


def _mix(material: Material, weight: np.ndarray) -> np.ndarray:
    low, high = np.asarray(material.low, np.float32), np.asarray(material.high, np.float32)
    return low + (high - low) * weight[:, None].astype(np.float32)


def _over(colour: np.ndarray, accent: tuple[float, float, float] | np.ndarray, weight: np.ndarray) -> np.ndarray:
    w = weight[:, None].astype(np.float32)
    return colour * (1 - w) + np.asarray(accent, np.float32) * w


def _cloud(m: Material, p: Place, factor: float = 1.0, shift: int = 0) -> np.ndarray:
    k = np.float32(m.scale * factor)
    return noise(p.x * k, p.y * k, p.z * k, m.seed + shift)


def _grain(u: np.ndarray, v: np.ndarray, scale: float, seed: int) -> np.ndarray:
    k = np.float32(scale)
    return noise(u * k, v * k, np.zeros_like(u), seed)


# Objects


def _plain(m: Material, p: Place) -> np.ndarray:
    return _mix(m, 0.7 * _cloud(m, p))


def _speckle(m: Material, p: Place) -> np.ndarray:
    return _mix(m, 0.6 * _cloud(m, p) + 0.4 * _cloud(m, p, 2.7, 1))


def _bark(m: Material, p: Place) -> np.ndarray:
    k = np.float32(m.scale)
    streaks = noise(p.x * k * 1.6, p.y * k * 1.6, p.z * k * np.float32(0.5), m.seed)
    return _mix(m, 0.6 * streaks + 0.4 * _cloud(m, p, 3.0, 1))


def _rings(m: Material, p: Place) -> np.ndarray:
    return _mix(m, 0.8 * ramp(0.75, 0.95, triangle(p.z * np.float32(m.scale))) + 0.2 * _cloud(m, p, 2.0))


def _ribs(m: Material, p: Place) -> np.ndarray:
    turn = p.x / (np.abs(p.x) + np.abs(p.y) + np.float32(1e-6))
    return _mix(m, 0.8 * triangle(turn * np.float32(m.options["ribs"])) + 0.2 * _cloud(m, p, 2.0))


def _leaf(m: Material, p: Place) -> np.ndarray:
    o = m.options
    off = np.abs(p.across)
    cloud = _cloud(m, p)
    colour = _mix(m, 0.75 * cloud)
    vein = ramp(0.10, 0.03, off) * 0.85
    if o["veins"]:
        side = ramp(0.80, 0.97, triangle(np.float32(o["veins"]) * p.along - np.float32(o["slant"]) * off))
        vein = np.maximum(vein, 0.5 * side)
    colour = _over(colour, m.accent, vein)
    if o["rim"]:
        colour = _over(colour, m.accent, ramp(0.62, 0.78, off + 0.25 * (cloud - 0.5)) * o["rim"])
    if o["bands"]:
        colour = _over(colour, m.accent, ramp(0.45, 0.6, triangle(p.along * 7 + 0.5 * cloud)) * o["bands"])
    return colour


def _cloth(m: Material, p: Place) -> np.ndarray:
    k = np.float32(m.scale)
    pattern = m.options["pattern"]
    if pattern == "stripes":
        weight = ramp(0.44, 0.56, triangle(p.z * k))
    elif pattern == "bars":
        weight = ramp(0.44, 0.56, triangle(p.y * k))
    elif pattern == "plaid":
        weight = 0.5 * ramp(0.5, 0.6, triangle(p.z * k)) + 0.5 * ramp(0.5, 0.6, triangle(p.y * k))
    elif pattern == "dots":
        a, b = triangle(p.z * k) - 0.5, triangle(p.y * k) - 0.5
        weight = ramp(0.11, 0.06, a * a + b * b)
    else:
        weight = 0.35 * _cloud(m, p, 1.2)
    folds = noise(p.x * np.float32(18), p.y * np.float32(18), p.z * np.float32(7), m.seed + 3)
    return _mix(m, weight) * (0.74 + 0.42 * folds)[:, None].astype(np.float32)


def _head(m: Material, p: Place) -> np.ndarray:
    a, b, c = (np.float32(v) for v in HEAD_AXES)
    x, y, z = p.x / a, p.y / b, p.z / c
    skin = _mix(m, 0.3 * _cloud(m, p))
    cheek = ramp(0.45, 0.1, (np.abs(y) - 0.5) * (np.abs(y) - 0.5) + (z + 0.15) * (z + 0.15)) * (x > 0.3)
    skin = _over(skin, skin * np.array([1.06, 0.82, 0.78], np.float32), 0.5 * cheek)
    eye = (x > 0.5) & (np.abs(np.abs(y) - 0.38) < 0.14) & (np.abs(z - 0.10) < 0.085)
    brow = (x > 0.5) & (np.abs(np.abs(y) - 0.38) < 0.20) & (np.abs(z - 0.31) < 0.045)
    mouth = (x > 0.5) & (np.abs(y) < 0.30) & (np.abs(z + 0.45) < 0.06)
    strands = noise(p.x * np.float32(30), p.y * np.float32(90), p.z * np.float32(30), m.seed)
    hair = np.asarray(m.accent, np.float32) * (0.7 + 0.6 * strands)[:, None].astype(np.float32)
    covered = ((z > 0.48) | (x < -0.12) & (z > -0.75)) | ((x < 0.15) & (np.abs(y) > 0.75) & (z > -0.1))
    colour = _over(skin, (0.04, 0.03, 0.03), eye.astype(np.float32))
    colour = _over(colour, m.accent, 0.8 * brow.astype(np.float32))
    colour = _over(colour, (0.42, 0.10, 0.10), 0.85 * mouth.astype(np.float32))
    return np.where(covered[:, None], hair, colour).astype(np.float32)


_SOLIDS: dict[str, Callable[[Material, Place], np.ndarray]] = {
    "plain": _plain,
    "speckle": _speckle,
    "bark": _bark,
    "rings": _rings,
    "ribs": _ribs,
    "leaf": _leaf,
    "cloth": _cloth,
    "head": _head,
}


# Floors and walls: weights between the two colours


def _row_hash(rows: np.ndarray, columns: np.ndarray, seed: int) -> np.ndarray:
    return cell_hash(rows.astype(np.int64), columns.astype(np.int64), np.full(rows.shape, seed, np.int64))


def _checker(m: Material, u: np.ndarray, v: np.ndarray, grain: np.ndarray) -> np.ndarray:
    squares = np.floor(u * m.scale) + np.floor(v * m.scale)
    return (squares - 2 * np.floor(squares / 2)) * 0.8 + 0.2 * grain


def _planks(m: Material, u: np.ndarray, v: np.ndarray, grain: np.ndarray) -> np.ndarray:
    row = np.floor(u * m.scale)
    fibre = noise(u * m.scale * 6, v * 1.2 + row * 3.7, row, m.seed)
    weight = 0.55 * fibre + 0.3 * _row_hash(row, np.zeros_like(row), m.seed) + 0.15 * grain
    return np.where(triangle(u * m.scale + 0.5) > 0.94, weight * 0.35, weight)


def _tiles(m: Material, u: np.ndarray, v: np.ndarray, grain: np.ndarray) -> np.ndarray:
    joints = np.maximum(ramp(0.90, 0.96, triangle(u * m.scale)), ramp(0.90, 0.96, triangle(v * m.scale)))
    return 0.85 * joints + 0.25 * grain


def _brick(m: Material, u: np.ndarray, v: np.ndarray, grain: np.ndarray) -> np.ndarray:
    row = np.floor(v * m.scale)
    along = u * m.scale * 0.5 + 0.5 * (row - 2 * np.floor(row / 2))
    mortar = np.maximum(ramp(0.88, 0.95, triangle(along + 0.5)), ramp(0.80, 0.90, triangle(v * m.scale + 0.5))) * 0.9
    stone = 0.35 * _row_hash(row, np.floor(along), m.seed) + 0.2 * grain
    return np.where(mortar > 0.3, mortar, stone)


def _stripes(m: Material, u: np.ndarray, v: np.ndarray, grain: np.ndarray) -> np.ndarray:
    return ramp(0.4, 0.6, triangle(u * m.scale)) * 0.8 + 0.15 * grain


def _dots(m: Material, u: np.ndarray, v: np.ndarray, grain: np.ndarray) -> np.ndarray:
    a, b = triangle(u * m.scale) - 0.5, triangle(v * m.scale) - 0.5
    return ramp(0.12, 0.06, a * a + b * b) * 0.9 + 0.1 * grain


def _carpet(m: Material, u: np.ndarray, v: np.ndarray, grain: np.ndarray) -> np.ndarray:
    return 0.3 * grain + 0.7 * _grain(u, v, 60.0, m.seed + 5)


def _gradient(m: Material, u: np.ndarray, v: np.ndarray, grain: np.ndarray) -> np.ndarray:
    return 0.7 * np.clip(v * 0.5, 0, 1) + 0.2 * grain


def _clouds(m: Material, u: np.ndarray, v: np.ndarray, grain: np.ndarray) -> np.ndarray:
    return ramp(0.3, 0.75, 0.5 * _grain(u, v, 1.7, m.seed) + 0.3 * _grain(u, v, 4.0, m.seed + 1) + 0.2 * grain)


def _bare(m: Material, u: np.ndarray, v: np.ndarray, grain: np.ndarray) -> np.ndarray:
    return 0.4 * grain


_PLANES: dict[str, Callable[[Material, np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "checker": _checker,
    "planks": _planks,
    "tiles": _tiles,
    "brick": _brick,
    "stripes": _stripes,
    "dots": _dots,
    "carpet": _carpet,
    "gradient": _gradient,
    "clouds": _clouds,
    "plain": _bare,
}
