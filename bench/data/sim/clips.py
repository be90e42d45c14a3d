"""A simulated clip: its frames and all that is known exactly about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.data.sim.exact import Random
from bench.data.sim.flow import Surface, dense_flow, surface, track_points, visibility
from bench.data.sim.render import render
from bench.data.sim.scene import Pose, Scene

CONTEXT = 2
"""Frames shown; the last of them is x0."""
HORIZON = 10
"""Frames to be predicted."""
LENGTH = CONTEXT + HORIZON
TRACKS = 32
"""Points of x0 that are followed."""
FLOW_UNIT = 1 / 128
"""Flow and tracks are rounded to multiples of this many pixels (error at most 0.004 px), and so stored without loss."""


@dataclass(frozen=True)
class TruePoke:
    """What was done to the object.

    Attributes:
        mode: "pull" (the force grows, then holds), "impulse" (a short blow) or "background" (beside the object).
        location: (x, y), the pixel of x0 that was poked.
        displacement: float64 `[2]`: (dx, dy) in pixels of the poked point from x0 to the last frame. For a
            background poke, the displacement asked for; nothing moves.
        force: float64 `[2]`: (right, down) in newtons, the peak; 0 for a background poke.
    """

    mode: str
    location: tuple[int, int]
    displacement: np.ndarray
    force: np.ndarray


@dataclass(frozen=True)
class SimClip:
    """One clip.

    Attributes:
        clip_id, source: as `methods.interface.Clip`.
        kind: species name or "human".
        frames: uint8 `[12, 3, S, S]`, RGB: two context frames, then ten to be predicted.
        flow: float32 `[2, S, S]`: (dx, dy) in pixels from x0 to the last frame, in multiples of FLOW_UNIT.
        visible: bool `[S, S]`: whether what a pixel shows in x0 is still seen in the last frame.
        parts: uint8 `[S, S]`: part ids of x0, 0 is the background.
        tracks: float32 `[32, 12, 2]`: (x, y) in pixels of 32 points of x0 in every frame, in multiples of
            FLOW_UNIT. For a true poke the first is the poked one.
        poke: the true poke; None for natural motion.
    """

    clip_id: str
    source: str
    kind: str
    frames: np.ndarray
    flow: np.ndarray
    visible: np.ndarray
    parts: np.ndarray
    tracks: np.ndarray
    poke: TruePoke | None = None


def rounded(pixels: np.ndarray) -> np.ndarray:
    """Pixels rounded to FLOW_UNIT, float32."""
    return (np.round(pixels / FLOW_UNIT) * FLOW_UNIT).astype(np.float32)


def film(
    scene: Scene,
    pose: Pose,
    size: int,
    clip_id: str,
    source: str,
    poke: TruePoke | None = None,
    seen: Surface | None = None,
) -> SimClip:
    """The clip that shows `pose [12]` of `scene` at `size` px.

    Args:
        poke: what was done, its displacement still unrounded.
        seen: the surface in x0, when it is known already.
    """
    seen = seen or surface(scene, pose[CONTEXT - 1 :], size)
    last = pose[LENGTH - 1 :]
    flow = rounded(dense_flow(scene, seen, last)[0])
    x, y = _tracked(seen, Random("tracks", clip_id), poke)
    places, _ = track_points(scene, seen, pose, x, y)
    if poke is not None and poke.mode != "background":
        column, row = poke.location
        poke = TruePoke(poke.mode, poke.location, flow[:, row, column].astype(np.float64), poke.force)
    return SimClip(
        clip_id=clip_id,
        source=source,
        kind=scene.kind,
        frames=render(scene, pose, size),
        flow=flow,
        visible=visibility(scene, seen, last)[0],
        parts=seen.parts,
        tracks=rounded(places),
        poke=poke,
    )


def _tracked(seen: Surface, rng: Random, poke: TruePoke | None) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (x, y) to follow: the poked one, then three of four on what can move, the others anywhere."""
    rows, columns = np.nonzero(seen.moving)
    chosen = [] if poke is None else [poke.location]
    while len(chosen) < TRACKS:
        if len(rows) and len(chosen) % 4:
            k = rng.integer(0, len(rows) - 1)
            chosen.append((int(columns[k]), int(rows[k])))
        else:
            chosen.append((rng.integer(0, seen.size - 1), rng.integer(0, seen.size - 1)))
    x, y = np.array(chosen).T
    return x, y
