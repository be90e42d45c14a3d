"""Every sanity value that can be checked offline: what is expected, what is measured here, and the error budget."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metrics.features.i3d import i3d_logits
from metrics.features.lpips_trunks import Net
from metrics.frechet import frechet_distance
from metrics.lpips import lpips
from metrics.psnr import psnr
from metrics.resize import Rule
from metrics.ssim import ssim

MODULE_VARIABLE = "POKEBENCH_I3D_MODULE"
"""Environment variable with the folder of the TF-Hub I3D module."""

LOGIT_BUDGET = 2e-4
"""Largest absolute difference of a logit between fp32 programs (TF graph and this one)."""

DISTANCE_BUDGET = 1e-4
"""Relative difference of a squared logit distance that logits within 1e-5 of each other (relative L2) allow."""

BLACK_WHITE_FVD = {
    9: 492.630, 10: 569.772, 11: 486.752, 12: 552.766, 13: 146.515, 14: 172.776, 15: 133.909, 16: 152.902,
    17: 357.851, 18: 382.550, 19: 307.215, 20: 338.499, 21: 78.251, 22: 82.537, 23: 64.545, 24: 66.292,
    25: 314.498, 26: 316.829, 27: 288.839, 28: 287.707, 29: 152.242, 30: 151.392,
}  # fmt: skip
"""FVD of all-black against all-white videos by number of frames, measured with the original TF graph."""

BLACK_WHITE_BUDGET = 3e-3
"""Absolute; the expected values are rounded to three decimals, and fp32 programs differ by 1e-5 relative."""

QUICK_FRAMES = 16

Values = float | list[float]


@dataclass(frozen=True)
class Check:
    """One sanity value.

    Attributes:
        name: what is measured.
        origin: where the expected value comes from.
        budget: largest absolute difference allowed; relative when `relative`.
        compute: returns (expected, measured), numbers or lists of numbers.
    """

    name: str
    origin: str
    budget: float
    compute: Callable[[], tuple[Values, Values]]
    relative: bool = False


@dataclass(frozen=True)
class Result:
    """A check that was run: the pair of values that differ most, and the verdict."""

    check: Check
    expected: float
    measured: float
    difference: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within the budget; NaN is not."""
        return self.difference <= self.check.budget

    def line(self) -> str:
        """One line for the terminal."""
        verdict = "ok  " if self.passed else "FAIL"
        kind = "relative" if self.check.relative else "absolute"
        return (
            f"{verdict} {self.check.name:<58} expected {self.expected:>13.7g}  measured {self.measured:>13.7g}  "
            f"difference {self.difference:.1e} <= {self.check.budget:.0e} {kind}  ({self.check.origin})"
        )


def run_checks(checks: Iterable[Check]) -> Iterator[Result]:
    """Runs the checks one after the other; of a list, the worst element is reported."""
    for check in checks:
        expected, measured = (np.atleast_1d(np.asarray(v, dtype=np.float64)) for v in check.compute())
        difference = np.abs(expected - measured)
        if check.relative:
            difference = difference / np.abs(expected)
        worst = int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))
        yield Result(check, float(expected[worst]), float(measured[worst]), float(difference[worst]))


def all_checks(module: Path | None = None, quick: bool = False) -> list[Check]:
    """All checks that can be run here.

    Args:
        module: folder of the TF-Hub I3D module; None: $POKEBENCH_I3D_MODULE, and no such checks when it is not set.
        quick: leave out the FVD of black against white videos of more than 16 frames.
    """
    if module is None and os.environ.get(MODULE_VARIABLE):
        module = Path(os.environ[MODULE_VARIABLE])
    frames = [count for count in BLACK_WHITE_FVD if count <= QUICK_FRAMES or not quick]
    checks = [*_closed_form(), *_live(), *(_black_white(count) for count in frames)]
    return checks + (_tensorflow(module) if module is not None else [])


def sanity_lines(module: Path | None, quick: bool) -> Iterator[tuple[str, bool]]:
    """Runs `all_checks`; yields (line for the terminal, whether the value is within its budget)."""
    for result in run_checks(all_checks(module=module, quick=quick)):
        yield result.line(), result.passed


def closed_form_pair() -> tuple[Tensor, Tensor]:
    """Two videos made by formula, float32 `[1, 10, 3, 64, 64]`, each value k / 255.

    With tri(n) = |n mod 510 - 255|, A[t, y, x, c] = tri(3y + 5x + 7t + 85c) and
    B[t, y, x, c] = tri(3y + 5x + 9t + 85c + 11).
    """
    t, c, y, x = (torch.arange(n) for n in (10, 3, 64, 64))
    base = 3 * y[:, None] + 5 * x + 85 * c[:, None, None]

    def tri(n: Tensor) -> Tensor:
        return ((n % 510) - 255).abs()

    first = tri(base + 7 * t[:, None, None, None])
    second = tri(base + 9 * t[:, None, None, None] + 11)
    return first[None].float() / 255, second[None].float() / 255


