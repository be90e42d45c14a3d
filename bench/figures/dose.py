"""Dose-response curves: how far the poked point moves along the poke, against the length of the poke."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.evaluation.prediction import AnyMethod
from bench.figures.asked import Asked
from bench.figures.curves import BAND, columns
from bench.figures.style import curve, finish, panels
from bench.heatmap.maps import LONGEST
from bench.statistics import mean_interval
from methods.interface import AnswersExactly, Poke
from metrics.control import flow_at, response_along
from metrics.errors import ProtocolError

DOSES = 7
"""Lengths of pokes, evenly from 0 to the longest that one may ask for."""


def dose_response(methods: Sequence[AnyMethod], given: Asked, path: Path) -> list[Path]:
    """Draws the response of each method that takes pokes, at the places and in the directions of the clips' pokes.

    Args:
        methods: prepared.
        given: with one poke a clip; clips whose poke has no length, or is beside the object, are left out.

    Raises:
        ProtocolError: the protocol gives no single pokes, or none on an object, or no method takes any.
    """
    chosen = [method for method in methods if "poke" in method.card.inputs]
    if given.shown.poke is None or given.shown.poke.displacement.ndim != 2:
        raise ProtocolError("dose responses need one poke for each clip; choose a protocol that gives it")
    if not chosen:
        raise ProtocolError(
            "no method of the suite takes pokes, so there is no response to show; give some by --method"
        )
    if bool(given.beside().all()):
        raise ProtocolError("all of these pokes are beside the object, so there is no response; take more clips")
    doses = LONGEST * given.protocol.size * np.linspace(0, 1, DOSES)
    figure, [axis] = panels(1)
    figure.set_size_inches(5.6, 4.6)
    axis.plot(doses, doses, color="0.55", linewidth=1, label="as asked")
    sources = [clip.source for clip in given.clips]
    for number, method in enumerate(chosen):
        values = responses(method, given, torch.from_numpy(doses))
        kept = np.flatnonzero(~np.isnan(values).any(1))
        found = [mean_interval(values[kept, k], [sources[row] for row in kept]) for k in range(DOSES)]
        curve(axis, doses.tolist(), *columns(found), number, method.card.title)
    axis.set_xlabel("length of the poke (px)")
    axis.set_ylabel("motion of the poked point along the poke (px)")
    where = " that are poked on the object" if all(clip.parts is not None for clip in given.clips) else ""
    note = (
        f"{given.protocol.dataset}, {given.protocol.size} px, {int((~given.beside()).sum())} clips{where}; motion by "
        f"{given.meter.name} flow, that of the simulation exact; {BAND}"
    )
    return finish(figure, path, "Response against the length of the poke", note, axis)


def responses(method: AnyMethod, given: Asked, doses: Tensor) -> np.ndarray:
    """How far each poked point moves along its poke, at each length: exactly where the method knows it.

    Args:
        doses: lengths, float `[D]`, px.

    Returns:
        float64 `[B, D]`, px; NaN for clips whose own poke has no direction, or is beside the object.
    """
    assert given.shown.poke is not None
    location, displacement = given.shown.poke.location, given.shown.poke.displacement
    heading = torch.nn.functional.normalize(displacement, dim=1)
    headed = heading.double().cpu()
    found = []
    for dose in doses.tolist():
        shown = replace(given.shown, poke=Poke(location, heading * dose))
        if isinstance(method, AnswersExactly):
            motion = method.exact_answer(shown).displacement.cpu()
        else:
            motion = flow_at(given.from_x0(given.answer(method, shown)), location[:, None].cpu())[:, 0]
        along = response_along(motion, headed)
        found.append(torch.where(given.beside(), torch.nan, along))
    return torch.stack(found, 1).numpy()
