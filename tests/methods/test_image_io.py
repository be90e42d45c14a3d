"""Frames stored as images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage import io as skimage_io

from methods.image_io import folder_frames, natural_key, read_image
from metrics.errors import DataError

RNG = np.random.default_rng(0)


def test_natural_order() -> None:
    names = ["f10.png", "f2.png", "f1.png", "f02.png", "g1.png", "1.png"]
    assert sorted(names, key=natural_key) == ["1.png", "f1.png", "f02.png", "f2.png", "f10.png", "g1.png"]


@given(st.lists(st.integers(0, 10**6), unique=True, min_size=1))
def test_natural_order_is_the_order_of_the_numbers(numbers: list[int]) -> None:
    names = sorted((f"frame{number}.png" for number in numbers), key=natural_key)
    assert names == [f"frame{number}.png" for number in sorted(numbers)]


def test_a_folder_gives_its_frames_in_natural_order(tmp_path: Path) -> None:
    frames = RNG.integers(0, 256, (12, 9, 7, 3), dtype=np.uint8)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("not a frame")
    (tmp_path / ".hidden.png").write_bytes(b"")
    np.testing.assert_array_equal(np.stack(list(folder_frames(tmp_path))), frames)


def test_reading_equals_scikit_image(tmp_path: Path) -> None:
    frame = RNG.integers(0, 256, (16, 24, 3), dtype=np.uint8)
    for name in ("a.png", "a.jpg"):
        Image.fromarray(frame).save(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name), skimage_io.imread(tmp_path / name))


def test_palettes_are_expanded_and_orientation_is_applied(tmp_path: Path) -> None:
    frame = RNG.choice([0, 128, 255], (6, 8, 3)).astype(np.uint8)
    Image.fromarray(frame).quantize(64).save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), frame)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise for display
    Image.fromarray(frame).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png"), np.rot90(frame, -1))


def test_grey_is_repeated_or_refused(tmp_path: Path) -> None:
    grey = RNG.integers(0, 256, (6, 8), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, axis=-1))
    with pytest.raises(DataError, match=r"found a grey image \(L\). Repeat it: np.repeat"):
        read_image(tmp_path / "grey.png", grey="refuse")


@pytest.mark.parametrize(
    ("mode", "message"),
    [("RGBA", "alpha"), ("LA", "alpha"), ("I;16", "expected 8-bit RGB, found mode I;16"), ("CMYK", "mode CMYK")],
)
def test_other_kinds_of_image_are_refused(tmp_path: Path, mode: str, message: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new(mode, (8, 6)).save(path)
    with pytest.raises(DataError, match=message):
        read_image(path)


def test_a_transparent_colour_is_alpha_too(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png", transparency=(0, 0, 0))
    with pytest.raises(DataError, match="alpha"):
        read_image(tmp_path / "a.png")


def test_damage_is_named(tmp_path: Path) -> None:
    whole = tmp_path / "a.png"
    Image.fromarray(RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(whole)
    short = tmp_path / "short.png"
    short.write_bytes(whole.read_bytes()[:-600])
    with pytest.raises(DataError, match="damaged or cut short"):
        read_image(short)
    flipped = bytearray(whole.read_bytes())
    flipped[len(flipped) // 2] ^= 255
    whole.write_bytes(flipped)
    with pytest.raises(DataError, match="damaged or cut short"):
        read_image(whole)
    whole.write_bytes(b"")
    with pytest.raises(DataError, match="empty"):
        read_image(whole)


def test_folders_without_frames_or_with_mixed_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected PNG or JPEG frames, found none"):
        list(folder_frames(tmp_path))
    Image.new("RGB", (8, 6)).save(tmp_path / "f0.png")
    Image.new("RGB", (8, 7)).save(tmp_path / "f1.png")
    with pytest.raises(DataError, match=r"one size, found 6 x 8 px in f0.png and 7 x 8 px in f1.png"):
        list(folder_frames(tmp_path))
