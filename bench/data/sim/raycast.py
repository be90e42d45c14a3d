"""Casts grids of rays at all primitives in all frames at once. Only + - * / and square roots touch a ray."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.data.sim.body import OUTLINES, STATIC, Primitive, Shape
from bench.data.sim.exact import compose, dot
from bench.data.sim.forms import Candidates, linear, product, quadratic, weighted_product
from bench.data.sim.outlines import in_hole, outline_width
from bench.data.sim.scene import Camera, Pose, primitive_corners, primitive_frames

CHUNK = 1 << 16
"""Rays tested at once; the working set then fits a second-level cache."""
NEAREST = 1e-4
NOTHING = -1
"""Id of a ray that meets no primitive."""


@dataclass(frozen=True)
class Rays:
    """A square grid of rays: ray (i, j) starts at `start . (1, u[j], v[i])` along `along . (1, u[j], v[i])`.

    Attributes:
        start, along: `[3, 3]`; columns are the constant, the change with u and the change with v.
        u, v: `[side]`.
        perspective: True when all rays share their start, False when they share their direction.
    """

    start: np.ndarray
    along: np.ndarray
    u: np.ndarray
    v: np.ndarray
    perspective: bool

    @property
    def side(self) -> int:
        """Rays in a row."""
        return len(self.u)


@dataclass(frozen=True)
class Hits:
    """What the rays meet first: ray parameter `depth [F, S, S]` and `primitive`; infinite and -1 where nothing is."""

    depth: np.ndarray
    primitive: np.ndarray


def camera_rays(camera: Camera, side: int) -> Rays:
    """Rays through the centres of `side` x `side` pixels; their parameter is the depth along the view."""
    at = ((np.arange(side) + 0.5) / side * 2 - 1) * camera.tangent
    zero = np.zeros(3)
    start = np.stack([camera.position, zero, zero], -1)
    return Rays(start, np.stack([camera.forward, camera.right, -camera.up], -1), at, at, True)


def cast(primitives: tuple[Primitive, ...], pose: Pose, rays: Rays) -> Hits:
    """First hits of `rays` on the primitives at each frame of `pose`; static primitives are cast once."""
    side, frames = rays.side, len(pose)
    table = _Table(primitives, pose, rays)
    still = np.array([p.body == STATIC for p in primitives])
    depth = np.full((1, side, side), np.inf)
    found = np.full((1, side, side), NOTHING, np.int16)
    table.cast(np.flatnonzero(still), 1, depth.reshape(-1), found.reshape(-1))
    depth, found = np.repeat(depth, frames, 0), np.repeat(found, frames, 0)
    table.cast(np.flatnonzero(~still), frames, depth.reshape(-1), found.reshape(-1))
    return Hits(depth, found)


@dataclass(frozen=True)
class _Forms:
    """The equation a t^2 + 2 b t + c = 0 of N pairs (frame, primitive), as polynomials in the grid coordinates u, v.

    Attributes:
        which: `[N]`: the primitive of each pair.
        origin, step: `[N, 3, 3]`: a ray's start and direction in the primitive's frame, forms (1, u, v) per axis.
        a, c: `[N, 6]`; b: `[N, 3]`; discriminant: `[N, 6]`.
    """

    which: np.ndarray
    origin: np.ndarray
    step: np.ndarray
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    discriminant: np.ndarray


class _Table:
    """All primitives in all frames as the rays of one grid see them."""

    def __init__(self, primitives: tuple[Primitive, ...], pose: Pose, rays: Rays) -> None:
        self.rays = rays
        self.shape = np.array([p.shape for p in primitives])
        self.size = np.array([p.size for p in primitives])
        rotations, origins = primitive_frames(primitives, pose)
        self.inverse = np.swapaxes(rotations, -1, -2)
        self.origins = origins
        self.boxes = _boxes(rays, primitive_corners(primitives, pose))
        self.quadric = np.array([quadric(p) for p in primitives])
        self.span = np.array([p.span for p in primitives])
        self.outline = np.array([OUTLINES.index(p.outline) for p in primitives])
        self.holes = np.array([p.holes for p in primitives])

    def cast(self, chosen: np.ndarray, frames: int, depth: np.ndarray, found: np.ndarray) -> None:
        """Lowers `depth` and sets `found` (flat, F x S x S) where a chosen primitive is nearer."""
        for shape in Shape:
            members = chosen[self.shape[chosen] == shape]
            frame, which = (a.reshape(-1) for a in np.meshgrid(np.arange(frames), members, indexing="ij"))
            left, top, right, bottom = self.boxes[frame, which].T
            area = np.maximum(right - left, 0) * np.maximum(bottom - top, 0)
            some = np.flatnonzero(area)
            frame, which, area = frame[some], which[some], area[some]
            ends = np.cumsum(area)
            start = 0
            while start < len(area):
                base = ends[start - 1] if start else 0
                stop = max(int(np.searchsorted(ends, base + CHUNK, "right")), start + 1)
                self._nearest(shape, frame[start:stop], which[start:stop], depth, found)
                start = stop

    def _nearest(
        self, shape: Shape, frame: np.ndarray, which: np.ndarray, depth: np.ndarray, found: np.ndarray
    ) -> None:
        """Does what `cast` says for the pairs (frame, which), primitives of one shape."""
        forms = self._forms(frame, which)
        rays = self._candidates(frame, which)
        value = quadratic(forms.discriminant, rays)
        met = np.flatnonzero(value > 0)
        rays = rays.only(met)
        near, far = self._roots(forms, rays, np.sqrt(value[met]))
        if shape is Shape.ELLIPSOID:
            tried: tuple[np.ndarray, ...] = (np.where(near > NEAREST, near, far),)
        else:
            tried = (near, far)
        for t in tried:
            with np.errstate(invalid="ignore", over="ignore"):
                inside = (t > NEAREST) & (t < depth[rays.pixel])
                if shape is Shape.FRUSTUM:
                    inside &= self._within_length(forms, rays, t)
                elif shape is Shape.LEAF:
                    inside &= self._within_leaf(forms, rays, t)
            hit = np.flatnonzero(inside)
            pixel, distance = rays.pixel[hit], t[hit]
            np.minimum.at(depth, pixel, distance)
            winner = np.flatnonzero(distance == depth[pixel])
            found[pixel[winner]] = which[rays.pair[hit[winner]]]

    def _forms(self, frame: np.ndarray, which: np.ndarray) -> _Forms:
        rays, inverse = self.rays, self.inverse[frame, which]
        zero = np.zeros((len(frame), 3))
        o = compose(inverse, rays.start[None] - np.stack([self.origins[frame, which], zero, zero], -1))
        d = compose(inverse, rays.along[None])
        q = self.quadric[which]
        slope, constant = q[:, 3, None], q[:, 4]
        a, b, c = weighted_product(q, d, d), weighted_product(q, o, d)[:, :3], weighted_product(q, o, o)
        b = b + 0.5 * slope * d[:, 2]
        c[:, :3] += slope * o[:, 2]
        c[:, 0] += constant
        crossed = a * c[:, :1] if rays.perspective else c * a[:, :1]
        return _Forms(which, o, d, a, b, c, product(b, b) - crossed)

    def _candidates(self, frame: np.ndarray, which: np.ndarray) -> Candidates:
        """All rays in the rectangles of the pairs."""
        left, top, right, bottom = self.boxes[frame, which].astype(np.int32).T
        wide = right - left
        area = wide * (bottom - top)
        pair = np.repeat(np.arange(len(area), dtype=np.int32), area)
        within = np.arange(len(pair), dtype=np.int32) - (np.cumsum(area, dtype=np.int32) - area)[pair]
        row = within // wide[pair]
        x, y = within - row * wide[pair] + left[pair], row + top[pair]
        side = self.rays.side
        return Candidates(pair, self.rays.u[x], self.rays.v[y], (frame[pair] * side + y) * side + x)

    def _roots(self, forms: _Forms, rays: Candidates, root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both solutions, smaller first, without cancellation; `root` is that of the discriminant."""
        b = linear(forms.b, rays)
        if self.rays.perspective:
            a, c = quadratic(forms.a, rays), forms.c[rays.pair, 0]
        else:
            a, c = forms.a[rays.pair, 0], quadratic(forms.c, rays)
        stable = -(b + np.where(b >= 0, root, -root))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            one, other = stable / a, c / stable
        return np.minimum(one, other), np.maximum(one, other)

    def _local(self, forms: _Forms, rays: Candidates, axis: int, t: np.ndarray) -> np.ndarray:
        """A coordinate of the points at `t` in the frames of their primitives."""
        if self.rays.perspective:
            return forms.origin[rays.pair, axis, 0] + t * linear(forms.step[:, axis], rays)
        return linear(forms.origin[:, axis], rays) + t * forms.step[rays.pair, axis, 0]

    def _within_length(self, forms: _Forms, rays: Candidates, t: np.ndarray) -> np.ndarray:
        z = self._local(forms, rays, 2, t)
        return (z >= 0) & (z <= self.size[forms.which[rays.pair], 2])

    def _within_leaf(self, forms: _Forms, rays: Candidates, t: np.ndarray) -> np.ndarray:
        x = self._local(forms, rays, 0, t)
        inside = (x >= 0) & (x <= self.size[forms.which[rays.pair], 0])
        k = np.flatnonzero(inside)
        rays, x, t = rays.only(k), x[k], t[k]
        n = forms.which[rays.pair]
        span, size = self.span[n], self.size[n]
        along = span[:, 0] + (span[:, 1] - span[:, 0]) * (x / size[:, 0])
        half = size[:, 1] * outline_width(self.outline[n], along)
        across = np.abs(self._local(forms, rays, 1, t))
        solid = across <= half
        if self.holes[forms.which].any():
            solid &= ~(self.holes[n] & in_hole(along, across / np.maximum(half, 1e-9)))
        inside[k] = solid
        return inside


