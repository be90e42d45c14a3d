"""Bad input: every metric refuses it with one error that says what was expected and what was found."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peers.clips import noise
from torch import Tensor

from metrics import fvd, i3d_logits, kvd, lpips, psnr, ssim
from metrics.errors import PokeBenchError, VideoError
from metrics.video import RANGE_TOLERANCE, check_pair, check_video

PAIR_METRICS: dict[str, Callable[[Tensor, Tensor], object]] = {"psnr": psnr, "ssim": ssim, "lpips": lpips}
SET_METRICS: dict[str, Callable[[Tensor, Tensor], object]] = {"fvd": fvd, "kvd": kvd}
ALL = PAIR_METRICS | SET_METRICS


def good() -> Tensor:
    return noise(0, 2, 10, 32, 32)


def with_value(value: float) -> Tensor:
    video = good()
    video[1, 3, 2, 4, 5] = value
    return video


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "nan": (lambda: with_value(float("nan")), r"1 values are NaN or infinite \(first clips concerned: \[1\]\)"),
    "infinite": (lambda: with_value(float("inf")), "NaN or infinite"),
    "above one": (lambda: with_value(1.01), r"expected values in \[0, 1\], found \[.*, 1\.01\]"),
    "below zero": (lambda: with_value(-0.01), r"expected values in \[0, 1\], found \[-0\.01, "),
    "0..255": (lambda: good() * 255, "divide by 255"),
    "-1..1": (lambda: good() * 2 - 1, r"map \[-1, 1\] to \[0, 1\]"),
    "uint8": (lambda: (good() * 255).byte(), "found .* uint8. Divide 8-bit frames by 255"),
    "int64": (lambda: good().long(), "expected floating point"),
    "grey": (lambda: good()[:, :, :1], r"expected \[B, T, 3, H, W\] \(RGB\), found \[2, 10, 1, 32, 32\]"),
    "rgba": (lambda: noise(0, 2, 10, 32, 32)[:, :, [0, 1, 2, 0]], "found .*10, 4, 32.*drop alpha"),
    "channels last": (lambda: good().permute(0, 1, 3, 4, 2), r"expected \[B, T, 3, H, W\]"),
    "no batch axis": (lambda: good()[0], r"expected \[B, T, 3, H, W\]"),
    "numpy": (lambda: good().numpy(), "expected a torch tensor .* found ndarray"),
    "no clip": (lambda: good()[:0], "at least one clip"),
    "no frame": (lambda: good()[:, :0], "frames, found 0"),
}


@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize("metric", ALL)
def test_bad_video_is_refused_on_either_side(metric: str, fault: str) -> None:
    make, message = BAD[fault]
    for arguments in ((make(), good()), (good(), make())):
        with pytest.raises(VideoError, match=message):
            ALL[metric](*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", BAD)
def test_features_refuse_bad_video(fault: str) -> None:
    make, message = BAD[fault]
    with pytest.raises(VideoError, match=message):
        i3d_logits(make())  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", PAIR_METRICS)
@pytest.mark.parametrize("other", [(1, 10, 32, 32), (2, 9, 32, 32), (2, 10, 40, 32), (2, 10, 32, 40)])
def test_pairs_must_have_one_shape(metric: str, other: tuple[int, int, int, int]) -> None:
    with pytest.raises(VideoError, match="must have one shape"):
        PAIR_METRICS[metric](good(), noise(1, *other))


@pytest.mark.parametrize("metric", SET_METRICS)
@pytest.mark.parametrize("other", [(2, 11, 32, 32), (2, 10, 40, 32), (2, 10, 32, 40)])
def test_sets_must_agree_in_length_and_size(metric: str, other: tuple[int, int, int, int]) -> None:
    with pytest.raises(VideoError, match="one length and size"):
        SET_METRICS[metric](good(), noise(1, *other))


@pytest.mark.parametrize("metric", SET_METRICS)
def test_set_metrics_refuse_eight_frames_and_single_clips(metric: str) -> None:
    eight = noise(0, 2, 8, 32, 32)
    with pytest.raises(VideoError, match="at least 9 frames, found 8"):
        SET_METRICS[metric](eight, eight)
    for arguments in ((good()[:1], good()), (good(), good()[:1])):
        with pytest.raises(VideoError, match=r"at least 2 clips, found 1.*covariances"):
            SET_METRICS[metric](*arguments)


@pytest.mark.parametrize(("metric", "side"), [("ssim", 10), ("lpips", 15)])
def test_too_small_frames_are_refused(metric: str, side: int) -> None:
    small = noise(0, 1, 1, side, 32)
    with pytest.raises(VideoError, match=r"at least .* px, found"):
        PAIR_METRICS[metric](small, small)


def test_one_error_class_catches_everything() -> None:
    assert issubclass(VideoError, PokeBenchError)
    assert issubclass(VideoError, ValueError)


@pytest.mark.gpu
def test_devices_must_agree() -> None:
    with pytest.raises(VideoError, match="move them to one device"):
        check_pair(good(), good().cuda())


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.floats(-1, 2, width=32))
def test_the_accepted_range_is_zero_to_one_with_rounding(value: float) -> None:
    video = torch.full((1, 1, 3, 2, 2), value, dtype=torch.float64)
    if -RANGE_TOLERANCE <= value <= 1 + RANGE_TOLERANCE:
        assert check_video(video) is video
    else:
        with pytest.raises(VideoError):
            check_video(video)
