"""A poke as an image: the displacement in a small square around the poked pixel, zeros elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.interface import Poke
from metrics.errors import MethodError


def patch_side(size: int) -> int:
    """Side of the square in px, for frames of side `size`: 3 at 64 px, 5 at 128 px."""
    return max(3, 2 * (size // 64) + 1)


def check_poke(poke: Poke, size: int) -> None:
    """Refuses pokes that no image of side `size` can be given. Reads values, so it waits for the device.

    Raises:
        MethodError: another shape than `[B, 2]` or `[B, n, 2]`, a location outside the image, or values that are
            not finite.
    """
    location, displacement = poke.location, poke.displacement
    if location.shape != displacement.shape or location.ndim not in (2, 3) or location.shape[-1] != 2:
        raise MethodError(
            "expected a poke with location and displacement [B, 2] or [B, n, 2], "
            f"found {list(location.shape)} and {list(displacement.shape)}"
        )
    if not bool(torch.isfinite(displacement).all()):
        raise MethodError("expected finite displacements of pokes, found NaN or infinite ones")
    nearest = location.round()
    outside = ~((nearest >= 0) & (nearest <= size - 1)).all(-1)  # NaN counts as outside
    if bool(outside.any()):
        x, y = location[outside][0].tolist()
        raise MethodError(
            f"expected pokes inside the image, 0 <= x, y <= {size - 1}, found ({x:g}, {y:g}); "
            "give locations in pixels of x0 at the size of the model"
        )


def patches(location: Tensor, size: int) -> Tensor:
    """Where the squares are, bool `[B, n, size, size]`; what reaches over the border is cut off.

    Args:
        location: float `[B, n, 2]`: (x, y) in px; the nearest pixel is the centre.
    """
    reach = patch_side(size) // 2
    axis = torch.arange(size, device=location.device, dtype=location.dtype)
    near = (axis - location.round()[..., None]).abs() <= reach
    return near[:, :, 0, None, :] & near[:, :, 1, :, None]


def as_several(values: Tensor) -> Tensor:
    """`[B, 2]` as `[B, 1, 2]`; `[B, n, 2]` as it is."""
    return values[:, None] if values.ndim == 2 else values


def poke_map(location: Tensor, displacement: Tensor, size: int) -> Tensor:
    """The encoding of pokes that the paper's model reads; the released program draws it so.

    Args:
        location: float `[B, 2]` or `[B, n, 2]`: (x, y) in px.
        displacement: the same shape: (dx, dy), in px.
        size: side of the frames.

    Returns:
        `[B, 2, size, size]`: dx and dy inside the squares. A later poke covers an earlier one.
    """
    location, displacement = as_several(location), as_several(displacement)
    inside = patches(location, size)
    drawn = displacement.new_zeros(len(location), 2, size, size)
    for index in range(location.shape[1]):
        drawn = torch.where(inside[:, index, None], displacement[:, index, :, None, None], drawn)
    return drawn
