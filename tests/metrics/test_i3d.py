"""I3D logits against the original graph's values, a plain float64 network, and what features must satisfy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from peers import plain_i3d
from peers.clips import closed_form_pair, noise
from peers.plain_i3d import PlainI3D
from torch import Tensor

from metrics.errors import VideoError
from metrics.features import i3d_cpu, i3d_gpu
from metrics.features.i3d import I3D, i3d_logits, widened
from metrics.features.i3d_cpu import I3DForCPU
from metrics.features.i3d_layers import Pool, fold, same_padding
from metrics.resize import Rule, resize_video
from metrics.weights import weights

# TensorFlow's logits, on a CPU in float32, of the clips of `closed_form_pair`.
CLOSED_FORM = {
    "tf1": {
        "norms": (55.35715, 59.85840),
        "largest": (10.21025, 10.66855),
        "first": ((5.50112, 1.93749, 1.18126, 2.01728), (6.06620, 1.91133, 1.25531, 1.71738)),
        "squared_distance": 72.44576,
    },
    "half_pixel": {
        "norms": (54.54662, 59.34681),
        "largest": (10.11869, 10.63678),
        "first": ((5.31900, 1.91160, 1.13290, 2.03355), (6.00647, 1.92734, 1.18055, 1.71365)),
        "squared_distance": 78.09192,
    },
}
FLYING_KITE = 130

# FVD of all-0 against all-255 videos of T frames, by the original graph: the squared distance of their logits.
BLACK_WHITE = {
    **{9: 492.630, 10: 569.772, 11: 486.752, 12: 552.766, 13: 146.515, 14: 172.776, 15: 133.909, 16: 152.902},
    **{17: 357.851, 18: 382.550, 19: 307.215, 20: 338.499, 21: 78.251, 22: 82.537, 23: 64.545, 24: 66.292},
    **{25: 314.498, 26: 316.829, 27: 288.839, 28: 287.707, 29: 152.242, 30: 151.392},
}
QUICK = (9, 10, 13)


@pytest.fixture(scope="module")
def exact_network() -> PlainI3D:
    return PlainI3D({key: value.double() for key, value in weights("i3d-kinetics-400").items()}).double()


def logits_of(network: PlainI3D, video: Tensor) -> Tensor:
    """Of a plain network in float64."""
    return network(resize_video(video.double(), 224).transpose(1, 2) * 2 - 1)


def assert_within_budget(found: Tensor, expected: Tensor) -> None:
    """2e-4 absolute and 1e-5 in relative L2 norm, for each clip."""
    difference = found.double() - expected.double()
    assert difference.abs().max() < 2e-4
    assert (difference.norm(dim=1) / expected.double().norm(dim=1)).max() < 1e-5


@pytest.mark.parametrize("rule", ["tf1", "half_pixel"])
def test_original_logits_of_the_closed_form_pair(rule: Rule) -> None:
    expected = CLOSED_FORM[rule]
    logits = i3d_logits(torch.cat(closed_form_pair()), resize=rule)
    assert logits.shape == (2, 400)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.norm(dim=1), torch.tensor(expected["norms"]), atol=1e-4, rtol=0)
    torch.testing.assert_close(logits[:, :4], torch.tensor(expected["first"]), atol=5e-5, rtol=0)
    largest, where = logits.max(dim=1)
    torch.testing.assert_close(largest, torch.tensor(expected["largest"]), atol=5e-5, rtol=0)
    assert where.tolist() == [FLYING_KITE, FLYING_KITE]
    distance = (logits[0] - logits[1]).double().square().sum().item()
    assert distance == pytest.approx(expected["squared_distance"], abs=1e-3)


@pytest.mark.parametrize(
    "frames", [frames if frames in QUICK else pytest.param(frames, marks=pytest.mark.slow) for frames in BLACK_WHITE]
)
def test_original_distance_of_black_and_white(frames: int) -> None:
    video = torch.stack([torch.zeros(frames, 3, 16, 16), torch.ones(frames, 3, 16, 16)])
    black, white = i3d_logits(video).double()
    assert (black - white).square().sum().item() == pytest.approx(BLACK_WHITE[frames], rel=1e-5, abs=2e-3)


@pytest.mark.parametrize(("frames", "height", "width"), [(9, 64, 64), (10, 72, 96), (13, 224, 224), (16, 64, 64)])
def test_equals_the_plain_network_in_float64(exact_network: PlainI3D, frames: int, height: int, width: int) -> None:
    video = noise(frames, 1, frames, height, width)
    assert_within_budget(i3d_logits(video), logits_of(exact_network, video))


@pytest.mark.slow
@pytest.mark.parametrize("frames", [11, 12, 14, 15, 17, 18, 23, 30])
def test_equals_the_plain_network_in_float64_for_other_lengths(exact_network: PlainI3D, frames: int) -> None:
    video = noise(frames, 1, frames, 64, 64)
    assert_within_budget(i3d_logits(video), logits_of(exact_network, video))


def test_equals_the_plain_network_on_strong_contrast(exact_network: PlainI3D) -> None:
    t, y, x = torch.meshgrid(torch.arange(10.0), torch.arange(128.0), torch.arange(128.0), indexing="ij")
    grating = (torch.sin(0.5 * x - 0.3 * y + 1.1 * t) > 0).float()[None, :, None].repeat(1, 1, 3, 1, 1)
    expected = logits_of(exact_network, grating)
    assert expected.abs().max() > 30
    assert_within_budget(i3d_logits(grating), expected)


@pytest.mark.parametrize("frames", [9, 10, *(pytest.param(frames, marks=pytest.mark.slow) for frames in (11, 16))])
def test_the_arrangement_for_gpus_equals_the_plain_network(exact_network: PlainI3D, frames: int) -> None:
    video = noise(frames + 40, 2, frames, 64, 64)
    network = I3D(fold(weights("i3d-kinetics-400")))
    with torch.no_grad():
        assert_within_budget(network(resize_video(video, 224)), logits_of(exact_network, video))


def test_the_arrangement_for_gpus_takes_many_frames_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from metrics.features import i3d

    parts: list[int] = []
    monkeypatch.setattr(I3D, "_clips", lambda self, video: parts.append(len(video)) or video[:, 0, 0, 0, :1])
    network = I3D(fold(weights("i3d-kinetics-400")))
    video = torch.arange(5.0).view(5, 1, 1, 1, 1).expand(5, 9, 3, 2, 2)
    monkeypatch.setattr(i3d, "PASS_FRAMES", 18)
    assert network(video).flatten().tolist() == [0, 1, 2, 3, 4]
    assert parts == [2, 2, 1]
    monkeypatch.setattr(i3d, "PASS_FRAMES", 1)
    assert len(network(video)) == 5
    assert parts[3:] == [1] * 5


@pytest.mark.slow
def test_half_precision_is_near_and_labelled_by_its_error() -> None:
    video = noise(8, 1, 9, 64, 64)
    network = I3D(fold(weights("i3d-kinetics-400")), half=True)
    with torch.no_grad():
        found = network(resize_video(video, 224))
    assert found.dtype == torch.float32
    expected = i3d_logits(video)
    assert 1e-5 < (found - expected).norm() / expected.norm() < 5e-3


def test_logits_do_not_depend_on_batch_or_threads() -> None:
    video = noise(1, 5, 9, 48, 48)
    threads = torch.get_num_threads()
    found = []
    try:
        for count, batch_size in ((1, 1), (1, 8), (2, 3), (5, 8)):
            torch.set_num_threads(count)
            found.append(i3d_logits(video, batch_size=batch_size))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    for logits in found[1:]:
        assert_within_budget(logits, found[0])
        torch.testing.assert_close(logits, found[0], atol=3e-5, rtol=0)


def test_folding_keeps_float64_and_every_layer() -> None:
    tensors = weights("i3d-kinetics-400")
    folded = fold(tensors)
    assert len(folded) == 58
    name = "Mixed_4c.Branch_1.Conv3d_0b_3x3"
    x = noise(2, 1, 3, 5, 5).double().mean(2, keepdim=True).transpose(1, 2).repeat(1, 112, 1, 1, 1)
    weight, bias = folded[name]
    plain = torch.nn.functional.conv3d(x, tensors[f"{name}.weight"].double())
    scale = 1 / torch.sqrt(tensors[f"{name}.var"].double() + 0.001)
    shaped = (slice(None), None, None, None)
    expected = (plain - tensors[f"{name}.mean"].double()[shaped]) * scale[shaped] + tensors[f"{name}.beta"][shaped]
    torch.testing.assert_close(torch.nn.functional.conv3d(x, weight, bias), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(
    ("n", "size", "stride", "expected"),
    [
        *((224, 7, 2, (2, 3)), (10, 7, 2, (2, 3)), (9, 7, 2, (3, 3)), (112, 3, 2, (0, 1)), (5, 3, 2, (1, 1))),
        *((5, 2, 2, (0, 1)), (6, 2, 2, (0, 0)), (14, 3, 1, (1, 1)), (2, 3, 1, (1, 1)), (1, 2, 2, (0, 1))),
    ],
)
def test_same_padding(n: int, size: int, stride: int, expected: tuple[int, int]) -> None:
    assert same_padding(n, size, stride) == expected


@pytest.mark.parametrize(
    "pool",
    [
        *(Pool((1, 3, 3), (1, 2, 2)), Pool((3, 3, 3), (2, 2, 2))),
        *(Pool((2, 2, 2), (2, 2, 2)), Pool((3, 3, 3), (1, 1, 1))),
    ],
)
@pytest.mark.parametrize("sides", [(1, 2, 3), (2, 5, 8), (3, 4, 4), (5, 7, 7), (6, 14, 14)])
def test_max_pools_pad_like_the_plain_network(pool: Pool, sides: tuple[int, int, int]) -> None:
    x = torch.rand(2, 4, *sides, generator=torch.Generator().manual_seed(sum(sides)))
    expected = plain_i3d.Pool(pool.size, pool.stride)(x)
    rows_first = x.permute(3, 0, 2, 4, 1).contiguous()
    assert torch.equal(i3d_cpu.max_pool(rows_first, pool).permute(1, 4, 2, 0, 3), expected)
    pooled = i3d_gpu.max_pool(x.permute(0, 2, 3, 4, 1).contiguous(), pool)
    assert pooled.is_contiguous()
    assert torch.equal(pooled.permute(0, 4, 1, 2, 3), expected)


def random_layer(seed: int, outputs: int, inputs: int, size: int) -> tuple[Tensor, Tensor]:
    """A layer in float64."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, size, size, size, generator=generator, dtype=torch.float64)
    return weight, torch.randn(outputs, generator=generator, dtype=torch.float64)