def formula_videos(count: int, shift: int, frames: int = 10, size: int = 64) -> Tensor:
    """`count` different textured, moving videos made by formula, float32 `[count, frames, 3, size, size]`."""
    n, t, c, y, x = (
        torch.arange(k, dtype=torch.float64).reshape([-1 if i == d else 1 for i in range(5)])
        for d, k in enumerate((count, frames, 3, size, size))
    )
    wave = torch.sin(0.11 * (n + 1) ** 0.5 * x + 0.07 * y * (1 + 0.1 * c) + 0.4 * t * (n % 3) + 1.7 * n + shift)
    ring = torch.cos(0.013 * ((x - 32 - t) ** 2 + (y - 20 - 0.3 * n) ** 2) + 0.9 * c + 0.2 * shift)
    return (0.5 + 0.3 * wave + 0.2 * ring).clamp(0, 1).float()


def _closed_form() -> list[Check]:
    a, b = closed_form_pair()
    sheet = "TF graph, formula-made clip"

    def logits(video: Tensor, resize: Rule) -> Tensor:
        return i3d_logits(video, resize=resize)[0].double()

    def norm_and_first(video: Tensor, resize: Rule, expected: list[float]) -> Callable[[], tuple[Values, Values]]:
        def compute() -> tuple[Values, Values]:
            found = logits(video, resize)
            return expected, [float(found.norm()), float(found.max()), *found[:4].tolist()]

        return compute

    def distance(resize: Rule, expected: float) -> Callable[[], tuple[Values, Values]]:
        return lambda: (expected, float((logits(a, resize) - logits(b, resize)).square().sum()))

    per_frame = {
        "PSNR": (psnr, 1e-6, "scikit-image", [27.426096, 25.999986, 24.782472, 23.720064, 22.778118, 21.932740,
                 21.166967, 20.467077, 19.821602, 19.222342]),
        "SSIM": (ssim, 1e-6, "scikit-image", [0.931927, 0.914019, 0.896474, 0.879666, 0.863814, 0.848655, 0.833855,
                 0.819516, 0.805808, 0.792640]),
        "LPIPS (Alex)": (lambda p, q: lpips(p, q, net="alex"), 1e-5, "lpips package", [0.008536, 0.010323, 0.012300,
                 0.015536, 0.018235, 0.022229, 0.026603, 0.031727, 0.036814, 0.041788]),
        "LPIPS (VGG)": (lambda p, q: lpips(p, q, net="vgg"), 1e-5, "lpips package", [0.022223, 0.029580, 0.038169,
                 0.046930, 0.056616, 0.067674, 0.079836, 0.091053, 0.102308, 0.114452]),
    }  # fmt: skip

    def frames(metric: Callable[[Tensor, Tensor], Tensor], expected: list[float]) -> tuple[Values, Values]:
        return expected, metric(a, b)[0].tolist()

    return [
        Check("I3D logits of A: norm, maximum, first four", sheet, LOGIT_BUDGET,
              norm_and_first(a, "tf1", [55.35715, 10.21025, 5.50112, 1.93749, 1.18126, 2.01728])),
        Check("I3D logits of B: norm, maximum, first four", sheet, LOGIT_BUDGET,
              norm_and_first(b, "tf1", [59.85840, 10.66855, 6.06620, 1.91133, 1.25531, 1.71738])),
        Check("I3D logits of A, half-pixel resize", sheet, LOGIT_BUDGET,
              norm_and_first(a, "half_pixel", [54.54662, 10.11869, 5.31900, 1.91160, 1.13290, 2.03355])),
        Check("squared logit distance of A and B", sheet, DISTANCE_BUDGET, distance("tf1", 72.44576), relative=True),
        Check("squared logit distance of A and B, half-pixel resize", sheet, DISTANCE_BUDGET,
              distance("half_pixel", 78.09192), relative=True),
        *(Check(f"{name} of A and B, each frame", origin, budget, lambda m=metric, e=expected: frames(m, e))  # type: ignore[misc]
          for name, (metric, budget, origin, expected) in per_frame.items()),
    ]  # fmt: skip


