"""Exact video metrics, usable on their own: `from metrics import psnr, ssim, lpips, fvd, kvd`.

Videos are float tensors `[B, T, 3, H, W]`, RGB, in [0, 1], on any device.
"""

from metrics.errors import PokeBenchError, VideoError, WeightsError
from metrics.features.i3d import i3d_logits
from metrics.frechet import frechet_distance
from metrics.fvd import fvd
from metrics.kvd import kvd
from metrics.lpips import lpips
from metrics.psnr import psnr
from metrics.ssim import ssim

__all__ = [
    "PokeBenchError",
    "VideoError",
    "WeightsError",
    "frechet_distance",
    "fvd",
    "i3d_logits",
    "kvd",
    "lpips",
    "psnr",
    "ssim",
]
