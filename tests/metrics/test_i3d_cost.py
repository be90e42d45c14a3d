"""What I3D costs a GPU, counted without one: arithmetic, memory moved, and the least time that both allow."""

from __future__ import annotations

import pytest
import torch
from peers.plain_i3d import PlainI3D
from peers.roofline import Operation, flops, least_seconds, operations
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from metrics.features.i3d import I3D
from metrics.features.i3d_layers import fold
from metrics.resize import resize_video
from metrics.weights import weights

CLIPS, FRAMES = 64, 10
FUSED = ("relu_",)
"""With the convolution before it, on a GPU."""
GIGA_OPERATIONS, PLAIN_GIGA_OPERATIONS, MEGABYTES = 41.1, 36.2, 292
"""Of a clip, in half precision: ours, those of the layers as they are, and what all calls read and write."""
PEAK, BANDWIDTH = 808e12, 3.35e12
"""Of an H100: as measured, operations a second of float16, and as its data sheet has it, bytes a second."""
LEAST_MILLISECONDS, IDLE, MOST = 7.88, 0.49, 0.364
"""Of CLIPS clips at these rates; the share of it that multiplies nothing; and what that makes of the peak, by the
arithmetic of the layers as they are."""


def test_calls_are_counted_once_with_all_that_they_touch() -> None:
    x, weight, matrix = torch.rand(2, 3, 8, 8), torch.rand(4, 3, 3, 3), torch.rand(5, 8)

    def program() -> None:
        out = F.conv2d(x, weight, padding=1).relu_()
        (out.flatten(0, 2) @ matrix.T + 1).half()
        torch.empty(100)

    found = operations(program, fused=("relu_",))
    assert [one.name for one in found] == ["convolution", "mm", "add", "_to_copy"]
    with FlopCounterMode(display=False) as counter:
        program()
    assert flops(found) == counter.get_total_flops()
    assert [one.flops for one in found] == [2 * 2 * 4 * 64 * 27, 2 * 64 * 8 * 5, 0, 0]
    maps, product = 2 * 4 * 64, 64 * 5
    expected = [x.numel() + weight.numel() + maps, maps + 40 + product, 2 * product, 1.5 * product]
    assert [one.bytes for one in found] == [4 * numbers for numbers in expected]


def test_the_least_time_is_that_of_arithmetic_or_of_memory() -> None:
    found = [Operation("mm", 100.0, 1.0), Operation("add", 0.0, 30.0)]
    assert least_seconds(found, peak=50.0, bandwidth=10.0) == 2 + 3


def test_what_a_clip_costs_in_half_precision() -> None:
    """Half of the peak is out of reach: calls that multiply nothing take half of the least time."""
    tensors = weights("i3d-kinetics-400")
    ours, plain = I3D(fold(tensors), half=True), PlainI3D(tensors)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        video = torch.empty(CLIPS, FRAMES, 3, 64, 64)
        found = operations(lambda: ours(resize_video(video, 224)), FUSED)
        needed = flops(operations(lambda: plain(torch.empty(1, 3, FRAMES, 224, 224))))
    assert flops(found) / CLIPS == pytest.approx(GIGA_OPERATIONS * 1e9, rel=0.01)
    assert needed == pytest.approx(PLAIN_GIGA_OPERATIONS * 1e9, rel=0.01)
    assert sum(one.bytes for one in found) / CLIPS == pytest.approx(MEGABYTES * 1e6, rel=0.01)
    least = least_seconds(found, PEAK, BANDWIDTH)
    assert 1e3 * least == pytest.approx(LEAST_MILLISECONDS, rel=0.02)
    assert least_seconds((one for one in found if not one.flops), PEAK, BANDWIDTH) / least == pytest.approx(
        IDLE, abs=0.01
    )
    assert CLIPS * needed / least / PEAK == pytest.approx(MOST, rel=0.02)
