"""Measures of moving regions against cases worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from peers.clips import noise

from metrics.control_regions import change_from, moving_lpips, moving_psnr, moving_region
from metrics.errors import VideoError
from metrics.lpips import lpips
from metrics.psnr import psnr


def test_region_by_hand() -> None:
    flow = torch.zeros(2, 2, 6, 8)
    flow[0, 0, 1, 2] = 4.0  # along the row
    flow[0, :, 4, 6] = torch.tensor([-2.0, -2.0])  # along the diagonal
    flow[0, 0, 5, 0] = 0.5  # too little
    flow[1, 0, 0, 6] = 30.0  # out of the picture
    expected = torch.zeros(2, 6, 8, dtype=torch.bool)
    expected[0, 1, 2:7] = True
    for row, column in ((4, 6), (3, 5), (2, 4)):
        expected[0, row, column] = True
    expected[1, 0, 6:] = True
    assert torch.equal(moving_region(flow), expected)
    assert not moving_region(torch.zeros(1, 2, 4, 4)).any()
    assert moving_region(flow, limit=0.4)[0, 5, 0]


def test_the_region_of_a_clip_is_its_own_in_any_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    flow = 4 * torch.randn(6, 2, 24, 24, generator=generator) * (torch.rand(6, 1, 24, 24, generator=generator) < 0.03)
    flow[5] *= 5
    together = moving_region(flow)
    assert not together[0].all()
    assert torch.equal(together, torch.cat([moving_region(one[None]) for one in flow]))


def test_psnr_of_a_region_by_hand() -> None:
    target = torch.full((1, 2, 3, 4, 4), 0.5)
    pred = target.clone()
    pred[0, 0, :, 0, 0] = 0.6
    pred[0, :, :, 3, 3] = 1.0  # outside
    region = torch.zeros(1, 4, 4, dtype=torch.bool)
    region[0, 0, :2] = True
    found = moving_psnr(pred, target, region)
    assert float(found[0, 0]) == pytest.approx(-10 * math.log10(0.005), abs=1e-5)
    assert found[0, 1] == torch.inf
    assert moving_psnr(pred, target, torch.zeros_like(region)).isnan().all()


def test_the_whole_picture_as_region_is_the_plain_metric() -> None:
    pred, target = noise(0, 2, 3, 32, 32), noise(1, 2, 3, 32, 32)
    everything = torch.ones(2, 32, 32, dtype=torch.bool)
    torch.testing.assert_close(moving_psnr(pred, target, everything), psnr(pred, target), rtol=0, atol=1e-10)
    assert torch.equal(moving_lpips(pred, target, everything), lpips(pred, target))
    frames = everything[:, None].repeat(1, 3, 1, 1)
    frames[:, 1:, :16] = False
    some = moving_psnr(pred, target, frames)
    assert torch.equal(some[:, 0], moving_psnr(pred, target, everything)[:, 0])
    torch.testing.assert_close(some[:, 1:], psnr(pred[:, 1:, :, 16:], target[:, 1:, :, 16:]), rtol=0, atol=1e-10)


def test_what_happens_outside_does_not_count_and_what_happens_inside_does() -> None:
    target = noise(0, 1, 2, 32, 32)
    region = torch.zeros(1, 32, 32, dtype=torch.bool)
    region[:, 8:24, 8:24] = True
    outside = torch.where(region[:, None, None], target, noise(1, 1, 2, 32, 32))
    assert moving_lpips(outside, target, region).abs().max() == 0
    assert (moving_psnr(outside, target, region) == torch.inf).all()
    inside = torch.where(region[:, None, None], noise(1, 1, 2, 32, 32), target)
    assert torch.equal(moving_lpips(inside, target, region), lpips(inside, target))
    assert (moving_lpips(inside, target, region) > 0.02).all()


def test_change_by_hand() -> None:
    x0 = torch.full((1, 3, 4, 4), 0.5)
    video = x0[:, None].repeat(1, 3, 1, 1, 1)
    video[0, 1] = 0.75
    video[0, 2, 0] = 0.2
    torch.testing.assert_close(change_from(video, x0), torch.tensor([[0.0, 0.25, 0.1]], dtype=torch.float64))


def test_faulty_input_is_named() -> None:
    video, mask = torch.zeros(1, 2, 3, 8, 8), torch.ones(1, 8, 8, dtype=torch.bool)
    for region in (mask[0], mask.float(), mask[:, :4], mask[:, None]):
        with pytest.raises(VideoError, match="region: expected bool"):
            moving_psnr(video, video, region)
    with pytest.raises(VideoError, match="finite flow"):
        moving_region(torch.full((1, 2, 4, 4), float("nan")))
    with pytest.raises(VideoError, match="x0: expected"):
        change_from(video, video[:, 0, :, :4])
    with pytest.raises(VideoError, match=r"in .0, 1."):
        moving_psnr(video + 2, video, mask)
