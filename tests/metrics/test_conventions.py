"""Each published convention against an outside program, or a slow transcription of its definition."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peers.clips import closed_form_pair, noise
from torch import Tensor
from torch.nn import functional as F

from metrics import frechet_distance, fvd, i3d_logits, lpips, psnr, ssim
from metrics.base import METRICS
from metrics.conventions import CONVENTIONS, convention, try_all
from metrics.conventions_frame import POKING_BATCH
from metrics.conventions_fvd import (
    POKING_CLIPS,
    fp32_svd_distance,
    half_range,
    poking_clips,
    population_distance,
    rounded,
    sqrtm_distance,
    truncated,
    unit_range,
)
from metrics.errors import RegistryError, VideoError
from metrics.psnr import PSNR_CAP, mean_psnr

Array = NDArray[np.float64]


def pair(seed: int = 0, clips: int = 3, frames: int = 2, height: int = 20, width: int = 24) -> tuple[Tensor, Tensor]:
    """Videos of less than the full range, with an error that differs between clips, times and channels."""
    target = 0.1 + 0.7 * noise(seed, clips, frames, height, width)
    weight = torch.linspace(0.05, 0.6, clips * frames * 3).reshape(clips, frames, 3, 1, 1)
    return torch.lerp(target, noise(seed + 1, clips, frames, height, width) * 0.9, weight), target


def images(video: Tensor) -> list[Array]:
    """All frames as float64 `[H, W, 3]`."""
    return list(video.double().flatten(0, 1).permute(0, 2, 3, 1).numpy())


def value(metric: str, name: str, *videos: Tensor) -> float:
    return CONVENTIONS[metric][name].compute(*videos)


def all_of(metric: str, pred: Tensor, target: Tensor) -> dict[str, float | VideoError]:
    """Every convention, by name, as `bench audit` computes them."""
    return {entry.name: found for entry, found in try_all(metric, pred, target)}


# -- the table ---------------------------------------------------------------------------------------------------


def test_every_entry_says_what_it_is() -> None:
    for metric, entries in CONVENTIONS.items():
        assert metric in {name.partition("_")[0] for name in METRICS.names()}
        assert next(iter(entries.values())).used_by.startswith("this package")
        assert len({entry.description for entry in entries.values()}) == len(entries)
        for name, entry in entries.items():
            assert entry.name == name
            assert entry.used_by
            assert "\n" not in entry.description


def test_a_convention_is_found_by_name_and_the_first_is_the_default() -> None:
    assert convention("ssim", "uniform7") is CONVENTIONS["ssim"]["uniform7"]
    assert convention("fvd").name == "tf"
    with pytest.raises(RegistryError, match="no conventions for the metric 'fid'; there are: psnr, ssim, lpips, fvd"):
        convention("fid")
    with pytest.raises(RegistryError, match=r"unknown convention 'box' of ssim; there are: wang, .*uniform7"):
        convention("ssim", "box")


def test_defaults_equal_the_public_functions() -> None:
    pred, target = pair(height=40, width=40)
    assert convention("psnr").compute(pred, target) == mean_psnr(psnr(pred, target))
    assert convention("ssim").compute(pred, target) == float(ssim(pred, target).mean())
    assert convention("lpips").compute(pred, target) == float(lpips(pred, target, "alex").mean())
    assert value("lpips", "vgg", pred, target) == float(lpips(pred, target, "vgg").mean())


@pytest.mark.parametrize("metric", ["psnr", "ssim"])
def test_clips_of_other_shapes_are_refused_by_each(metric: str) -> None:
    pred, target = pair(clips=16)
    for entry in CONVENTIONS[metric].values():
        with pytest.raises(VideoError, match="one shape"):
            entry.compute(pred[:, :1], target)
        with pytest.raises(VideoError, match="NaN"):
            entry.compute(pred * math.nan, target)


# -- PSNR --------------------------------------------------------------------------------------------------------


def db(error: float, data_range: float = 1) -> float:
    return 10 * math.log10(data_range**2 / error)


def test_psnr_pooled_in_five_ways() -> None:
    pred, target = pair()
    error = ((pred.double() - target.double()) ** 2).numpy()
    clips, frames, channels = error.shape[:3]
    by = [(b, t, c) for b in range(clips) for t in range(frames) for c in range(channels)]
    expected = {
        "frame": np.mean([db(error[b, t].mean()) for b in range(clips) for t in range(frames)]),
        "channel": np.mean([db(error[b, t, c].mean()) for b, t, c in by]),
        "time_pooled": np.mean([db(error[:, t].mean()) for t in range(frames)]),
        "video_pooled": np.mean([db(error[b].mean()) for b in range(clips)]),
        "set_pooled": db(error.mean()),
    }
    for name, wanted in expected.items():
        assert value("psnr", name, pred, target) == pytest.approx(wanted, abs=1e-10), name
    assert len({round(v, 6) for v in expected.values()}) == 5, "the set must tell them apart"


def test_psnr_per_channel_equals_scikit_image() -> None:
    from skimage.metrics import peak_signal_noise_ratio

    pred, target = pair()
    pairs = zip(images(pred), images(target), strict=True)
    values = [peak_signal_noise_ratio(t[..., c], p[..., c], data_range=1) for p, t in pairs for c in range(3)]
    assert value("psnr", "channel", pred, target) == pytest.approx(np.mean(values), abs=1e-10)


def test_psnr_of_the_set_equals_torchmetrics() -> None:
    from torchmetrics.functional.image import peak_signal_noise_ratio

    pred, target = pair()
    expected = peak_signal_noise_ratio(pred.double().flatten(0, 1), target.double().flatten(0, 1), data_range=1.0)
    assert value("psnr", "set_pooled", pred, target) == pytest.approx(float(expected), abs=1e-6)


def lightning_batches(pred: Tensor, target: Tensor, score: Callable[[Tensor, Tensor, float], Tensor]) -> float:
    """The loop of the poking papers' evaluation: batches of 16, the last one dropped, the mean of batch scores."""
    scores = []
    for start in range(0, len(pred) - 15, 16):
        p, t = (v[start : start + 16].double().flatten(0, 1) for v in (pred, target))
        scores.append(score(p, t, float(max(t.max() - t.min(), p.max() - p.min()))))
    return float(torch.stack(scores).mean())


