"""Crop and resize against plain averaging."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.frames import Box, Preparation, prepare_frame
from metrics.errors import DataError

RNG = np.random.default_rng(0)


def frame_of(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def area_weights(source: int, target: int) -> np.ndarray:
    """`[target, source]`: the share of every source pixel in every target pixel, rows summing to 1."""
    edges = np.arange(target + 1) * source / target
    pixels = np.arange(source)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(overlap, 0, None) * target / source


@settings(deadline=None, max_examples=40)
@given(st.integers(5, 90), st.integers(5, 90), st.integers(1, 40))
def test_shrinking_is_area_averaging(height: int, width: int, size: int) -> None:
    frame = frame_of(height, width)
    if min(height, width) < size:
        with pytest.raises(DataError, match="frames are never enlarged"):
            prepare_frame(frame, Preparation(size, fit="stretch"))
        return
    result = prepare_frame(frame, Preparation(size, fit="stretch"))
    expected = np.einsum("ay,bx,yxc->abc", area_weights(height, size), area_weights(width, size), frame)
    assert result.shape == (size, size, 3)
    assert result.dtype == np.uint8
    assert np.abs(result - expected).max() <= 0.5 + 1e-3


@pytest.mark.parametrize(("height", "width", "top", "left"), [(40, 64, 0, 12), (65, 40, 12, 0), (40, 40, 0, 0)])
def test_the_centre_is_cropped(height: int, width: int, top: int, left: int) -> None:
    frame = frame_of(height, width)
    np.testing.assert_array_equal(prepare_frame(frame, Preparation(40)), frame[top : top + 40, left : left + 40])


def test_a_box_is_cropped_or_refused() -> None:
    frame = frame_of(50, 60)
    cropped = prepare_frame(frame, Preparation(20, box=Box(left=3, top=7, side=20)))
    np.testing.assert_array_equal(cropped, frame[7:27, 3:23])
    for box in (Box(41, 0, 20), Box(0, 31, 20), Box(-1, 0, 20)):
        with pytest.raises(DataError, match="50 x 60 px, too small for the crop"):
            prepare_frame(frame, Preparation(20, box=box))


def test_enlarging_is_refused() -> None:
    with pytest.raises(DataError, match=r"give 50 x 50 px, fewer than the 64 x 64 px wanted"):
        prepare_frame(frame_of(50, 80), Preparation(64))
