"""An object under construction: bodies, what is seen of them, and the joints between them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bench.data.sim.body import (
    IDENTITY,
    STATIC,
    Anchor,
    Body,
    Freedom,
    Joint,
    Material,
    Primitive,
    Shape,
    Solid,
)
from bench.data.sim.exact import compose, quantise, turn

LEAF_HALF_THICKNESS = 0.006
"""Half thickness in metres that gives leaves their mass."""


class Assembly:
    """An object under construction. Body 0 is the static one."""

    def __init__(self) -> None:
        self.bodies = [Body(-1, np.zeros(3), IDENTITY)]
        self.primitives: list[Primitive] = []
        self.materials: list[Material] = []
        self.parts = ["background"]
        self.anchors: list[Anchor] = []
        self.freedoms: list[Freedom] = []

    def part(self, name: str) -> int:
        """Id of the part called `name`; made if new."""
        if name not in self.parts:
            self.parts.append(name)
        return self.parts.index(name)

    def free(self, body: int, *limits: tuple[float, float]) -> None:
        """Lets the joints of `body`, in order, be moved at will within `limits`, the smaller first or second."""
        for joint, (one, other) in enumerate(limits):
            self.freedoms.append(Freedom(body, joint, min(one, other), max(one, other)))

    def material(self, material: Material) -> int:
        """Index of a new material."""
        self.materials.append(material)
        return len(self.materials) - 1

    def body(
        self,
        parent: int,
        offset: tuple[float, float, float],
        rotation: np.ndarray = IDENTITY,
        joints: tuple[Joint, ...] = (),
    ) -> int:
        """Index of a new body."""
        self.bodies.append(Body(parent, quantise(offset), quantise(rotation), joints))
        return len(self.bodies) - 1

    def surface(self, primitive: Primitive, density: float = 0.0) -> None:
        """Adds a primitive, with mass where `density` is above 0."""
        a, b, c, d = (float(v) for v in quantise(primitive.size))
        fixed = replace(
            primitive,
            rotation=quantise(primitive.rotation),
            offset=quantise(primitive.offset),
            size=(a, b, c, d),
        )
        self.primitives.append(fixed)
        if density:
            self.bodies[primitive.body].solids.append(_solid(fixed, density))

    def frustum(
        self,
        body: int,
        radii: tuple[float, float],
        length: float,
        material: int,
        part: int,
        *,
        aspect: float = 1.0,
        offset: tuple[float, float, float] = (0.0, 0.0, 0.0),
        rotation: np.ndarray = IDENTITY,
        density: float = 600.0,
        cap: bool = True,
        tint: float = 1.0,
    ) -> None:
        """A tapered limb along z; `cap` rounds its end, so that bent chains show no gap."""
        place = np.asarray(offset, np.float64)
        self.surface(
            Primitive(Shape.FRUSTUM, body, rotation, place, (*radii, length, aspect), material, part, tint=tint),
            density,
        )
        if cap:
            end = radii[1]
            self.surface(
                Primitive(
                    Shape.ELLIPSOID,
                    body,
                    rotation,
                    place + rotation[:, 2] * length,
                    (end, end * aspect, end, 0.0),
                    material,
                    part,
                    tint=tint,
                )
            )

    def ellipsoid(
        self,
        body: int,
        axes: tuple[float, float, float],
        material: int,
        part: int,
        *,
        offset: tuple[float, float, float] = (0.0, 0.0, 0.0),
        rotation: np.ndarray = IDENTITY,
        density: float = 600.0,
        tint: float = 1.0,
    ) -> None:
        """A rounded lump with half axes `axes`."""
        place = np.asarray(offset, np.float64)
        self.surface(
            Primitive(Shape.ELLIPSOID, body, rotation, place, (*axes, 0.0), material, part, tint=tint),
            density,
        )

    def sort_bodies(self) -> None:
        """Numbers the bodies depth first, each before its children: the order in which MuJoCo numbers them."""
        children: dict[int, list[int]] = {}
        for index, body in enumerate(self.bodies):
            children.setdefault(body.parent, []).append(index)
        order: list[int] = []
        waiting = [STATIC]
        while waiting:
            index = waiting.pop()
            order.append(index)
            waiting += reversed(children.get(index, []))
        number = {old: new for new, old in enumerate(order)}
        number[-1] = -1
        self.bodies = [replace(self.bodies[old], parent=number[self.bodies[old].parent]) for old in order]
        self.primitives = [replace(p, body=number[p.body]) for p in self.primitives]
        self.anchors = [replace(a, body=number[a.body]) for a in self.anchors]
        self.freedoms = [replace(f, body=number[f.body]) for f in self.freedoms]

    def rest_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """World positions `[1, B, 3]` and rotations `[1, B, 3, 3]` of the bodies at rest, quantised."""
        positions, rotations = [], []
        for body in self.bodies:
            if body.parent < 0:
                positions.append(body.offset)
                rotations.append(body.rotation)
                continue
            above = rotations[body.parent]
            positions.append(positions[body.parent] + turn(above, body.offset))
            rotations.append(compose(above, body.rotation))
        return quantise(np.stack(positions))[None], quantise(np.stack(rotations))[None]


def _solid(p: Primitive, density: float) -> Solid:
    if p.shape is Shape.ELLIPSOID:
        return Solid("ellipsoid", p.size[:3], p.offset, p.rotation, density)
    if p.shape is Shape.FRUSTUM:
        first, last, length, _ = p.size
        middle = quantise(p.offset + p.rotation[:, 2] * (length / 2))
        return Solid("capsule", (0.5 * (first + last), length / 2), middle, p.rotation, density)
    length, half_width = p.size[:2]
    middle = quantise(p.offset + p.rotation[:, 0] * (length / 2))
    return Solid("ellipsoid", (length / 2, half_width, LEAF_HALF_THICKNESS), middle, p.rotation, density)
