"""Motion correlation: which pixels move as a poked point is asked to (figure 5 of the poke paper).

A location is poked K times; D_k is the flow of poke p_k, from x0 to the last frame. Three ways to say how much a pixel
follows, each as a map:

- "paper": d_k = |(|D_k| - |p_k|, angle(D_k) - angle(p_k))|, and the variance of d_k over k, as it is written there:
  pixels and radians in one norm, angles not wrapped. A low variance is a high correlation.
- "wrapped": the same with lengths divided by the longest poke, angle differences wrapped to (-pi, pi] and divided by
  pi, and the angle of next to no motion counted as little as its length.
- "complex": |sum_k D_k conj(p_k)| / sqrt(sum_k |D_k|^2 sum_k |p_k|^2), vectors as complex numbers: 1 where the motion
  is the poke turned by one angle and stretched by one factor, 0 where it is unrelated, or there is none. Times
  min(1, r / FAINT), r the root mean square of |D_k|: measured flow is smooth, and carries small shares of the motion
  far beyond what moves, which would score as high as the motion itself.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from metrics.errors import VideoError

Form = Literal["paper", "wrapped", "complex"]
FORMS: tuple[Form, ...] = ("paper", "wrapped", "complex")

FAINT = 0.5
"""Below this length, px, a flow counts the less in "wrapped" (its angle) and "complex", the shorter it is."""
REFERENCE = 0.99
"""The quantile of a variance map that stands for no correlation."""
SPREADS = 1.0
"""The foreground is where the mean length of the flow exceeds its mean by this many standard deviations."""


def variance_map(flows: Tensor, pokes: Tensor, form: Literal["paper", "wrapped"] = "paper") -> Tensor:
    """The variance over pokes of the distance of flow and poke.

    Args:
        flows: float `[K, 2, H, W]`, px, K at least 2.
        pokes: float `[K, 2]`, px.
        form: see this module.

    Returns:
        float64 `[H, W]`; the population variance. In "paper" a mixture of px^2 and rad^2.

    Raises:
        VideoError: other shapes, or fewer than two pokes.
    """
    field, poke = _complex(flows, pokes)
    length, angle = field.abs() - poke.abs()[:, None, None], field.angle() - poke.angle()[:, None, None]
    if form == "wrapped":
        length = length / poke.abs().max()
        angle = torch.remainder(angle + torch.pi, 2 * torch.pi) - torch.pi
        angle = angle / torch.pi * (field.abs() / FAINT).clamp(max=1)
    return torch.hypot(length, angle).var(0, correction=0)


def correlation_map(flows: Tensor, pokes: Tensor, form: Form = "paper", reference: float | None = None) -> Tensor:
    """How much each pixel follows the pokes.

    Args:
        flows, pokes: as `variance_map`.
        form: see this module.
        reference: the variance that stands for no correlation; None: the 99th percentile of the map itself, so that
            maps are comparable in shape alone. "complex" needs none.

    Returns:
        float64 `[H, W]` in [0, 1]; 1 - variance / reference, not below 0, for the forms with a variance.

    Raises:
        VideoError: as `variance_map`.
    """
    if form == "complex":
        field, poke = _complex(flows, pokes)
        overlap = (field * poke.conj()[:, None, None]).sum(0).abs()
        energy = field.abs().square().mean(0)
        norm = (energy * len(poke) * poke.abs().square().sum()).sqrt()
        found = torch.where(norm > 0, overlap / norm.clamp_min(1e-300), 0.0).clamp(max=1)
        return found * (energy.sqrt() / FAINT).clamp(max=1)
    variance = variance_map(flows, pokes, form)
    if reference is None:
        reference = float(torch.quantile(variance.flatten(), REFERENCE))
    return (1 - variance / max(reference, 1e-300)).clamp(0, 1)


def moving_foreground(flows: Tensor) -> Tensor:
    """Where the pokes move anything: bool `[H, W]`, mean |flow| above its mean over the picture by one std.

    Args:
        flows: float `[K, 2, H, W]`, px.
    """
    mean = torch.linalg.vector_norm(flows.double(), dim=1).mean(0)
    return mean > mean.mean() + SPREADS * mean.std(correction=0)


def area_under_curve(scores: Tensor, positive: Tensor, counted: Tensor | None = None) -> float:
    """Probability that a pixel of `positive` scores higher than one outside it, ties counted half.

    Args:
        scores: float `[H, W]`.
        positive, counted: bool `[H, W]`; pixels outside `counted` are left out.

    Returns:
        In [0, 1]; NaN where either kind is empty.
    """
    inside = torch.ones_like(positive) if counted is None else counted
    high, low = scores[positive & inside].double(), scores[~positive & inside].double()
    if not len(high) or not len(low):
        return float("nan")
    ordered = low.sort().values
    below = torch.searchsorted(ordered, high, right=False)
    upto = torch.searchsorted(ordered, high, right=True)
    return float((below + upto).double().mean() / (2 * len(low)))


def best_overlap(scores: Tensor, positive: Tensor, counted: Tensor | None = None) -> float:
    """The largest intersection over union of `scores >= threshold` with `positive`, over all thresholds.

    Args, returns: as `area_under_curve`; NaN where `positive` is empty.
    """
    inside = torch.ones_like(positive) if counted is None else counted
    values, wanted = scores[inside], positive[inside]
    if not bool(wanted.any()):
        return float("nan")
    order = values.argsort(descending=True, stable=True)
    hits = wanted[order].double().cumsum(0)
    taken = torch.arange(1, len(values) + 1, dtype=torch.float64, device=values.device)
    overlap = hits / (taken + wanted.sum() - hits)
    ends = torch.ones_like(wanted)
    ends[:-1] = values[order][1:] != values[order][:-1]
    return float(overlap[ends].max())


def _complex(flows: Tensor, pokes: Tensor) -> tuple[Tensor, Tensor]:
    """Flows `[K, H, W]` and pokes `[K]` as complex numbers."""
    if flows.ndim != 4 or flows.shape[1] != 2 or pokes.shape != (len(flows), 2) or len(flows) < 2:
        raise VideoError(
            f"expected flows [K, 2, H, W] and pokes [K, 2] with K at least 2, found {list(flows.shape)} and "
            f"{list(pokes.shape)}"
        )
    field, poke = flows.double(), pokes.double().to(flows.device)
    return torch.complex(field[:, 0], field[:, 1]), torch.complex(poke[:, 0], poke[:, 1])
