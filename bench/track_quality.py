"""How good sparse trajectories are: points followed through estimated and exact flow, against where they truly are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bench.data.interface import Progress
from bench.data.registry import open_dataset
from bench.data.sim.clips import HORIZON
from bench.data.sim.exact import Random
from bench.data.sim.flow import dense_flow, surface, track_points
from bench.data.sim.natural import natural_poses
from bench.data.sim.physics import World
from bench.data.sim.scene import build_scene
from bench.data.sim.splits import SPLITS
from bench.tracks import TrackRule, follow, tracks_of
from metrics.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

RULES: Mapping[str, TrackRule] = {
    "dis": TrackRule(),
    "dis, foreground grabcut": TrackRule(foreground="grabcut"),
    "dis, foreground parts": TrackRule(foreground="parts"),
    "farneback, foreground parts": TrackRule(estimator="farneback", foreground="parts"),
    "exact tracks": TrackRule(source="exact"),
}


def track_error_table(
    name: str = "sim-plants", *, size: int = 64, clips: int = 64, progress: Progress | None = None
) -> pd.DataFrame:
    """Mean distance in px of followed points from the truth at the last frame, k = 5 points a clip.

    The truth is the simulation's own: the surface point seen at a pixel of x0, carried on by the poses of the scene.
    A row for each rule; columns: the share of points that lie on something movable, the error of the tracks, its
    median, that of the same points followed through exact flow from frame to frame, and that of points that stay.

    Args:
        name: a simulated set of natural motion.

    Raises:
        DataError: another data set.
    """
    import pandas as pd

    split = SPLITS.get(name)
    if split is None or split.content != "natural":
        names = ", ".join(key for key, found in SPLITS.items() if found.content == "natural")
        raise DataError(f"tracks are judged where the simulation shows natural motion: {names}; found {name!r}")
    data = open_dataset(name, size=size, length=HORIZON + 1, max_clips=clips, progress=progress)
    found: dict[str, list[Tensor]] = {rule: [] for rule in RULES}
    refs = data.clips()
    for done, ref in enumerate(refs):
        clip = data.load(ref.clip_id)
        scene, number = split.locate(ref.clip_id)
        world = World(build_scene(split.kind(scene), split.source(scene)))
        pose = natural_poses(world, Random("natural", split.source(scene)), split.clips_per_scene)[number][1:]
        seen = surface(world.scene, pose, size)
        fields = [
            dense_flow(world.scene, surface(world.scene, pose[t:], size), pose[t + 1 : t + 2])[0]
            for t in range(HORIZON)
        ]
        exact = torch.from_numpy(np.stack(fields)).float()[None]
        for rule in RULES:
            tracks = tracks_of([clip], RULES[rule], 0, 1)[0]
            x, y = (tracks[:, 0, axis].round().long().numpy() for axis in (0, 1))
            truth = torch.from_numpy(track_points(world.scene, seen, pose, x, y)[0]).clamp(0, size - 1)
            ends = [tracks[:, -1], follow(tracks[None, :, 0], exact)[0, :, -1], truth[:, 0]]
            errors = [torch.linalg.vector_norm(end.double() - truth[:, -1], dim=-1) for end in ends]
            found[rule].append(torch.stack([torch.from_numpy(seen.moving[y, x]).double(), *errors]))
        if progress is not None:
            progress(done + 1, len(refs), "tracks")
    lines = []
    for rule, parts in found.items():
        movable, tracked, through, still = torch.cat(parts, dim=1)
        lines.append(
            {
                "points": rule,
                "on movable": float(movable.mean()),
                "tracked": float(tracked.mean()),
                "median": float(tracked.median()),
                "exact flow": float(through.mean()),
                "still": float(still.mean()),
            }
        )
    return pd.DataFrame(lines).set_index("points")