def test_psnr_of_the_poking_code() -> None:
    """The formula of pytorch-lightning 0.9: (2 log R - log MSE) 10 / log 10."""
    pred, target = pair(clips=37)

    def score(p: Tensor, t: Tensor, found: float) -> Tensor:
        return (2 * math.log(found) - torch.log(F.mse_loss(p.reshape(-1), t.reshape(-1)))) * (10 / math.log(10))

    assert value("psnr", "poking_batch16", pred, target) == pytest.approx(
        lightning_batches(pred, target, score), abs=1e-9
    )
    assert value("psnr", "poking_batch16", pred, target) == value("psnr", "poking_batch16", pred[:32], target[:32])


def test_identical_videos_count_at_the_cap_in_every_psnr() -> None:
    _, target = pair(clips=16)
    for entry in CONVENTIONS["psnr"].values():
        assert entry.compute(target, target) == PSNR_CAP


# -- SSIM --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("wang", {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}),
        ("gauss_sample", {"gaussian_weights": True, "sigma": 1.5}),
        ("uniform7", {}),
    ],
)
def test_ssim_equals_scikit_image(name: str, options: dict) -> None:
    from skimage.metrics import structural_similarity

    pred, target = pair()
    pairs = zip(images(pred), images(target), strict=True)
    values = [structural_similarity(p, t, channel_axis=-1, data_range=1, **options) for p, t in pairs]
    assert value("ssim", name, pred, target) == pytest.approx(np.mean(values), abs=1e-12)


@pytest.mark.parametrize(
    ("name", "published"), [("wang", 0.85863725), ("gauss_sample", 0.85837970), ("uniform7", 0.84996263)]
)
def test_ssim_of_the_closed_form_pair(name: str, published: float) -> None:
    assert value("ssim", name, *closed_form_pair()) == pytest.approx(published, abs=1e-8)


def test_ssim_with_reflection_equals_torchmetrics() -> None:
    from torchmetrics.functional.image import structural_similarity_index_measure

    pred, target = pair()
    frames = (video.double().flatten(0, 1) for video in (pred, target))
    expected = structural_similarity_index_measure(*frames, data_range=1.0)
    assert value("ssim", "torchmetrics_reflect", pred, target) == pytest.approx(float(expected), abs=1e-10)


