"""Resizing against a loop written from the definition, and PyTorch's own resize where it follows the same rule."""

from __future__ import annotations

import math

import pytest
import torch
from peers.clips import noise
from torch import Tensor
from torch.nn import functional as F

from metrics.errors import VideoError
from metrics.resize import RULES, Rule, resize_matrix, resize_video

SIZES = [(5, 7, 12), (64, 64, 224), (72, 96, 224), (17, 40, 9), (1, 3, 4)]


def looped(frame: list[list[float]], size: int, rule: Rule) -> list[list[float]]:
    """One channel, pixel by pixel."""

    def sources(n: int, i: int) -> tuple[int, int, float]:
        if rule == "tf1":
            at = i * n / size
        elif rule == "half_pixel":
            at = max((i + 0.5) * n / size - 0.5, 0.0)
        else:
            at = i * (n - 1) / (size - 1)
        low = min(math.floor(at), n - 1)
        return low, min(low + 1, n - 1), at - low

    result = []
    for i in range(size):
        top, bottom, down = sources(len(frame), i)
        row = []
        for j in range(size):
            left, right, across = sources(len(frame[0]), j)
            upper = frame[top][left] * (1 - across) + frame[top][right] * across
            lower = frame[bottom][left] * (1 - across) + frame[bottom][right] * across
            row.append(upper * (1 - down) + lower * down)
        result.append(row)
    return result


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("height", "width", "size"), [(5, 7, 12), (9, 4, 6), (1, 3, 4)])
def test_equals_a_loop_over_pixels(rule: Rule, height: int, width: int, size: int) -> None:
    video = noise(1, 1, 1, height, width).double()
    expected = torch.tensor([looped(channel.tolist(), size, rule) for channel in video[0, 0]], dtype=torch.float64)
    torch.testing.assert_close(resize_video(video, size, rule)[0, 0], expected, atol=1e-12, rtol=0)


def by_torch(video: Tensor, size: int, rule: Rule) -> Tensor:
    frames = video.flatten(0, 1)
    if rule == "tf1":
        # One more row and column, repeated, and one more output: then the corner-aligned grid is TensorFlow 1's.
        frames = F.pad(frames, (0, 1, 0, 1), mode="replicate")
        frames = F.interpolate(frames, (size + 1, size + 1), mode="bilinear", align_corners=True)[..., :-1, :-1]
    else:
        frames = F.interpolate(frames, (size, size), mode="bilinear", align_corners=rule == "align_corners")
    return frames.unflatten(0, video.shape[:2])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_equals_torch(rule: Rule, height: int, width: int, size: int) -> None:
    video = noise(2, 2, 2, height, width)
    torch.testing.assert_close(resize_video(video, size, rule), by_torch(video, size, rule), atol=1e-5, rtol=0)


def test_the_rules_differ() -> None:
    video = noise(3, 1, 1, 64, 64)
    first, second, third = (resize_video(video, 224, rule) for rule in RULES)
    assert min((first - second).abs().max(), (second - third).abs().max(), (first - third).abs().max()) > 0.1


@pytest.mark.parametrize("rule", RULES)
def test_weights_are_two_a_row_and_sum_to_one(rule: Rule) -> None:
    for n, size in ((64, 224), (256, 224), (1, 5), (7, 1)):
        matrix = resize_matrix(n, size, rule)
        assert matrix.shape == (size, n)
        assert matrix.min() >= 0
        assert (matrix > 0).sum(1).max() <= 2
        torch.testing.assert_close(matrix.sum(1), torch.ones(size, dtype=torch.float64), atol=1e-15, rtol=0)


def test_a_constant_stays_and_the_right_size_is_left_alone() -> None:
    video = torch.full((1, 2, 3, 30, 50), 0.3)
    torch.testing.assert_close(resize_video(video, 224), torch.full((1, 2, 3, 224, 224), 0.3), atol=1e-6, rtol=0)
    same = noise(4, 1, 1, 224, 224)
    assert resize_video(same, 224) is same


def test_bad_input_gets_a_clear_error() -> None:
    with pytest.raises(VideoError, match=r"expected \[B, T, C, H, W\]"):
        resize_video(torch.zeros(3, 8, 8), 224)
    with pytest.raises(VideoError, match="unknown rule 'cubic'; there are: tf1, half_pixel, align_corners"):
        resize_video(noise(5, 1, 1, 8, 8), 224, "cubic")  # type: ignore[arg-type]