def _boxes(rays: Rays, corners: np.ndarray) -> np.ndarray:
    """Rectangles `[F, P, 4]` (left, top, right, bottom; ends excluded) of rays that hold boxes `[F, P, 8, 3]`."""
    side = rays.side
    step = rays.u[1] - rays.u[0]
    if rays.perspective:
        seen = corners - rays.start[:, 0]
        depth = np.maximum(dot(seen, rays.along[:, 0]), 1e-6)
        u, v = dot(seen, rays.along[:, 1]) / depth, dot(seen, rays.along[:, 2]) / depth
    else:
        seen = corners - rays.start[:, 0]
        u, v = dot(seen, rays.start[:, 1]), dot(seen, rays.start[:, 2])
    columns, rows = (u - rays.u[0]) / step, (v - rays.v[0]) / step
    edges = [np.floor(columns.min(-1)), np.floor(rows.min(-1)), np.ceil(columns.max(-1)) + 1, np.ceil(rows.max(-1)) + 1]
    return np.clip(np.stack(edges, -1), 0, side).astype(np.int64)


def quadric(p: Primitive) -> tuple[float, float, float, float, float]:
    """Coefficients (xx, yy, zz, z, 1) of the surface in its own frame."""
    a, b, c, d = p.size
    if p.shape is Shape.ELLIPSOID:
        return 1 / (a * a), 1 / (b * b), 1 / (c * c), 0.0, -1.0
    if p.shape is Shape.FRUSTUM:
        slope = (b - a) / c
        return 1.0, 1 / (d * d), -slope * slope, -2 * a * slope, -a * a
    return c, d, 0.0, -1.0, 0.0
