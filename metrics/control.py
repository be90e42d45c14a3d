"""Does the prediction follow the poke? Measures of control, as pure functions of flows and points.

Vectors are (dx, dy) in pixels, x to the right, y down. The *response* is the displacement of the poked point in the
prediction, from x0 to the last frame: `flow_at(flow, location)` for an estimated or exact flow, or the difference of
two points of a track. The *poke* is the displacement asked for. All results are float64, one value for each clip, so
that the caller chooses how to average; NaN marks what is not defined for a clip, and is to be left out of means.

Measures of regions of the picture are in `metrics.control_regions`, retrieval is in `metrics.control_retrieval`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from metrics.errors import VideoError

VERSION = 1
"""Rises with every change that moves a value of this module or of the other modules `control_*`."""
MOVING = 0.5
"""Pixels and points that move by no more than this many px count as at rest in a prediction."""


def flow_at(flow: Tensor, points: Tensor) -> Tensor:
    """Reads flow at points, bilinear between pixel centres.

    Args:
        flow: float `[B, 2, H, W]`, px, H and W at least 2.
        points: float `[B, N, 2]`: (x, y) in px; those outside the picture read the nearest border.

    Returns:
        float64 `[B, N, 2]`, px.

    Raises:
        VideoError: other shapes.
    """
    _check("flow", flow, 4, {1: 2})
    _check("points", points, 3, {0: len(flow), 2: 2})
    height, width = flow.shape[-2:]
    last = flow.new_tensor([width - 1, height - 1], dtype=torch.float64)
    grid = points.double()[:, None] * (2 / last) - 1
    found = functional.grid_sample(flow.double(), grid, "bilinear", "border", align_corners=True)
    return found[:, :, 0].transpose(1, 2)


def endpoint_error(response: Tensor, poke: Tensor) -> Tensor:
    """How far from its target the poked point ends: |response - poke|. 0 is perfect; a still prediction scores |poke|.

    Args:
        response, poke: float `[..., 2]`, px.

    Returns:
        float64 `[...]`, px.

    Raises:
        VideoError: the shapes differ, or the last axis is not (dx, dy).
    """
    _check_vectors(response, poke)
    return _length(response.double() - poke.double())


def magnitude_error(response: Tensor, poke: Tensor) -> Tensor:
    """|response| - |poke|: 0 is perfect, negative moves too little. Arguments and errors as `endpoint_error`.

    Returns:
        float64 `[...]`, px; a still prediction scores -|poke|.
    """
    _check_vectors(response, poke)
    return _length(response) - _length(poke)


def direction_error(response: Tensor, poke: Tensor, least: float = MOVING) -> Tensor:
    """Angle between response and poke. Arguments and errors as `endpoint_error`.

    Args:
        least: vectors of at most this length (px) have no direction that means anything.

    Returns:
        float64 `[...]`, degrees in [0, 180]; 0 is perfect. NaN where response or poke is not longer than `least`:
        a still prediction has no direction, so give the share of NaN beside the mean.
    """
    _check_vectors(response, poke)
    one, other = response.double(), poke.double()
    across = one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]
    angle = torch.atan2(across.abs(), (one * other).sum(-1)).rad2deg()
    defined = (_length(one) > least) & (_length(other) > least)
    return torch.where(defined, angle, torch.nan)


def response_along(response: Tensor, poke: Tensor) -> Tensor:
    """The component of the response in the direction of the poke. Arguments and errors as `endpoint_error`.

    Returns:
        float64 `[...]`, px; |poke| is perfect, 0 still, negative moves the wrong way. NaN for a poke of no length.
    """
    _check_vectors(response, poke)
    return (response.double() * poke.double()).sum(-1) / _length(poke)


def dose_response_slope(response: Tensor, poke: Tensor) -> Tensor:
    """How the response grows with the poke: the least-squares slope of `response_along` against |poke|, with intercept.

    Args:
        response, poke: float `[G, K, 2]`, px: K pokes of different lengths at each of G places.

    Returns:
        float64 `[G]`: 1 is perfect, 0 takes no notice of the length (a still prediction, or one that moves by the same
        amount whatever the poke). Pokes of no length are left out; NaN where fewer than two lengths are left.

    Raises:
        VideoError: other shapes.
    """
    _check("response", response, 3, {2: 2})
    _check_vectors(response, poke)
    dose = _length(poke)
    used = dose > 0
    effect = torch.where(used, response_along(response, poke), 0.0)
    count = used.sum(1, keepdim=True)
    spread = torch.where(used, dose - dose.sum(1, keepdim=True) / count, 0.0)
    variation = spread.square().sum(1)
    enough = (variation > 1e-12 * dose.square().sum(1)) & (count[:, 0] > 1)
    return torch.where(enough, (spread * effect).sum(1) / variation, torch.nan)


def trajectory_error(pred: Tensor, truth: Tensor, visible: Tensor | None = None) -> Tensor:
    """Mean distance of followed points from where they are in truth, for each frame.

    Args:
        pred, truth: float `[B, N, T, 2]`: (x, y) in px of N points in T frames.
        visible: bool `[B, N, T]`: which points count; None: all.

    Returns:
        float64 `[B, T]`, px; 0 is perfect. NaN in frames where no point counts.

    Raises:
        VideoError: other shapes.
    """
    _check("pred", pred, 4, {3: 2})
    _check_vectors(pred, truth)
    distance = _length(pred.double() - truth.double())
    if visible is None:
        return distance.mean(1)
    _check_mask("visible", visible, distance.shape)
    return _mean_where(distance, visible, (1,))


def flow_error(pred: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean end-point error of a flow over its pixels: mean |pred - truth|.

    Args:
        pred, truth: float `[B, 2, H, W]`, px.
        mask: bool `[B, H, W]`: pixels that count; None: all.

    Returns:
        float64 `[B]`, px; 0 is perfect. NaN where no pixel counts.

    Raises:
        VideoError: other shapes.
    """
    _check("pred", pred, 4, {1: 2})
    _check("truth", truth, 4, dict(enumerate(pred.shape)))
    error = _length(pred.double() - truth.double(), 1)
    if mask is None:
        return error.mean((1, 2))
    _check_mask("mask", mask, error.shape)
    return _mean_where(error, mask, (1, 2))


