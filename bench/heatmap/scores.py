"""How well heatmaps show the poked part, over many scenes and places of the simulated world, for each form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from bench import provenance
from bench.data.registry import open_dataset
from bench.data.sim.clips import CONTEXT, HORIZON
from bench.heatmap.maps import Heatmap, Settings, heatmaps, part_scores
from bench.heatmap.places import places_of
from bench.output import output_path
from bench.statistics import LEVEL, mean_interval
from methods.interface import AnswersExactly, Clip, Method
from methods.registry import build_method
from metrics.correlation import FORMS
from metrics.errors import DataError, MethodError

if TYPE_CHECKING:
    import pandas as pd

MEASURES = {"auc": "AUC ↑", "iou": "mIoU ↑", "auc_still": "AUC with still parts ↑"}
"""Scores of a map, and the heads of their columns."""
TRUTH = "oracle"
"""The method whose answers are the true physics."""


@dataclass(frozen=True)
class Study:
    """Scenes, places and pokes of a comparison.

    Attributes:
        data: a simulated set of true pokes.
        size: of the frames, px.
        clips: number of scenes; one clip each, poked on the object.
        places: at most so many in each, on different parts where there are so many.
        settings: the pokes.
    """

    data: str = "sim-pokes"
    size: int = 64
    clips: int = 24
    places: int = 2
    settings: Settings = field(default_factory=lambda: Settings(pokes=50))


def score_methods(
    methods: Sequence[str], study: Study, device: torch.device, progress: Callable[[int, int], None] | None = None
) -> pd.DataFrame:
    """The scores of each map: columns method, flow, clip, source, x, y, form, those of MEASURES, empty.

    The first method is the true physics: its flow is exact, and all others are given the pokes that came true there.
    NaN where a score is not defined, because the object shows one part alone.

    Raises:
        DataError: the data set is not one of true pokes with parts, or has too few clips.
        MethodError: a method takes no pokes, or not frames of this size.
    """
    import pandas as pd

    clips = _clips(study)
    built = [cast(Method, build_method(spec)) for spec in dict.fromkeys((TRUTH, *methods))]
    if not isinstance(built[0], AnswersExactly):
        raise MethodError(f"the method {TRUTH!r} is not the simulation; remove the package that replaced it")
    titles = [method.card.title for method in built]
    if len(set(titles)) < len(titles):
        raise MethodError(f"every method may be given once, found {', '.join(titles)}")
    for method in built:
        method.prepare(device)
    rows: list[dict[str, object]] = []
    for number, clip in enumerate(clips):
        parts, image = cast(Tensor, clip.parts), clip.frames[-HORIZON - 1].float().div(255).to(device)
        places = places_of(clip, study.places, study.settings.seed)
        asked: list[Tensor] | None = None
        for method in built:
            found = heatmaps(
                method, image, places, study.settings, clip_id=clip.clip_id, foreground=parts > 0, pokes=asked
            )
            if method is built[0]:
                asked = [one.displacements for one in found]
                free = _can_move(clip, found)
            for one in found:
                scores = part_scores(one, parts, free)
                scores |= {f"{form} auc_still": part_scores(one, parts)[f"{form} auc"] for form in FORMS}
                rows += [
                    {
                        "method": method.card.title,
                        "flow": "exact" if one.exact else study.settings.tracker,
                        "clip": clip.clip_id,
                        "source": clip.source,
                        "x": one.location[0],
                        "y": one.location[1],
                        "form": form,
                        **{measure: scores[f"{form} {measure}"] for measure in MEASURES},
                        "empty": one.empty,
                    }
                    for form in FORMS
                ]
        if progress is not None:
            progress(number + 1, len(clips))
    return pd.DataFrame(rows)


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """Means over scenes, each the mean of its places, with intervals that resample scenes.

    Returns:
        One row a method and form: scenes, places, empty maps, and of each measure the mean, low and high.
    """
    import pandas as pd

    lines = []
    for (method, flow, form), part in scores.groupby(["method", "flow", "form"], sort=False):
        line: dict[str, object] = {"method": method, "flow": flow, "form": form}
        line |= {"scenes": part["source"].nunique(), "places": len(part), "empty": int(part["empty"].sum())}
        for measure in MEASURES:
            by_scene = part.groupby("source", sort=False)[measure].mean().dropna()
            found = mean_interval(by_scene.to_numpy(), list(by_scene.index))
            line |= {measure: found.value, f"{measure} low": found.low, f"{measure} high": found.high}
        lines.append(line)
    return pd.DataFrame(lines)


def markdown(found: pd.DataFrame, study: Study, device: torch.device | str = "cpu") -> str:
    """The summary as a table for people, and where it came from."""
    from tabulate import tabulate

    lines = [
        [
            row["method"],
            row["flow"],
            row["form"],
            row["scenes"],
            row["places"],
            row["empty"],
            *map(_text(row), MEASURES),
        ]
        for _, row in found.iterrows()
    ]
    headers = ["method", "flow", "form", "scenes", "places", "empty maps", *MEASURES.values()]
    settings = study.settings
    return (
        f"## Motion-correlation heatmaps against parts ({study.data}, {study.size} px)\n\n"
        f"{tabulate(lines, headers=headers, tablefmt='github', disable_numparse=True)}\n\n"
        f"- AUC: probability that a pixel of the poked part has a higher correlation than one of another part of the "
        "object. mIoU: intersection over union at the best threshold. Both over the pixels that can move; the last "
        "column counts those of parts that cannot, such as a pot, as well.\n"
        f"- Means over scenes; in brackets {LEVEL:.0%} intervals, bootstrap-t over scenes.\n"
        f"- {settings.pokes} pokes at each place, lengths {settings.lengths}, seed {settings.seed}. All methods are "
        "given the displacements that come true in the simulation.\n"
        f"- Printed by `{provenance.command()}`, commit {provenance.commit() or 'not known'}, on "
        f"{', '.join(f'{name} {value}' for name, value in provenance.hardware(str(device)).items())}.\n"
    )


def write_scores(scores: pd.DataFrame, text: str, out: Path) -> None:
    """Writes OUT.md, and OUT.csv with one line a map and form.

    Raises:
        OutputError: they cannot be written.
    """
    for ending, content in (("md", text), ("csv", scores.to_csv(index=False))):
        with output_path(out.with_name(f"{out.name}.{ending}")) as temporary:
            temporary.write_text(content)


def _can_move(clip: Clip, found: Sequence[Heatmap]) -> Tensor:
    """Pixels that any true poke moves, or that move in the clip: bool `[H, W]`. Exact flow of still parts is 0."""
    assert clip.flow is not None
    free = torch.linalg.vector_norm(clip.flow, dim=0) > 0
    for one in found:
        free = free | (one.mean_length > 0)
    return free


def _text(row: pd.Series) -> Callable[[str], str]:
    def text(measure: str) -> str:
        value, low, high = (float(row[name]) for name in (measure, f"{measure} low", f"{measure} high"))
        return f"{value:.3f}" if np.isnan(low) else f"{value:.3f} [{low:.3f}, {high:.3f}]"

    return text


def _clips(study: Study) -> list[Clip]:
    """Clips of different scenes that are poked on the object."""
    spare = study.clips // 4 + 2  # one in eight is poked beside the object
    dataset = open_dataset(
        study.data, size=study.size, length=CONTEXT + HORIZON, clips_per_source=1, max_clips=study.clips + spare
    )
    found = []
    for ref in dataset.clips():
        clip = dataset.load(ref.clip_id)
        if clip.parts is None or clip.poke is None:
            raise DataError(f"{study.data} has no parts and true pokes; choose sim-pokes or sim-counterfactual")
        x, y = clip.poke.location[0].round().long().tolist()
        if clip.parts[y, x] > 0:
            found.append(clip)
        if len(found) == study.clips:
            return found
    raise DataError(f"{study.data} has {len(found)} clips that are poked on the object, expected {study.clips}")