def plain_layer(x: Tensor, layer: tuple[Tensor, Tensor], stride: int = 1) -> Tensor:
    """ReLU of the convolution of `[B, T, H, W, C]`, in which nothing is rearranged."""
    padded = plain_i3d.same_pad(x.permute(0, 4, 1, 2, 3), layer[0].shape[2:], (stride,) * 3)
    return torch.nn.functional.conv3d(padded, *layer, stride).relu().permute(0, 2, 3, 4, 1)


@pytest.mark.parametrize(
    "sides", [(9, 16, 16), (10, 16, 16), (11, 13, 14), (16, 14, 13), (12, 15, 17), (13, 6, 5), (2, 3, 2), (1, 1, 1)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_first_convolution_equals_a_plain_one(sides: tuple[int, int, int], dtype: torch.dtype) -> None:
    frames, height, width = sides
    layer = random_layer(1, 8, 3, 7)
    video = torch.rand(2, frames, 3, height, width, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = plain_layer((2 * video - 1).permute(0, 1, 3, 4, 2), layer, stride=2)
    found = i3d_gpu.FirstConv(layer, dtype)(video)
    assert found.is_contiguous()
    assert found.dtype == dtype
    assert 0.2 < (found > 0).float().mean() < 0.8
    tolerance = 1e-11 if dtype == torch.float64 else 2e-4
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=0)


def test_the_first_convolution_in_half_precision_sees_the_video_rounded_once() -> None:
    video = torch.rand(1, 9, 3, 12, 12, generator=torch.Generator().manual_seed(3))
    blocks = i3d_gpu.blocks(video, torch.float16)
    exact = i3d_gpu.blocks(video.double(), torch.float64)
    assert torch.equal(blocks, exact.half())
    assert torch.equal(i3d_gpu.windows(blocks), i3d_gpu.windows(exact).half())


@pytest.mark.parametrize("size", [1, 3])
def test_layers_for_gpus_equal_plain_ones(size: int) -> None:
    layer = random_layer(size, 6, 5, size)
    x = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    found = (i3d_gpu.PointConv if size == 1 else i3d_gpu.Conv)(layer, torch.float64)(x)
    assert found.is_contiguous()
    torch.testing.assert_close(found, plain_layer(x, layer), atol=1e-12, rtol=0)


def test_a_product_with_its_relu_does_without_pytorchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = i3d_gpu.PointConv(random_layer(5, 6, 5, 1), torch.float64)
    x = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    expected = layer(x)
    monkeypatch.delattr(torch, "_addmm_activation")
    torch.testing.assert_close(layer(x), expected, atol=1e-12, rtol=0)


def test_channels_of_zeros_between_layers_change_nothing() -> None:
    first, second = random_layer(7, 5, 4, 1), random_layer(8, 3, 5, 3)
    wide_first, wide_second = widened(first, second, 8)
    assert (len(wide_first[0]), len(wide_first[1]), wide_second[0].shape[1]) == (8, 8, 8)
    x = torch.randn(1, 2, 4, 4, 4, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    expected = plain_layer(plain_layer(x, first), second)
    torch.testing.assert_close(plain_layer(plain_layer(x, wide_first), wide_second), expected, atol=1e-12, rtol=0)
    assert [len(bias) for _, bias in widened(wide_first, wide_second, 8)] == [8, 3]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_parts_are_joined_side_by_side(dtype: torch.dtype) -> None:
    parts = [torch.randn(2, 3, 2, 2, channels).to(dtype) for channels in (8, 24, 16)]
    assert torch.equal(i3d_gpu.side_by_side(parts), torch.cat(parts, dim=-1))


def no_engine(*_: object) -> Tensor:
    raise RuntimeError("GET was unable to find an engine to execute this computation")


def test_cudnns_fused_convolution_is_used_only_where_it_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1, 4, 3, 3, 3, generator=torch.Generator().manual_seed(10))
    weight, bias = (part.float() for part in random_layer(11, 8, 4, 3))
    right = torch.nn.functional.conv3d(x, weight, bias, padding=1).relu()
    nothing_in_it = torch.where(torch.arange(3) > 1, torch.zeros(()), right)

    def verdict(engine: Callable[..., Tensor]) -> bool:
        monkeypatch.setattr(i3d_gpu, "_FUSED", {})
        monkeypatch.setattr(torch, "cudnn_convolution_relu", engine)
        return i3d_gpu.fused_is_sound(x, weight, bias, 1)

    assert verdict(lambda *_: right * 1.001)
    assert not verdict(lambda *_: right * torch.nan)
    assert not verdict(lambda *_: nothing_in_it)
    assert not verdict(no_engine)
    monkeypatch.setattr(torch, "cudnn_convolution_relu", lambda *_: right)
    assert not i3d_gpu.fused_is_sound(x, weight, bias, 1)  # it is asked once


def test_too_few_frames_and_other_bad_input_get_a_clear_error() -> None:
    with pytest.raises(VideoError, match="expected at least 9 frames, found 8"):
        i3d_logits(noise(3, 1, 8, 16, 16))
    with pytest.raises(VideoError, match='"fast" is half precision on a GPU; the video is on cpu'):
        i3d_logits(noise(3, 1, 9, 16, 16), mode="fast")
    with pytest.raises(VideoError, match="expected one of exact, fast, found 'bf16'"):
        i3d_logits(noise(3, 1, 9, 16, 16), mode="bf16")
    with pytest.raises(VideoError, match="batch_size: expected at least 1, found 0"):
        i3d_logits(noise(3, 1, 9, 16, 16), batch_size=0)
    with pytest.raises(VideoError, match="divide by 255"):
        i3d_logits(noise(3, 1, 9, 16, 16) * 255)
    with pytest.raises(VideoError, match="unknown rule"):
        i3d_logits(noise(3, 1, 9, 16, 16), resize="nearest")  # type: ignore[arg-type]


def test_settings_of_the_caller_neither_matter_nor_change() -> None:
    video = noise(4, 2, 9, 32, 32).requires_grad_()
    expected = i3d_logits(video.detach())
    switches = (torch.backends.mkldnn.conv, torch.backends.mkldnn.matmul, torch.backends.cudnn.conv)
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch, precision in zip(switches, ("bf16", "bf16", "tf32"), strict=True):
            switch.fp32_precision = precision
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = i3d_logits(video)
        assert [switch.fp32_precision for switch in switches] == ["bf16", "bf16", "tf32"]
    finally:
        for switch, precision in zip(switches, before, strict=True):
            switch.fp32_precision = precision
    assert torch.is_grad_enabled()
    assert not found.requires_grad
    torch.testing.assert_close(found, expected, atol=3e-5, rtol=0)


def test_takes_other_float_types() -> None:
    video = noise(5, 1, 9, 32, 32)
    torch.testing.assert_close(i3d_logits(video.double()), i3d_logits(video), atol=1e-6, rtol=0)
    assert i3d_logits(video.half()).dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_logits_are_exact_and_fast_ones_close() -> None:
    video = torch.cat([*closed_form_pair(), noise(6, 3, 10, 64, 64)])
    expected = i3d_logits(video)
    before = torch.backends.cudnn.conv.fp32_precision
    found = i3d_logits(video.cuda())
    assert found.is_cuda
    assert torch.backends.cudnn.conv.fp32_precision == before
    assert_within_budget(found.cpu(), expected)
    torch.full((2**29,), torch.nan, dtype=torch.float16, device="cuda")  # freed at once: what new results lie on
    fast = i3d_logits(video.cuda(), mode="fast").cpu()
    relative = (fast - expected).norm(dim=1) / expected.norm(dim=1)
    assert 1e-5 < relative.max() < 5e-3
    one_by_one = i3d_logits(video.cuda(), batch_size=1).cpu()
    assert_within_budget(one_by_one, expected)


def test_the_network_is_built_once_and_holds_no_gradient() -> None:
    network = I3DForCPU(fold(weights("i3d-kinetics-400")))
    assert not list(network.parameters())
    assert not any(buffer.requires_grad for buffer in network.buffers())
    from metrics.features import i3d

    video = noise(7, 1, 9, 16, 16)
    i3d_logits(video)
    first = i3d._network(video.device, "exact", None)
    assert i3d._network(video.device, "exact", None) is first
