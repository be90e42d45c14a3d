"""Measures of control as metrics of the harness: one value for each clip, from how a prediction answers its poke."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.card import MetricCard
from metrics.control import (
    MOVING,
    VERSION,
    direction_error,
    dose_response_slope,
    endpoint_error,
    flow_at,
    flow_error,
    leakage,
    response_along,
    still_pixels,
    stillness,
)
from metrics.control_regions import moving_lpips, moving_psnr, moving_region
from metrics.psnr import PSNR_CAP

DOSES = (0.5, 1.0, 1.5)
"""A poke is repeated at these multiples of its length for the dose response."""


@dataclass(frozen=True)
class Response:
    """Predictions for a batch of pokes, the motion measured in them, and the truth.

    Attributes:
        pred, target: float `[B, T, 3, H, W]` in [0, 1].
        location, displacement: the pokes, float `[B, 2]`, px.
        flow: float `[B, 2, H, W]`, px: measured in the prediction, from x0 to the last frame.
        true_flow: likewise of the truth: exact where the data know it, else measured in the true frames.
        exact: whether `true_flow` is exact.
        visible: bool `[B, H, W]`: which pixels of x0 are truly still seen in the last frame; None: not known.
        doses: the pokes at each of DOSES, float `[B, D, 2]`, and `dose_responses`, how the poked point moved under
            them, float `[B, D, 2]`, px. None unless a metric needs them.
        still: flow `[B, 2, H, W]` measured under a poke of no length; None unless a metric needs it.
        beside: the same under a poke beside the object; None unless a metric needs it.
        on_object: bool `[B]`: whether the poke is on the object, so that something is to follow it; None: all are.
    """

    pred: Tensor
    target: Tensor
    location: Tensor
    displacement: Tensor
    flow: Tensor
    true_flow: Tensor
    exact: bool
    visible: Tensor | None = None
    doses: Tensor | None = None
    dose_responses: Tensor | None = None
    still: Tensor | None = None
    beside: Tensor | None = None
    on_object: Tensor | None = None

    def where_followed(self, values: Tensor) -> Tensor:
        """`values` `[B]`, NaN where the poke is beside the object: nothing is to follow there."""
        return values if self.on_object is None else values.masked_fill(~self.on_object, torch.nan)

    @property
    def point(self) -> Tensor:
        """How the poked point moved in the prediction, float64 `[B, 2]`, px."""
        return flow_at(self.flow, self.location[:, None])[:, 0]


class ControlMetric(ABC):
    """A metric of kind "clip": NaN marks a clip for which it is not defined.

    Attributes:
        needs: of "doses", "still", "beside": predictions for further pokes that it is computed from.
        by_motion: whether it is computed from the motion measured in the prediction (`Response.flow`). Where no metric
            is, motion is not measured, which takes most of the time, and that flow is NaN.
    """

    card: MetricCard
    needs: frozenset[str] = frozenset()
    by_motion: bool = True

    def __init__(self, device: torch.device | str = "cpu", mode: str = "exact") -> None:
        self.device, self.mode = device, mode

    @classmethod
    def measures_motion(cls) -> bool:
        """Whether motion has to be measured for it, in the prediction or in those for further pokes."""
        return cls.by_motion or bool(cls.needs)

    @abstractmethod
    def score(self, response: Response) -> Tensor:
        """float64 `[B]`."""


def _card(
    name: str,
    title: str,
    convention: str,
    unit: str = "px",
    higher_is_better: bool = False,
    version: int = VERSION,
    bounds: tuple[float | None, float | None] = (0.0, None),
    reference: str = "closed form",
    tolerance: str = "1e-6 absolute",
) -> MetricCard:
    return MetricCard(
        name=name,
        title=title,
        kind="clip",
        version=version,
        convention=convention,
        higher_is_better=higher_is_better,
        bounds=bounds,
        reference=reference,
        tolerance=tolerance,
        unit=unit,
    )


class EndpointError(ControlMetric):
    """How far from its target the poked point ends, px."""

    card = _card(
        "endpoint_error",
        "Endpoint error",
        "distance of the poked point from its target in the last frame, px; pokes beside the object are left out",
    )

    def score(self, response: Response) -> Tensor:
        """See `metrics.control.endpoint_error`."""
        return response.where_followed(endpoint_error(response.point, response.displacement))


class DirectionError(ControlMetric):
    """Angle between the motion of the poked point and the poke, degrees."""

    card = _card(
        "direction_error",
        "Direction error",
        f"angle between the motion of the poked point and the poke, degrees; clips where either is at most {MOVING} px "
        "are left out",
        "deg",
        bounds=(0.0, 180.0),
    )

    def score(self, response: Response) -> Tensor:
        """See `metrics.control.direction_error`."""
        return response.where_followed(direction_error(response.point, response.displacement))


class PokeShare(ControlMetric):
    """The share of the poke that the poked point follows."""

    card = _card(
        "poke_share",
        "Share followed",
        "motion of the poked point along the poke, divided by the poke's length; 1 is perfect, 0 still; mean of ratios "
        "over clips with pokes of at least 1 px",
        "",
        higher_is_better=True,
        bounds=(None, None),
    )

    def score(self, response: Response) -> Tensor:
        """`metrics.control.response_along` divided by the length."""
        length = response.displacement.double().norm(dim=-1)
        share = response_along(response.point, response.displacement) / length
        return response.where_followed(torch.where(length >= 1, share, torch.nan))


class DoseSlope(ControlMetric):
    """How the response grows with the length of the poke."""

    card = _card(
        "dose_slope",
        "Dose-response slope",
        f"least-squares slope of the motion along the poke against its length, for the poke times {DOSES}; 1 is "
        "perfect, 0 takes no notice of the length; measured from x0 alone",
        "",
        higher_is_better=True,
        version=2,
        bounds=(None, None),
    )
    needs = frozenset({"doses"})

    def score(self, response: Response) -> Tensor:
        """See `metrics.control.dose_response_slope`."""
        assert response.doses is not None
        assert response.dose_responses is not None
        return response.where_followed(dose_response_slope(response.dose_responses, response.doses))


class Leakage(ControlMetric):
    """Motion of pixels that truly stay still, px."""

    card = _card(
        "leakage",
        "Leakage",
        f"mean measured motion of pixels that truly stay still (exact flow 0, or measured at most {MOVING} px), and in "
        "sight, where the data know that; px",
        version=2,
    )

    def score(self, response: Response) -> Tensor:
        """See `metrics.control.leakage`."""
        still = still_pixels(response.true_flow, 0.0 if response.exact else MOVING)
        return leakage(response.flow, still if response.visible is None else still & response.visible)


class FlowError(ControlMetric):
    """Mean end-point error of the measured motion, px."""

    card = _card("flow_error", "Flow error", "mean end-point error over all pixels of the motion x0 to xT, px")

    def score(self, response: Response) -> Tensor:
        """See `metrics.control.flow_error`."""
        return flow_error(response.flow, response.true_flow)


class ZeroStillness(ControlMetric):
    """Share of pixels that stay under a poke of no length."""

    card = _card(
        "zero_stillness",
        "Still at zero poke",
        f"share of pixels that move by at most {MOVING} px under a poke of no length; measured from x0 alone",
        "",
        higher_is_better=True,
        version=2,
        bounds=(0.0, 1.0),
    )
    needs = frozenset({"still"})

    def score(self, response: Response) -> Tensor:
        """See `metrics.control.stillness`."""
        assert response.still is not None
        return stillness(response.still)


class BesideStillness(ControlMetric):
    """Share of pixels that stay under a poke beside the object."""

    card = _card(
        "beside_stillness",
        "Still at poke beside",
        f"share of pixels that move by at most {MOVING} px under a poke beside the object; measured from x0 alone",
        "",
        higher_is_better=True,
        version=2,
        bounds=(0.0, 1.0),
    )
    needs = frozenset({"beside"})

    def score(self, response: Response) -> Tensor:
        """See `metrics.control.stillness`."""
        assert response.beside is not None
        return stillness(response.beside)


class MovingLPIPS(ControlMetric):
    """LPIPS of what happens where the object moves."""

    card = _card(
        "moving_lpips",
        "LPIPS, moving region",
        f"LPIPS (Alex) with everything replaced by the truth but the pixels that move by more than {MOVING} px and "
        "their straight way to the end, mean over frames",
        "",
        version=2,
        reference="lpips 0.1.4, where the region is the whole picture",
        tolerance="1e-5 absolute",
    )
    by_motion = False

    def score(self, response: Response) -> Tensor:
        """See `metrics.control_regions.moving_lpips`."""
        return moving_lpips(response.pred, response.target, moving_region(response.true_flow)).mean(1)


class MovingPSNR(ControlMetric):
    """PSNR where the object moves, dB."""

    card = _card(
        "moving_psnr",
        "PSNR, moving region",
        f"PSNR of the pixels that move by more than {MOVING} px and their straight way to the end, mean over frames, "
        f"frames above {PSNR_CAP:g} dB count as {PSNR_CAP:g} dB",
        "",
        higher_is_better=True,
        version=2,
        bounds=(0.0, PSNR_CAP),
        tolerance="1e-5 absolute",
    )
    by_motion = False

    def score(self, response: Response) -> Tensor:
        """See `metrics.control_regions.moving_psnr`."""
        region = moving_region(response.true_flow)
        return moving_psnr(response.pred, response.target, region).clamp(max=PSNR_CAP).mean(1)


class Retrieval(ControlMetric):
    """Whether a response is nearer to its own truth than to those of the scene's other pokes.

    It compares clips with each other, so the harness computes it when all are there, with `retrieval_accuracy`, from
    flows averaged over squares of `CELL` px.
    """

    CELL = 4
    card = _card(
        "retrieval",
        "Retrieval",
        f"share of pokes whose response (flow, averaged over squares of {CELL} px) is nearer to the truth of this poke "
        "than to those of the other pokes of the scene",
        "",
        higher_is_better=True,
        bounds=(0.0, 1.0),
    )

    def score(self, response: Response) -> Tensor:
        """NaN: one batch does not say."""
        return torch.full((len(response.pred),), torch.nan, dtype=torch.float64)

    @classmethod
    def coarse(cls, flow: Tensor) -> Tensor:
        """Flow `[B, 2, H, W]` as it is compared, float32 `[B, 2, H / 4, W / 4]`."""
        return torch.nn.functional.avg_pool2d(flow.float(), cls.CELL)


def needed(metrics: Sequence[ControlMetric]) -> frozenset[str]:
    """What further predictions these metrics are computed from."""
    return frozenset().union(*(metric.needs for metric in metrics))