def test_ssim_of_the_poking_code() -> None:
    """pytorch-lightning 0.9: depthwise 11 x 11 convolution without padding, constants from the range found."""
    pred, target = pair(clips=33)
    line = torch.exp(-0.5 * ((torch.arange(11, dtype=torch.float64) - 5) / 1.5) ** 2)
    kernel = torch.outer(line / line.sum(), line / line.sum()).expand(3, 1, 11, 11)

    def score(p: Tensor, t: Tensor, found: float) -> Tensor:
        c1, c2 = (0.01 * found) ** 2, (0.03 * found) ** 2
        mp, mt, pp, tt, pt = (F.conv2d(m, kernel, groups=3) for m in (p, t, p * p, t * t, p * t))
        upper = (2 * mp * mt + c1) * (2 * (pt - mp * mt) + c2)
        return (upper / ((mp**2 + mt**2 + c1) * (pp - mp**2 + tt - mt**2 + c2))).mean()

    assert value("ssim", "poking_batch16", pred, target) == pytest.approx(
        lightning_batches(pred, target, score), abs=1e-12
    )


@pytest.mark.parametrize("metric", ["psnr", "ssim"])
def test_poking_batches_need_sixteen_clips_and_contrast(metric: str) -> None:
    pred, target = pair(clips=15)
    with pytest.raises(VideoError, match="whole batches of 16 clips, found 15"):
        value(metric, "poking_batch16", pred, target)
    flat = torch.full((16, 1, 3, 12, 12), 0.5)
    with pytest.raises(VideoError, match="of one value"):
        value(metric, "poking_batch16", flat, flat)


# -- FVD: what the network is fed -----------------------------------------------------------------------------------


def test_eight_bits_rounded_and_truncated() -> None:
    levels = torch.arange(256, dtype=torch.float32).reshape(1, 1, 1, 16, 16).repeat(1, 1, 3, 1, 1) / 255
    for prepare in (rounded, truncated):
        kept, _ = prepare(levels, levels)
        assert (kept * 255).round().equal((levels * 255).round()), "8-bit frames stay what they are"
    video = noise(0, 1, 2, 8, 8)
    assert torch.equal(truncated(video, video)[0] * 255, (video * 255).to(torch.uint8).float())
    assert torch.equal(rounded(video, video)[1] * 255, torch.from_numpy(np.rint(video.numpy() * 255)))


@pytest.mark.parametrize(("clips", "kept"), [(16, 16), (35, 32), (975, 960), (976, 976), (1000, 976)])
def test_the_poking_code_scores_whole_batches_up_to_976_clips(clips: int, kept: int) -> None:
    video = (torch.arange(clips) / clips).reshape(clips, 1, 1, 1, 1).expand(clips, 1, 3, 1, 1)
    pred, target = poking_clips(video, video)
    assert len(pred) == len(target) == kept <= POKING_CLIPS
    assert kept % POKING_BATCH == 0
    assert torch.equal(pred, truncated(video[:kept], video)[0])


def test_the_poking_code_needs_pairs_and_a_batch() -> None:
    video = noise(1, 20, 1, 2, 2)
    with pytest.raises(VideoError, match="whole batches of 16 clips, found 15"):
        poking_clips(video[:15], video[:15])
    with pytest.raises(VideoError, match="found 20 and 19"):
        poking_clips(video, video[:19])


@pytest.mark.parametrize(("prepare", "low", "high"), [(unit_range, 0, 1), (half_range, -0.5, 0.5)])
def test_network_input_of_the_narrow_ranges(prepare: Callable, low: float, high: float) -> None:
    """The network computes 2 x - 1 of what it is given."""
    for prepared in prepare(torch.zeros(1), torch.ones(1)), prepare(torch.zeros(1), torch.ones(1))[::-1][::-1]:
        assert [float(2 * x - 1) for x in prepared] == [low, high]


def repeated(clip: Tensor) -> Tensor:
    return clip.repeat(2, 1, 1, 1, 1)


@pytest.mark.parametrize(("name", "published"), [("tf", 72.44576), ("half_pixel", 78.09192)])
def test_fvd_of_equal_clips_is_the_published_squared_logit_distance(name: str, published: float) -> None:
    first, second = closed_form_pair()
    assert value("fvd", name, repeated(first), repeated(second)) == pytest.approx(published, rel=1e-4)


def test_fvd_with_aligned_corners_equals_torchs_resize() -> None:
    first, second = closed_form_pair()
    large = [
        F.interpolate(clip[0], size=(224, 224), mode="bilinear", align_corners=True)[None].clamp(0, 1)
        for clip in (first, second)
    ]
    expected = float((i3d_logits(large[0]) - i3d_logits(large[1])).double().square().sum())
    assert value("fvd", "align_corners", repeated(first), repeated(second)) == pytest.approx(expected, rel=1e-4)


