"""What an object is made of: bodies joined by elastic joints, and the visible primitives fixed to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np

IDENTITY = np.eye(3)
STATIC = 0
"""Index of the body that never moves: the room and the pot."""

LEAF_ON_STEM = np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])
"""Frame of a leaf that continues a stem: its length along the body's z, its upper side towards -x (inwards and up)."""


class Shape(IntEnum):
    """The three kinds of surface; all are quadrics in their own frame."""

    ELLIPSOID = 0
    """size = half axes (a, b, c)."""
    FRUSTUM = 1
    """Open cone frustum along z from 0 to length: size = (radius at 0, radius at length, length, aspect);
    its y half axis is aspect times the radius."""
    LEAF = 2
    """The sheet z = p x^2 + q y^2 for 0 <= x <= length and |y| <= half width times outline:
    size = (length, half width, p, q)."""


OUTLINES = ("oval", "ovate", "lance", "strap", "heart", "serrate", "blade", "lobed", "plain")
"""Names of the leaf outlines; `render.outline_table` draws them."""


@dataclass(frozen=True)
class Elastic:
    """How stiff a joint is: the natural frequency in Hz of what hangs on it, and its damping ratio."""

    frequency: float
    damping: float


@dataclass(frozen=True)
class Joint:
    """One degree of freedom: "hinge" or "slide" along the body's axis "x", "y" or "z"."""

    axis: str
    elastic: Elastic
    kind: str = "hinge"


@dataclass(frozen=True)
class Solid:
    """Mass of a body: an ellipsoid or a capsule along z, in the body's frame, kg/m^3."""

    shape: str
    size: tuple[float, ...]
    offset: np.ndarray
    rotation: np.ndarray
    density: float


@dataclass
class Body:
    """A rigid piece. `offset` and `rotation` are relative to its parent at rest."""

    parent: int
    offset: np.ndarray
    rotation: np.ndarray
    joints: tuple[Joint, ...] = ()
    solids: list[Solid] = field(default_factory=list)


@dataclass(frozen=True)
class Material:
    """A surface; `textures` knows the kinds. Colours are linear RGB in [0, 1].

    Attributes:
        kind: name of the texture.
        low, high: the two colours that the texture mixes.
        accent: colour of veins, hair or rims.
        scale: features per metre.
        gloss: strength of the highlight.
        translucency: share of light that passes through a leaf.
        options: what the kind needs beyond this.
    """

    kind: str
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    accent: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 30.0
    seed: int = 0
    gloss: float = 0.05
    translucency: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Primitive:
    """One visible surface, fixed to a body.

    Attributes:
        span: the part of a long leaf's outline and markings that this patch covers.
        tint: factor on its colour.
        holes: whether the leaf is cut in as a monstera's is.
    """

    shape: Shape
    body: int
    rotation: np.ndarray
    offset: np.ndarray
    size: tuple[float, float, float, float]
    material: int
    part: int
    span: tuple[float, float] = (0.0, 1.0)
    outline: str = "plain"
    tint: float = 1.0
    holes: bool = False


@dataclass(frozen=True)
class Anchor:
    """A point of a body that stays where it is at rest (a planted foot)."""

    body: int
    point: tuple[float, float, float]


@dataclass(frozen=True)
class Freedom:
    """How far a person turns (rad) or shifts (m) a joint at will, from the rest pose: joint `joint` of `body`."""

    body: int
    joint: int
    low: float
    high: float