def still_pixels(truth: Tensor, limit: float = 0.0) -> Tensor:
    """Pixels of x0 that truly stay still: bool `[B, H, W]`.

    Args:
        truth: float `[B, 2, H, W]`, px: the true flow.
        limit: longest flow that counts as still, px: 0 for exact flow, MOVING for an estimated one.
    """
    _check("truth", truth, 4, {1: 2})
    return _length(truth, 1) <= limit


def leakage(pred: Tensor, still: Tensor) -> Tensor:
    """Motion where there is to be none: mean |flow| of the pixels that truly stay still.

    A method that moves everything along with the poked point scores the length of that motion. Leave out of `still`
    what is hidden in the last frame: flow says nothing there.

    Args:
        pred: float `[B, 2, H, W]`, px: flow from x0 to the last predicted frame.
        still: bool `[B, H, W]`, see `still_pixels`.

    Returns:
        float64 `[B]`, px; 0 is perfect. NaN where nothing stays still.

    Raises:
        VideoError: other shapes.
    """
    _check("pred", pred, 4, {1: 2})
    length = _length(pred, 1)
    _check_mask("still", still, length.shape)
    return _mean_where(length, still, (1, 2))


def stillness(pred: Tensor, limit: float = MOVING) -> Tensor:
    """Share of pixels that stay in place, under a poke that is to move nothing: beside the object, or of no length.

    Args:
        pred: float `[B, 2, H, W]`, px: flow from x0 to the last predicted frame.
        limit: longest flow that counts as still, px.

    Returns:
        float64 `[B]` in [0, 1]; 1 is perfect.

    Raises:
        VideoError: another shape.
    """
    _check("pred", pred, 4, {1: 2})
    return (_length(pred, 1) <= limit).double().mean((1, 2))


def _length(vectors: Tensor, axis: int = -1) -> Tensor:
    return torch.linalg.vector_norm(vectors.double(), dim=axis)


def _mean_where(values: Tensor, mask: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Mean of `values` where `mask`, NaN where it is nowhere; what is masked may be anything, NaN too."""
    return torch.where(mask, values, 0.0).sum(axes) / mask.sum(axes)


def _check(name: str, value: Tensor, axes: int, sizes: dict[int, int]) -> None:
    """Raises VideoError unless `value` is floating point with so many axes, of these sizes."""
    fits = value.ndim == axes and all(value.shape[axis] == size for axis, size in sizes.items())
    if not fits or not value.is_floating_point():
        wanted = ", ".join(str(sizes.get(axis, "*")) for axis in range(axes))
        raise VideoError(f"{name}: expected floating point [{wanted}], found {list(value.shape)} {value.dtype}")


def _check_vectors(one: Tensor, other: Tensor) -> None:
    if one.shape != other.shape or one.ndim == 0 or one.shape[-1] != 2:
        raise VideoError(
            f"expected two tensors of one shape [..., 2], found {list(one.shape)} and {list(other.shape)}; "
            "the last axis is (x, y) in px"
        )


def _check_mask(name: str, mask: Tensor, shape: torch.Size) -> None:
    if mask.shape != shape or mask.dtype != torch.bool:
        raise VideoError(f"{name}: expected bool {list(shape)}, found {list(mask.shape)} {mask.dtype}")
