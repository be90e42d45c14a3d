"""The parts in which published FVD programs differ: what the network is fed, and how the distance is taken."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metrics import eight_bits
from metrics.conventions_frame import POKING_BATCH
from metrics.errors import VideoError
from metrics.features.i3d import i3d_logits
from metrics.frechet import distance_of_moments, feature_matrix, frechet_distance, moments
from metrics.fvd import check_sets
from metrics.resize import Rule

POKING_CLIPS = 976
_SVD_EPSILON = 1e-10


def unchanged(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets as they are."""
    return pred, target


def unit_range(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Videos for which the network, which computes 2 x - 1, gets the pixel values x in [0, 1] themselves."""
    return (pred + 1) / 2, (target + 1) / 2


def half_range(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Videos for which the network, which computes 2 x - 1, gets x - 0.5."""
    return (pred + 0.5) / 2, (target + 0.5) / 2


def rounded(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets rounded to 8 bits."""
    return eight_bits.rounded(pred), eight_bits.rounded(target)


def truncated(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets truncated to 8 bits; a value within 0.001 of a level keeps it, so 8-bit frames do not change."""
    return eight_bits.truncated(pred), eight_bits.truncated(target)


def poking_clips(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The first 976 clips, or as many whole batches of 16 as there are, truncated to 8 bits.

    Raises:
        VideoError: sets of unequal size, or fewer than 16 clips.
    """
    if len(pred) != len(target):
        raise VideoError(f"poking_976 pairs each prediction with its target, found {len(pred)} and {len(target)}")
    count = min(len(pred) // POKING_BATCH * POKING_BATCH, POKING_CLIPS)
    if count == 0:
        raise VideoError(f"poking_976 takes whole batches of {POKING_BATCH} clips, found {len(pred)} clips")
    return truncated(pred[:count], target[:count])


def population_distance(pred: Tensor, target: Tensor) -> float:
    """The Frechet distance with covariances divided by N."""
    (mean_a, factor_a), (mean_b, factor_b) = (moments(feature_matrix(x)) for x in (pred, target))
    shrink_a, shrink_b = (((len(x) - 1) / len(x)) ** 0.5 for x in (pred, target))
    return distance_of_moments((mean_a, factor_a * shrink_a), (mean_b, factor_b * shrink_b))


def sqrtm_distance(pred: Tensor, target: Tensor) -> float:
    """The Frechet distance from the real part of scipy's square root of S1 S2, covariances / (N - 1), float64."""
    from scipy.linalg import LinAlgWarning, sqrtm

    a, b = (feature_matrix(x).double().numpy() for x in (pred, target))
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)  # singular for N <= 400, which those programs ignore
        root = sqrtm(cov_a @ cov_b)
    shift = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return float(np.real(shift + np.trace(cov_a + cov_b - 2 * root)))


def fp32_svd_distance(pred: Tensor, target: Tensor) -> float:
    """The Frechet distance by TF-GAN's formula, Tr (A S2 A)^1/2 with A = S1^1/2, every step in float32."""
    a, b = (feature_matrix(x).float() for x in (pred, target))
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    root_a = _svd_root(cov_a)
    cross = torch.trace(_svd_root(root_a @ (cov_b @ root_a)))
    shift = (a.mean(0) - b.mean(0)).square().sum()
    return float(shift + torch.trace(cov_a + cov_b) - 2 * cross)


def _svd_root(matrix: Tensor) -> Tensor:
    u, s, vh = torch.linalg.svd(matrix)
    return u @ torch.diag(torch.where(s < _SVD_EPSILON, s, s.sqrt())) @ vh


@dataclass(frozen=True)
class FVDRecipe:
    """One way to compute FVD; called with (pred, target), it returns the value.

    Attributes:
        prepare: the two sets of videos to those that the network sees.
        resize: rule of the resize to 224 px.
        distance: of the two sets of logits.
    """

    prepare: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = unchanged
    resize: Rule = "tf1"
    distance: Callable[[Tensor, Tensor], float] = frechet_distance

    @property
    def input_key(self) -> tuple:
        """Equal for recipes with equal features."""
        return self.prepare, self.resize

    def features(self, pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `[N, 400]` and `[M, 400]`."""
        check_sets(pred, target)
        first, second = self.prepare(pred, target)
        return i3d_logits(first, resize=self.resize), i3d_logits(second, resize=self.resize)

    def __call__(self, pred: Tensor, target: Tensor) -> float:
        return self.distance(*self.features(pred, target))