# -- FVD: how the distance is taken, on made-up features -----------------------------------------------------------


def some_features(n: int, m: int, d: int = 40) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((d, d)) / np.arange(1, d + 1)
    return rng.standard_normal((n, d)) @ mix.T, rng.standard_normal((m, d)) @ mix.T * 1.2 + 0.3


@pytest.mark.parametrize(("n", "m"), [(100, 100), (70, 100)])
def test_population_covariances_by_numpy(n: int, m: int) -> None:
    from scipy.linalg import sqrtm

    a, b = some_features(n, m)
    cov_a, cov_b = (x.T @ x / len(x) - np.outer(x.mean(0), x.mean(0)) for x in (a, b))
    root = np.real(sqrtm(cov_a @ cov_b))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root)
    assert population_distance(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "tolerance"), [(100, 1e-9), (20, 1e-4)])
def test_scipys_root_is_exact_above_full_rank_and_near_below(n: int, tolerance: float) -> None:
    a, b = map(torch.from_numpy, some_features(n, n))
    assert sqrtm_distance(a, b) == pytest.approx(frechet_distance(a, b), rel=tolerance)


def test_float32_roots_by_numpy() -> None:
    """TF-GAN's formula in float32; wrong by more than rounding below full rank, as published programs are.

    It takes roots of what rounding left of zeros, which machines do differently: a root of an error of 6e-8, for each
    of the directions, in proportion to the covariances.
    """
    a, b = (x.astype(np.float32) for x in some_features(20, 20, 200))

    def root(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        u, s, vh = np.linalg.svd(matrix)
        return u @ np.diag(np.where(s < 1e-10, s, np.sqrt(s))) @ vh

    cov_a, cov_b = (np.cov(x, rowvar=False, dtype=np.float32) for x in (a, b))
    trace = np.trace(root(root(cov_a) @ cov_b @ root(cov_a)))
    transcribed = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b) - 2 * trace
    found = fp32_svd_distance(torch.from_numpy(a), torch.from_numpy(b))
    exact = frechet_distance(a, b)
    assert found == pytest.approx(float(transcribed), abs=3e-3 * float(np.trace(cov_a + cov_b)))
    assert 1e-5 < abs(found / exact - 1) < 0.05


# -- all at once -------------------------------------------------------------------------------------------------


def test_conventions_with_one_input_share_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []

    def fake_logits(video: Tensor, *, resize: str) -> Tensor:
        passes.append(resize)
        return video.mean((3, 4)).flatten(1) * {"tf1": 1, "half_pixel": 2, "align_corners": 3}[resize]

    monkeypatch.setattr(importlib.import_module("metrics.conventions_fvd"), "i3d_logits", fake_logits)
    pred, target = pair(clips=34, frames=9)
    found = all_of("fvd", pred, target)
    assert list(found) == list(CONVENTIONS["fvd"])
    assert len(passes) == 2 * 8, "8 inputs for 12 conventions"
    assert found["half_pixel"] == pytest.approx(4 * found["tf"], rel=1e-9)
    assert found["unit_range"] == pytest.approx(found["tf"] / 4, rel=1e-4)
    assert found["half_range"] == pytest.approx(found["tf"] / 4, rel=1e-4)
    assert found["population_covariance"] < found["tf"]
    assert found["poking_976"] == pytest.approx(value("fvd", "truncated_uint8", pred[:32], target[:32]), rel=1e-12)
    for name, entry in CONVENTIONS["fvd"].items():
        assert entry.compute(pred, target) == found[name]


@pytest.mark.parametrize("metric", ["psnr", "ssim"])
def test_all_frame_conventions_at_once(metric: str) -> None:
    pred, target = pair(clips=17)
    expected = {name: entry.compute(pred, target) for name, entry in CONVENTIONS[metric].items()}
    assert all_of(metric, pred, target) == expected


@pytest.mark.filterwarnings("ignore::metrics.fvd.BiasWarning")
def test_the_first_fvd_is_the_public_one() -> None:
    pred, target = noise(2, 3, 9, 24, 24), noise(3, 2, 9, 24, 24)
    assert convention("fvd").compute(pred, target) == pytest.approx(fvd(pred, target).value, rel=1e-9)
    with pytest.raises(VideoError, match="at least 9 frames"):
        convention("fvd").compute(pred[:, :8], target[:, :8])
    with pytest.raises(RegistryError, match="no conventions for the metric 'kvd'"):
        all_of("kvd", pred, target)
