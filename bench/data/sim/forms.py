"""Polynomials in the grid coordinates (u, v) of rays: what the ray caster evaluates for many rays at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Candidates:
    """M rays that may meet the primitive of a pair: index of the pair, grid coordinates, and flat pixel index."""

    pair: np.ndarray
    u: np.ndarray
    v: np.ndarray
    pixel: np.ndarray

    def only(self, chosen: np.ndarray) -> Candidates:
        """The candidates at the indices `chosen`."""
        return Candidates(self.pair[chosen], self.u[chosen], self.v[chosen], self.pixel[chosen])


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Product of two forms (1, u, v) `[..., 3]` as a form (1, u, v, uu, uv, vv) `[..., 6]`."""
    a0, a1, a2 = a[..., 0], a[..., 1], a[..., 2]
    b0, b1, b2 = b[..., 0], b[..., 1], b[..., 2]
    return np.stack([a0 * b0, a0 * b1 + a1 * b0, a0 * b2 + a2 * b0, a1 * b1, a1 * b2 + a2 * b1, a2 * b2], -1)


def weighted_product(quadric_rows: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum over the axes of xx, yy, zz coefficients `quadric_rows [N, 5]` times forms `a`, `b` `[N, 3, 3]`: `[N, 6]`."""
    total = quadric_rows[:, 0, None] * product(a[:, 0], b[:, 0])
    for axis in (1, 2):
        total = total + quadric_rows[:, axis, None] * product(a[:, axis], b[:, axis])
    return total


def linear(form: np.ndarray, rays: Candidates) -> np.ndarray:
    """Forms (1, u, v) `[N, 3]` at the candidates."""
    return form[rays.pair, 0] + rays.u * form[rays.pair, 1] + rays.v * form[rays.pair, 2]


def quadratic(form: np.ndarray, rays: Candidates) -> np.ndarray:
    """Forms (1, u, v, uu, uv, vv) `[N, 6]` at the candidates."""
    k, n, u, v = np.ascontiguousarray(form.T), rays.pair, rays.u, rays.v
    return k[0][n] + u * (k[1][n] + u * k[3][n] + v * k[4][n]) + v * (k[2][n] + v * k[5][n])
