"""How published programs computed these metrics: named conventions, each one runnable.

A number from a paper can be compared with another only if both were computed in one way. Each entry computes
one metric in one way that was published, on the same videos, so that the effect of the choice can be measured.
The first entry of each metric is the one that this package uses everywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from metrics.conventions_frame import (
    GAUSS_SAMPLE,
    UNIFORM7,
    psnr_poking,
    psnr_pooled,
    ssim_poking,
    ssim_reflect,
    ssim_window,
)
from metrics.conventions_fvd import (
    FVDRecipe,
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
from metrics.lpips import lpips
from metrics.psnr import PSNR_CAP, mean_psnr, psnr
from metrics.ssim import ssim

Compute = Callable[[Tensor, Tensor], float]


@dataclass(frozen=True)
class Convention:
    """One published way to compute one metric.

    Attributes:
        name: identifier.
        description: the definition in one line.
        used_by: programs or papers that compute it so.
        compute: (pred, target), both float `[N, T, 3, H, W]` in [0, 1], to the value. Raises VideoError as the
            metric itself, and when there are too few clips for the convention.
    """

    name: str
    description: str
    used_by: str
    compute: Compute


def convention(metric: str, name: str = "") -> Convention:
    """The convention `name` of `metric`; without a name, the one that this package uses.

    Raises:
        RegistryError: there is no such metric or convention; the message lists what there is.
    """
    if metric not in CONVENTIONS:
        raise RegistryError(f"no conventions for the metric {metric!r}; there are: {', '.join(CONVENTIONS)}")
    found = CONVENTIONS[metric]
    if name and name not in found:
        raise RegistryError(f"unknown convention {name!r} of {metric}; there are: {', '.join(found)}")
    return found[name] if name else next(iter(found.values()))


def try_all(metric: str, pred: Tensor, target: Tensor) -> Iterator[tuple[Convention, float | VideoError]]:
    """Every convention of `metric` on a pair of video sets, one after the other; the reason where one cannot take them.

    FVD conventions that feed the network the same input share one pass through it.

    Raises:
        RegistryError: no conventions for `metric`.
    """
    convention(metric)
    compute = _sharing(pred, target)
    for entry in CONVENTIONS[metric].values():
        try:
            yield entry, compute(entry)
        except VideoError as error:
            yield entry, error


def _sharing(pred: Tensor, target: Tensor) -> Callable[[Convention], float]:
    """Computes conventions of one pair; FVD conventions share the features of equal network inputs."""
    features: dict[tuple, tuple[Tensor, Tensor]] = {}

    def compute(entry: Convention) -> float:
        if not isinstance(entry.compute, FVDRecipe):
            return entry.compute(pred, target)
        key = entry.compute.input_key
        if key not in features:
            features[key] = entry.compute.features(pred, target)
        return entry.compute.distance(*features[key])

    return compute


_CAPPED = f"; values above {PSNR_CAP:g} dB count as {PSNR_CAP:g}"


def _table(*entries: Convention) -> dict[str, Convention]:
    return {entry.name: entry for entry in entries}


CONVENTIONS: dict[str, dict[str, Convention]] = {
    "psnr": _table(
        Convention(
            "frame",
            "mean over frames of the PSNR of each frame, range 1" + _CAPPED,
            "this package, SAVP",
            lambda pred, target: mean_psnr(psnr(pred, target)),
        ),
        Convention(
            "channel",
            "mean over frames and channels of the PSNR of each channel, range 1" + _CAPPED,
            "SRVP",
            psnr_pooled(),
        ),
        Convention(
            "time_pooled",
            "PSNR of the squared error pooled over all clips at one time, mean over time, range 1" + _CAPPED,
            "Hao et al.",
            psnr_pooled(0, 2),
        ),
        Convention(
            "video_pooled",
            "PSNR of the squared error pooled over a clip, mean over clips, range 1" + _CAPPED,
            "programs that hand a whole clip to a PSNR function",
            psnr_pooled(1, 2),
        ),
        Convention(
            "set_pooled",
            "PSNR of the squared error pooled over everything, range 1" + _CAPPED,
            "torchmetrics PeakSignalNoiseRatio as it comes",
            psnr_pooled(0, 1, 2),
        ),
        Convention(
            "poking_batch16",
            "PSNR of the squared error pooled over 16 clips, range found in them, mean over batches, rest dropped"
            + _CAPPED,
            "interactive image-to-video synthesis (CVPR 2021), through pytorch-lightning 0.9",
            psnr_poking,
        ),
    ),
    "ssim": _table(
        Convention(
            "wang",
            "11x11 Gaussian, sigma 1.5, positions inside the frame, population statistics, range 1",
            "this package, Wang et al., SAVP, SRVP",
            lambda pred, target: float(ssim(pred, target).mean()),
        ),
        Convention(
            "gauss_sample",
            "as wang, with sample covariances (times 121/120)",
            "scikit-image with gaussian_weights=True alone",
            ssim_window(GAUSS_SAMPLE),
        ),
        Convention(
            "uniform7",
            "7x7 box, sample covariances (times 49/48), range 1",
            "scikit-image as it comes; Hao et al.",
            ssim_window(UNIFORM7),
        ),
        Convention(
            "torchmetrics_reflect",
            "as wang, on frames padded by reflection, every pixel counts",
            "torchmetrics 1.9",
            ssim_reflect,
        ),
        Convention(
            "poking_batch16",
            "as wang, with the range found in 16 clips, mean over batches, rest dropped",
            "interactive image-to-video synthesis (CVPR 2021), through pytorch-lightning 0.9",
            ssim_poking,
        ),
    ),
    "lpips": _table(
        Convention(
            "alex",
            "LPIPS v0.1, AlexNet, mean over frames",
            "this package, SAVP, SRVP",
            lambda pred, target: float(lpips(pred, target, "alex").mean()),
        ),
        Convention(
            "vgg",
            "LPIPS v0.1, VGG16, mean over frames",
            "interactive image-to-video synthesis (CVPR 2021)",
            lambda pred, target: float(lpips(pred, target, "vgg").mean()),
        ),
    ),
    "fvd": _table(
        Convention(
            "tf",
            "TF1 bilinear resize to 224, input in [-1, 1], covariances / (N - 1), float64",
            "this package, the original program (Unterthiner et al.)",
            FVDRecipe(),
        ),
        Convention(
            "half_pixel",
            "bilinear resize with half-pixel centres",
            "VideoGPT, common_metrics, anything on TensorFlow 2's resize",
            FVDRecipe(resize="half_pixel"),
        ),
        Convention(
            "align_corners",
            "bilinear resize with aligned corners",
            "iPOKE (which has other weights too)",
            FVDRecipe(resize="align_corners"),
        ),
        Convention(
            "population_covariance",
            "covariances / N",
            "StyleGAN-V",
            FVDRecipe(distance=population_distance),
        ),
        Convention(
            "half_pixel_population",
            "half-pixel resize and covariances / N",
            "cd-fvd",
            FVDRecipe(resize="half_pixel", distance=population_distance),
        ),
        Convention(
            "scipy_sqrtm",
            "real part of scipy's matrix root of S1 S2, float64",
            "StyleGAN-V, cd-fvd, common_metrics",
            FVDRecipe(distance=sqrtm_distance),
        ),
        Convention(
            "fp32_svd_root",
            "the original's formula with matrix roots by SVD in float32",
            "VideoGPT and copies",
            FVDRecipe(distance=fp32_svd_distance),
        ),
        Convention(
            "unit_range",
            "network input in [0, 1] instead of [-1, 1]",
            "iPOKE (which has other weights too)",
            FVDRecipe(prepare=unit_range),
        ),
        Convention(
            "half_range",
            "network input in [-0.5, 0.5] instead of [-1, 1]",
            "VideoGPT as released",
            FVDRecipe(prepare=half_range),
        ),
        Convention(
            "rounded_uint8",
            "frames rounded to 8 bits",
            "programs that store rounded predictions",
            FVDRecipe(prepare=rounded),
        ),
        Convention(
            "truncated_uint8",
            "frames truncated to 8 bits",
            "interactive image-to-video synthesis (CVPR 2021); SRVP (which adds the context frames)",
            FVDRecipe(prepare=truncated),
        ),
        Convention(
            "poking_976",
            "frames truncated to 8 bits, whole batches of 16 clips, at most 976",
            "interactive image-to-video synthesis (CVPR 2021)",
            FVDRecipe(prepare=poking_clips),
        ),
    ),
}
