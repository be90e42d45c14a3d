"""Predictions that another program wrote: what is read back, and what is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from methods.interface import Conditioning
from methods.predictions import LossyWarning, Predictions
from methods.registry import build_method
from metrics.errors import MethodError

IDS = ("a.mp4@000000", "b@000023")
HORIZON, HEIGHT, WIDTH = 3, 16, 20
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def videos(samples: int = 1) -> np.ndarray:
    return RNG.integers(0, 256, (len(IDS), samples, HORIZON, HEIGHT, WIDTH, 3), dtype=np.uint8)


def conditioning(ids: tuple[str, ...] = IDS) -> Conditioning:
    return Conditioning(torch.zeros(len(ids), 2, 3, HEIGHT, WIDTH), ids, HORIZON)


def read(folder: Path, samples: int = 1, ids: tuple[str, ...] = IDS) -> np.ndarray:
    """uint8 `[B, S, T, H, W, 3]`, read through a spec."""
    method = build_method(f"predictions:folder={folder}")
    method.prepare(torch.device("cpu"))
    assert isinstance(method, Predictions)
    predicted = method.predict(conditioning(ids), samples, 0)
    assert predicted.dtype == torch.float32
    return (predicted * 255).round().byte().movedim(3, -1).numpy()


def error_of(folder: Path) -> str:
    with pytest.raises(MethodError) as caught:
        read(folder, ids=IDS[:1])
    return str(caught.value)


def write_png(folder: Path, video: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(video):
        Image.fromarray(frame).save(folder / f"{number}.png")


def test_npz_in_every_form(tmp_path: Path) -> None:
    made = videos()
    np.savez(tmp_path / f"{IDS[0]}.npz", video=made[0, 0])
    np.savez_compressed(tmp_path / f"{IDS[1]}.npz", video=made[1].astype(np.float64) / 255)
    np.testing.assert_array_equal(read(tmp_path), made)


def test_png_frames_and_samples(tmp_path: Path) -> None:
    made = videos(samples=2)
    for clip_id, samples in zip(IDS, made, strict=True):
        write_png(tmp_path / "one" / clip_id, samples[0])
        for number, sample in enumerate(samples):
            write_png(tmp_path / "two" / clip_id / f"s{number:03d}", sample)
    np.testing.assert_array_equal(read(tmp_path / "one"), made[:, :1])
    np.testing.assert_array_equal(read(tmp_path / "two", samples=2), made)
    assert not Predictions(tmp_path / "one").card.stochastic
    assert Predictions(tmp_path / "two").card.stochastic


def test_only_the_samples_asked_for_are_given(tmp_path: Path) -> None:
    made = videos(samples=3)
    for clip_id, samples in zip(IDS, made, strict=True):
        np.savez(tmp_path / f"{clip_id}.npz", video=samples)
    np.testing.assert_array_equal(read(tmp_path, samples=2), made[:, :2])
    with pytest.raises(MethodError, match="expected 5 samples, found 3"):
        read(tmp_path, samples=5)


def test_a_lossless_video_is_read_back(tmp_path: Path, write_video: Callable[..., Path]) -> None:
    made = videos()
    for clip_id, video in zip(IDS, made, strict=True):
        write_video(tmp_path / f"{clip_id}.mkv", video[0])
    np.testing.assert_array_equal(read(tmp_path), made)


def test_a_lossy_format_warns_and_the_card_says_so(
    tmp_path: Path, write_video: Callable[..., Path], moving_video: Callable[..., np.ndarray]
) -> None:
    for clip_id in IDS:
        write_video(tmp_path / f"{clip_id}.mp4", moving_video(HORIZON, HEIGHT, WIDTH))
    with pytest.warns(LossyWarning, match="2 of 2 entries are in a lossy format"):
        method = Predictions(tmp_path)
    assert "lossy" in method.card.notes
    predicted = method.predict(conditioning(), 1, 0)
    assert predicted.shape == (2, 1, HORIZON, 3, HEIGHT, WIDTH)


def test_the_card_names_the_folder_or_title_and_the_content(tmp_path: Path) -> None:
    for clip_id in IDS:
        np.savez(tmp_path / f"{clip_id}.npz", video=videos()[0, 0])
    card = Predictions(tmp_path, title="Ours").card
    assert (card.name, card.title) == ("predictions:Ours", "Ours")
    assert Predictions(tmp_path).card.title == tmp_path.name
    assert Predictions(tmp_path).card.revision == card.revision
    np.savez(tmp_path / f"{IDS[0]}.npz", video=videos()[0, 0])
    assert Predictions(tmp_path).card.revision != card.revision


def test_missing_clips_are_counted_and_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", video=videos()[0, 0])
    message = error_of(tmp_path)
    assert "1 of 1 clips have no prediction. Missing: a.mp4@000000. Found: other." in message
    assert "a.mp4@000000.npz" in message
    with pytest.raises(MethodError, match="2 of 2 clips"):
        Predictions(tmp_path).check_clips(IDS)


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (np.zeros((HORIZON + 2, HEIGHT, WIDTH, 3), np.uint8), "3 predicted frames only, without context frames"),
        (np.zeros((HORIZON - 1, HEIGHT, WIDTH, 3), np.uint8), r"expected \[3, 16, 20, 3\].*found \[2, 16, 20, 3\]"),
        (np.zeros((HORIZON, HEIGHT, WIDTH + 1, 3), np.uint8), "never resized"),
        (np.zeros((HORIZON, 3, HEIGHT, WIDTH), np.uint8), "Move the channels to the end"),
        (np.zeros((HORIZON, HEIGHT, WIDTH), np.uint8), r"found \[3, 16, 20\]. A grey video needs three"),
        (np.zeros((HORIZON, HEIGHT, WIDTH, 1), np.uint8), "Repeat the grey channel"),
        (np.zeros((HORIZON, HEIGHT, WIDTH, 4), np.uint8), "alpha"),
        (np.zeros((0, HORIZON, HEIGHT, WIDTH, 3), np.uint8), r"found \[0, 3, 16, 20, 3\]"),
        (np.zeros((), np.uint8), r"found \[\]"),
        (np.zeros((HORIZON, HEIGHT, WIDTH, 3), np.int64), "found int64"),
        (np.full((HORIZON, HEIGHT, WIDTH, 3), np.nan), "2880 values are NaN or infinite"),
        (np.full((HORIZON, HEIGHT, WIDTH, 3), 255.0), "divide by 255"),
        (np.full((HORIZON, HEIGHT, WIDTH, 3), -1.0), r"map \[-1, 1\] to \[0, 1\]"),
        (np.full((HORIZON, HEIGHT, WIDTH, 3), 1.01), "clip it"),
        (np.array([{"a": 1}], dtype=object), "not a readable .npz"),
    ],
)
def test_a_wrong_array_is_refused_with_a_cure(tmp_path: Path, video: np.ndarray, message: str) -> None:
    np.savez(tmp_path / f"{IDS[0]}.npz", video=video, allow_pickle=True)
    with pytest.raises(MethodError, match=message):
        read(tmp_path, ids=IDS[:1])


def test_damaged_files_are_refused(tmp_path: Path, write_video: Callable[..., Path]) -> None:
    path = tmp_path / f"{IDS[0]}.npz"
    np.savez(path, video=videos()[0, 0])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert "not a readable .npz" in error_of(tmp_path)
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :])
    assert "not a readable .npz" in error_of(tmp_path)
    path.write_bytes(b"")
    assert "empty (0 bytes)" in error_of(tmp_path)
    np.savez(path, frames=videos()[0, 0])
    assert "expected an array named 'video', found ['frames']" in error_of(tmp_path)
    with path.open("wb") as stream:
        np.save(stream, videos()[0, 0])
    assert "not a readable .npz file (a single array without a name)" in error_of(tmp_path)
    path.unlink()
    video = write_video(tmp_path / f"{IDS[0]}.mkv", videos()[0, 0])
    video.write_bytes(video.read_bytes()[:-2000])
    assert "cut short" in error_of(tmp_path)


@pytest.mark.parametrize(("mode", "message"), [("L", "grey"), ("RGBA", "alpha")])
def test_png_frames_must_be_rgb(tmp_path: Path, mode: str, message: str) -> None:
    folder = tmp_path / IDS[0]
    folder.mkdir()
    for number in range(HORIZON):
        Image.new(mode, (WIDTH, HEIGHT)).save(folder / f"{number}.png")
    assert message in error_of(tmp_path)


def test_ambiguous_or_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="found none"):
        Predictions(tmp_path / "nowhere")
    with pytest.raises(MethodError, match="found none"):
        Predictions(tmp_path)
    made = videos(samples=2)[0]
    np.savez(tmp_path / "x.npz", video=made)
    write_png(tmp_path / "x", made[0])
    with pytest.raises(MethodError, match=r"x and x\.npz are both 'x'"):
        Predictions(tmp_path)
    write_png(tmp_path / "mixed" / IDS[0] / "s000", made[0])
    Image.fromarray(made[0, 0]).save(tmp_path / "mixed" / IDS[0] / "0.png")
    assert "both frames and sample folders" in error_of(tmp_path / "mixed")
    write_png(tmp_path / "uneven" / IDS[0] / "s000", made[0])
    write_png(tmp_path / "uneven" / IDS[0] / "s001", made[0][:2])
    assert "the samples differ in frame count" in error_of(tmp_path / "uneven")


def test_all_clips_must_have_as_many_samples_as_the_first(tmp_path: Path) -> None:
    made = videos(samples=2)
    np.savez(tmp_path / f"{IDS[0]}.npz", video=made[0])
    np.savez(tmp_path / f"{IDS[1]}.npz", video=made[1, :1])
    with pytest.raises(MethodError, match="expected several samples as in the first entry, found 1"):
        read(tmp_path, samples=2)
