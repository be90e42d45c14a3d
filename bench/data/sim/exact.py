"""Arithmetic with one result on every machine.

Scenes and pixels are made with + - * / and square roots alone, which IEEE 754 rounds in one way, and with
integer hashing. Library sines, exponentials, matrix products and random distributions differ in the last bit
between CPUs and versions, so they are not used. What comes out of the physics engine is rounded to a grid
that hides such differences.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

QUANTUM = 2.0**-24
"""Grid on which numbers lie when they pass from scene to physics and from physics to renderer (metres, newtons)."""

PI = 3.141592653589793
LATTICE_SIDE = 32

T = TypeVar("T")


def quantise(values: np.ndarray | Sequence[float] | float) -> np.ndarray:
    """`values` rounded to multiples of 2^-24, float64."""
    return np.round(np.asarray(values, np.float64) / QUANTUM) * QUANTUM


def sine(angle: float) -> float:
    """Sine of an angle in radians, by its Taylor series after reduction to [-pi, pi]."""
    angle -= 2 * PI * round(angle / (2 * PI))
    term = total = angle
    for k in range(1, 13):
        term *= -angle * angle / ((2 * k) * (2 * k + 1))
        total += term
    return total


def cosine(angle: float) -> float:
    """Cosine of an angle in radians."""
    return sine(angle + PI / 2)


def rotation(axis: str, angle: float) -> np.ndarray:
    """The 3 x 3 matrix that turns by `angle` radians about the axis "x", "y" or "z"."""
    s, c = sine(angle), cosine(angle)
    if axis == "x":
        return np.array([[1.0, 0, 0], [0, c, -s], [0, s, c]])
    if axis == "y":
        return np.array([[c, 0, s], [0, 1.0, 0], [-s, 0, c]])
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def compose(*matrices: np.ndarray) -> np.ndarray:
    """Product of rotation matrices `[..., 3, 3]`, left to right, without BLAS."""
    product = matrices[0]
    for m in matrices[1:]:
        product = (
            product[..., :, 0:1] * m[..., 0:1, :]
            + product[..., :, 1:2] * m[..., 1:2, :]
            + product[..., :, 2:3] * m[..., 2:3, :]
        )
    return product


def turn(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """`matrix [..., 3, 3]` times `vector [..., 3]`, with broadcasting and without BLAS."""
    return (
        matrix[..., :, 0] * vector[..., 0:1]
        + matrix[..., :, 1] * vector[..., 1:2]
        + matrix[..., :, 2] * vector[..., 2:3]
    )


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Scalar product over a last axis of three."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Vector product of two vectors of three."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]], np.float64)


def unit(vector: np.ndarray) -> np.ndarray:
    """`vector [..., 3]` at length one."""
    return vector / np.sqrt(dot(vector, vector))[..., None]


def direction(azimuth: float, elevation: float) -> np.ndarray:
    """Unit vector seen from the object: azimuth 0 points to the camera side (-x), elevation is up from the floor."""
    flat = cosine(elevation)
    return np.array([-cosine(azimuth) * flat, sine(azimuth) * flat, sine(elevation)])


def ramp(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """Smooth step: 0 at `low`, 1 at `high`, either order, with zero slope at both ends."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def triangle(x: np.ndarray) -> np.ndarray:
    """Triangle wave of period 1 in [0, 1]; 0 at the integers."""
    return 1 - np.abs(2 * (x - np.floor(x)) - 1)


def cell_hash(ix: np.ndarray, iy: np.ndarray, iz: np.ndarray) -> np.ndarray:
    """A random-looking float32 in [0, 1] for each integer cell."""
    h = (
        ix.astype(np.uint32) * np.uint32(0x85EBCA6B)
        + iy.astype(np.uint32) * np.uint32(0xC2B2AE35)
        + iz.astype(np.uint32) * np.uint32(0x27D4EB2F)
        + np.uint32(0x165667B1)
    )
    h = (h ^ (h >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
    h = (h ^ (h >> np.uint32(12))) * np.uint32(0x297A2D39)
    h = h ^ (h >> np.uint32(15))
    return (h >> np.uint32(8)).astype(np.float32) * np.float32(1 / (2**24 - 1))


def _lattice() -> np.ndarray:
    side = np.arange(LATTICE_SIDE)
    x, y, z = np.meshgrid(side, side, side, indexing="ij")
    return cell_hash(x, y, z).reshape(-1)


_LATTICE = _lattice()


def noise(x: np.ndarray, y: np.ndarray, z: np.ndarray, seed: int) -> np.ndarray:
    """Value noise in [0, 1] with features of size 1, float32 of the common shape; it repeats every 32 units."""
    mask = LATTICE_SIDE - 1
    corners, weights = [], []
    for axis, (values, shift) in enumerate(((x, 7), (y, 11), (z, 13))):
        floor = np.floor(values)
        part = (values - floor).astype(np.float32)
        stride = LATTICE_SIDE ** (2 - axis)
        cell = floor.astype(np.int64) + seed * shift
        corners.append(((cell & mask) * stride, ((cell + 1) & mask) * stride))
        weights.append(part * part * (3 - 2 * part))
    u, v, w = weights
    xs, ys, zs = corners

    def along_z(base: np.ndarray) -> np.ndarray:
        low, high = _LATTICE[base + zs[0]], _LATTICE[base + zs[1]]
        return low + (high - low) * w

    def along_y(base: np.ndarray) -> np.ndarray:
        low, high = along_z(base + ys[0]), along_z(base + ys[1])
        return low + (high - low) * v

    low, high = along_y(xs[0]), along_y(xs[1])
    return low + (high - low) * u


class Random:
    """Random numbers that depend on the key alone: the same in every version of Python and numpy."""

    def __init__(self, *key: str | int) -> None:
        digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
        self._source = random.Random(int.from_bytes(digest, "little"))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Uniform on [low, high)."""
        return low + (high - low) * self._source.random()

    def within(self, limits: tuple[float, float]) -> float:
        """Uniform between two limits."""
        return self.uniform(*limits)

    def integer(self, low: int, high: int) -> int:
        """Uniform on the integers low..high, both included."""
        return low + int(self._source.random() * (high - low + 1))

    def choice(self, options: Sequence[T]) -> T:
        """One of `options`."""
        return options[self.integer(0, len(options) - 1)]

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self._source.random() < probability

    def spread(self, scale: float = 1.0) -> float:
        """Bell-shaped with standard deviation `scale`, at most 3 scales from 0 (a sum of three uniforms)."""
        return 2 * scale * (self.uniform() + self.uniform() + self.uniform() - 1.5)

    def colour(self, low: float, high: float) -> tuple[float, float, float]:
        """Three channel values between `low` and `high`, half of whose variation is common."""
        common = self.uniform(low, high)
        r, g, b = (0.5 * common + 0.5 * self.uniform(low, high) for _ in range(3))
        return r, g, b
