"""LPIPS against the `lpips` package on the same trunks, published values, and what a distance must satisfy."""

from __future__ import annotations

import importlib

import pytest
import torch
from peers.clips import closed_form_pair, noise
from peers.official_lpips import official_lpips
from torch import Tensor

from metrics.errors import VideoError
from metrics.features.lpips_trunks import MIN_SIDE, LPIPSTrunk, Net
from metrics.lpips import LPIPSVGG, LPIPSAlex, lpips
from metrics.weights import weights

NETS: tuple[Net, ...] = ("alex", "vgg")
METRICS = {"alex": LPIPSAlex, "vgg": LPIPSVGG}

# Of the lpips package 0.1.4 on the frames of `closed_form_pair`.
PUBLISHED = {
    "alex": [0.008536, 0.010323, 0.012300, 0.015536, 0.018235, 0.022229, 0.026603, 0.031727, 0.036814, 0.041788],
    "vgg": [0.022223, 0.029580, 0.038169, 0.046930, 0.056616, 0.067674, 0.079836, 0.091053, 0.102308, 0.114452],
}
BLACK_WHITE = {"alex": 0.813954, "vgg": 0.453837}


def smooth(seed: int, batch: int, frames: int, height: int, width: int) -> Tensor:
    """Blobs of colour, closer to pictures than noise is."""
    coarse = noise(seed, batch * frames, 1, 6, 6)[:, 0]
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return fine.view(batch, frames, 3, height, width)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (33, 47), (40, 97), (128, 72)])
def test_equals_the_lpips_package(net: Net, height: int, width: int) -> None:
    pred, target = smooth(1, 1, 3, height, width), smooth(2, 1, 3, height, width)
    expected = official_lpips(net)(pred[0], target[0], normalize=True).flatten()
    assert expected.min() > 0.05
    torch.testing.assert_close(lpips(pred, target, net=net)[0].float(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("net", NETS)
def test_equals_the_lpips_package_near_zero_distance(net: Net) -> None:
    target = smooth(3, 1, 2, 64, 64)
    pred = (target + 0.01 * (noise(4, 1, 2, 64, 64) - 0.5)).clamp(0, 1)
    expected = official_lpips(net)(pred[0], target[0], normalize=True).flatten()
    torch.testing.assert_close(lpips(pred, target, net=net)[0].float(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("net", NETS)
def test_published_values_of_the_closed_form_pair(net: Net) -> None:
    found = lpips(*closed_form_pair(), net=net)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, torch.tensor([PUBLISHED[net]], dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("net", NETS)
def test_black_against_white(net: Net) -> None:
    black, white = torch.zeros(1, 1, 3, 64, 64), torch.ones(1, 1, 3, 64, 64)
    assert lpips(black, white, net=net).item() == pytest.approx(BLACK_WHITE[net], abs=2e-6)


@pytest.mark.parametrize("net", NETS)
def test_is_zero_for_equal_frames_symmetric_and_larger_for_worse_frames(net: Net) -> None:
    target, other = smooth(5, 2, 2, 64, 64), noise(6, 2, 2, 64, 64)
    assert torch.equal(lpips(target, target, net=net), torch.zeros(2, 2, dtype=torch.float64))
    torch.testing.assert_close(lpips(target, other, net=net), lpips(other, target, net=net), atol=1e-7, rtol=0)
    values = [lpips(torch.lerp(target, other, share), target, net=net).mean() for share in (0.1, 0.3, 0.9)]
    assert 0 < values[0] < values[1] < values[2]
    assert not METRICS[net].card.higher_is_better


@pytest.mark.parametrize("net", NETS)
def test_one_reference_serves_many_predictions(net: Net) -> None:
    target = smooth(7, 2, 3, 64, 64)
    metric = METRICS[net]()
    reference = metric.reference(target)
    assert reference.shape[:2] == (2, 3)
    for seed in (8, 9):
        pred = smooth(seed, 2, 3, 64, 64)
        torch.testing.assert_close(metric.score(pred, reference), lpips(pred, target, net=net), atol=1e-7, rtol=0)


def test_feature_lengths_are_as_documented() -> None:
    assert LPIPSTrunk("alex")(noise(1, 1, 1, 64, 64)[0]).shape == (1, 31_872)
    assert LPIPSTrunk("vgg")(noise(1, 1, 1, 64, 64)[0]).shape == (1, 499_712)


def test_values_do_not_depend_on_chunks_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    pred, target = smooth(10, 2, 5, 64, 64), smooth(11, 2, 5, 64, 64)
    threads = torch.get_num_threads()
    found = []
    try:
        for count, chunk in ((1, 2**18), (1, 2 * 64**2), (3, 1)):
            torch.set_num_threads(count)
            # The package's attribute of this name is the function, so the module is asked for by its full name.
            monkeypatch.setattr(importlib.import_module("metrics.lpips"), "CHUNK_PIXELS", {"alex": chunk})
            found.append(lpips(pred, target))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    for values in found[1:]:
        torch.testing.assert_close(values, found[0], atol=1e-7, rtol=0)


@pytest.mark.parametrize("net", NETS)
def test_heads_are_those_of_the_lpips_package_and_positive(net: Net) -> None:
    official = official_lpips(net)
    for level, head in enumerate(official.lins):
        ours = weights({"alex": "lpips-alexnet", "vgg": "lpips-vgg16"}[net])[f"heads.{level}.weight"]
        assert torch.equal(ours, head.model[-1].weight)
        assert ours.min() >= 0


@pytest.mark.parametrize("net", NETS)
def test_the_smallest_side_is_the_smallest_that_the_package_takes(net: Net) -> None:
    side = MIN_SIDE[net]
    frames = noise(12, 2, 1, side, side)[:, 0]
    expected = official_lpips(net)(frames[:1], frames[1:], normalize=True).item()
    assert lpips(frames[None, :1], frames[None, 1:], net=net).item() == pytest.approx(expected, abs=1e-5)
    small = noise(13, 1, 1, side - 1, side + 8)
    with pytest.raises(RuntimeError, match="too small"):
        official_lpips(net)(small[0], small[0])
    with pytest.raises(VideoError, match=f"at least {side} x {side} px"):
        lpips(small, small, net=net)
    with pytest.raises(VideoError, match=f"at least {side} x {side} px"):
        METRICS[net]().reference(small)


def test_bad_input_gets_a_clear_error() -> None:
    good = noise(14, 1, 2, 64, 64)
    with pytest.raises(VideoError, match=r"map \[-1, 1\] to \[0, 1\]"):
        lpips(2 * good - 1, good)
    with pytest.raises(VideoError, match="one shape"):
        lpips(good, good[:, :1])
    with pytest.raises(VideoError, match="expected one of alex, vgg, found 'squeeze'"):
        lpips(good, good, net="squeeze")  # type: ignore[arg-type]
    metric = LPIPSAlex()
    reference = metric.reference(good)
    with pytest.raises(VideoError, match=r"\[B, T\] = \[1, 2\]"):
        metric.score(good[:, :1], reference)
    with pytest.raises(VideoError, match="as large as its target"):
        metric.score(noise(14, 1, 2, 96, 96), reference)


def test_leaves_gradients_and_precision_settings_alone() -> None:
    video = noise(15, 1, 1, 64, 64).requires_grad_()
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = lpips(video, 1 - video.detach())
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    assert not found.requires_grad
    assert torch.is_grad_enabled()
    torch.testing.assert_close(found, lpips(video.detach(), 1 - video.detach()), atol=1e-7, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("net", NETS)
def test_gpu_equals_cpu(net: Net) -> None:
    pred, target = smooth(16, 2, 4, 64, 64), smooth(17, 2, 4, 64, 64)
    expected = lpips(pred, target, net=net)
    found = lpips(pred.cuda(), target.cuda(), net=net)
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), expected, atol=1e-5, rtol=0)
    metric = METRICS[net](device="cuda")
    torch.testing.assert_close(metric.score(pred, metric.reference(target)).cpu(), expected, atol=1e-5, rtol=0)