def _live() -> list[Check]:
    first, second = formula_videos(2, 0), formula_videos(2, 3)
    black, white = torch.zeros(1, 1, 3, 64, 64), torch.ones(1, 1, 3, 64, 64)

    def flat(values: Tensor) -> list[float]:
        return [float(v) for v in values.flatten()]

    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for x, y in zip(first.flatten(0, 1), second.flatten(0, 1), strict=True):
            yield x.permute(1, 2, 0).double().numpy(), y.permute(1, 2, 0).double().numpy()

    def live_psnr() -> tuple[Values, Values]:
        from skimage.metrics import peak_signal_noise_ratio

        return [float(peak_signal_noise_ratio(y, x, data_range=1)) for x, y in pairs()], flat(psnr(first, second))

    def live_ssim() -> tuple[Values, Values]:
        from skimage.metrics import structural_similarity

        how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        expected = [float(structural_similarity(x, y, channel_axis=-1, data_range=1, **how)) for x, y in pairs()]
        return expected, flat(ssim(first, second))

    def live_lpips(net: Net) -> tuple[Values, Values]:
        expected = official_lpips(net)(first.flatten(0, 1), second.flatten(0, 1), normalize=True)
        return flat(expected.detach()), flat(lpips(first, second, net=net))

    def gaussians() -> tuple[Values, Values]:
        # Two sets with exact sample moments: means 0 and m, covariances diag(a) and diag(b).
        basis = np.sqrt(7) * np.concatenate([np.eye(4), -np.eye(4)]) / np.sqrt(2)
        a, b, m = np.array([1.0, 4, 9, 16]), np.array([4.0, 4, 1, 25]), np.array([1.0, -2, 0, 3])
        expected = float((m**2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum())
        return expected, frechet_distance(torch.tensor(basis * np.sqrt(a)), torch.tensor(basis * np.sqrt(b) + m))

    return [
        Check("PSNR of 20 frames", "scikit-image, live", 1e-6, live_psnr),
        Check("SSIM of 20 frames", "scikit-image, live", 1e-6, live_ssim),
        Check("LPIPS (Alex) of 20 frames", "lpips package, live", 1e-5, lambda: live_lpips("alex")),
        Check("LPIPS (VGG) of 20 frames", "lpips package, live", 1e-5, lambda: live_lpips("vgg")),
        Check("LPIPS (Alex), black against white", "lpips package", 1e-5,
              lambda: (0.813954, flat(lpips(black, white, net="alex")))),
        Check("LPIPS (VGG), black against white", "lpips package", 1e-5,
              lambda: (0.453837, flat(lpips(black, white, net="vgg")))),
        Check("PSNR, black against white", "closed form", 0, lambda: (0.0, flat(psnr(black, white)))),
        Check("SSIM, black against white", "closed form", 1e-9, lambda: (1e-4 / (1 + 1e-4), flat(ssim(black, white)))),
        Check("Frechet distance of two Gaussians", "closed form", 1e-9, gaussians),
    ]  # fmt: skip


def official_lpips(net: Net) -> torch.nn.Module:
    """The `lpips` package's own model, its trunk ("alex" or "vgg") filled with the weights that this program uses."""
    from lpips import LPIPS

    from metrics.weights import weights

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls torchvision in a way that was renamed
        model = LPIPS(net=net, pnet_rand=True, verbose=False).eval()
    trunk = weights({"alex": "lpips-alexnet", "vgg": "lpips-vgg16"}[net])
    state = model.net.state_dict()
    model.net.load_state_dict({name: trunk["features." + name.split(".", 1)[1]] for name in state})
    return model.requires_grad_(False)


def _black_white(frames: int) -> Check:
    def compute() -> tuple[Values, Values]:
        black, white = torch.zeros(1, frames, 3, 64, 64), torch.ones(1, frames, 3, 64, 64)
        features = [i3d_logits(video).repeat(2, 1) for video in (black, white)]
        return BLACK_WHITE_FVD[frames], frechet_distance(*features)

    return Check(f"FVD, black against white, {frames} frames", "TF graph", BLACK_WHITE_BUDGET, compute)


def _tensorflow(module: Path) -> list[Check]:
    from metrics.tfhub import tfhub_logits

    first, second = formula_videos(8, 0), formula_videos(8, 3)
    kept: dict[str, tuple[Tensor, Tensor]] = {}

    def both() -> dict[str, tuple[Tensor, Tensor]]:
        if not kept:
            for name, video in (("first", first), ("second", second)):
                kept[name] = (tfhub_logits(video, module), i3d_logits(video))
        return kept

    def logits() -> tuple[Values, Values]:
        theirs, ours = (torch.cat(pair).flatten().tolist() for pair in zip(*both().values(), strict=True))
        return theirs, ours

    def distances() -> tuple[Values, Values]:
        theirs, ours = zip(*both().values(), strict=True)
        return frechet_distance(*theirs), frechet_distance(*ours)

    return [
        Check("I3D logits of 16 videos", "TF graph, live", LOGIT_BUDGET, logits),
        Check("FVD, 8 videos against 8", "TF graph, live", 1e-6, distances, relative=True),
    ]
