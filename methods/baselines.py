"""Reference rows of every table: three predictors without training, and the truth with noise.

They are also the templates for an adapter of your own: a card, `prepare`, and `predict`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from methods.dis_flow import MIN_SIDE, dis_flow
from methods.interface import Conditioning, MethodCard
from metrics.errors import MethodError


class CopyLastFrame:
    """Predicts that nothing moves: every frame is x0."""

    def __init__(self) -> None:
        self.card = MethodCard(
            name="copy-last-frame",
            title="Copy last frame",
            revision="1",
            notes="No training. Repeats the last context frame.",
        )

    def prepare(self, device: torch.device) -> None:
        """Nothing to load."""

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        """x0 repeated, `[B, 1, T, 3, H, W]`."""
        return _repeated(conditioning.x0, conditioning.horizon)


class ContextMean:
    """Predicts the mean of the context frames, every frame the same."""

    def __init__(self) -> None:
        self.card = MethodCard(
            name="context-mean",
            title="Context mean",
            revision="1",
            notes="No training. Repeats the mean of all context frames; with one context frame it is copy-last-frame.",
        )

    def prepare(self, device: torch.device) -> None:
        """Nothing to load."""

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        """The mean over the context, repeated, `[B, 1, T, 3, H, W]`."""
        return _repeated(conditioning.context.mean(dim=1), conditioning.horizon)


class FlowWarp:
    """Predicts that every pixel of x0 keeps the velocity it had between the last two context frames.

    The flow F, (dx, dy) in pixels, is computed once a clip from x0 back to the frame before it, so that
    x0(p) ~ previous(p + F(p)). At constant velocity the content of pixel p moves by -F a frame, and frame t is
    the backward warp x_t(p) = x0(p + t F(p)): bilinear, coordinates clamped to the image. F is sampled at p
    itself, not along the path, which is exact for a uniform translation and smears at motion borders.

    Flow: OpenCV's Dense Inverse Search (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV
    2016), preset MEDIUM taken down to full resolution, on 8-bit grey frames.
    """

    def __init__(self) -> None:
        self.card = MethodCard(
            name="flow-warp",
            title="Flow warp",
            revision="1",
            min_context=2,
            notes="No training. Constant velocity: x0 warped by t times the DIS flow of the last two context frames.",
        )

    def prepare(self, device: torch.device) -> None:
        """Nothing to load."""

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        """x0 warped along its flow, `[B, 1, T, 3, H, W]`.

        Raises:
            MethodError: fewer than two context frames, or a side below MIN_SIDE.
        """
        context = conditioning.context
        height, width = context.shape[-2:]
        if context.shape[1] < 2:
            raise MethodError(
                f"flow-warp: expected at least 2 context frames, found {context.shape[1]}. "
                "Use a protocol with more context, or copy-last-frame."
            )
        if min(height, width) < MIN_SIDE:
            raise MethodError(
                f"flow-warp: expected frames of at least {MIN_SIDE} x {MIN_SIDE} px, "
                f"found {height} x {width}. Use a larger size."
            )
        flow = torch.stack([dis_flow(clip[-1], clip[-2]) for clip in context])
        flow = flow.to(context.device, torch.float32)
        frames = [backward_warp(conditioning.x0, t * flow) for t in range(1, conditioning.horizon + 1)]
        return torch.stack(frames, dim=1).unsqueeze(1).clamp(0, 1)


class NoisyTruth:
    """The true frames plus independent Gaussian noise, clipped to [0, 1]: a row whose error is known.

    Args:
        sigma: standard deviation of the noise; values are in [0, 1]. With 0 the row is the truth itself.
    """

    DEFAULT_SIGMA = 0.02

    def __init__(self, sigma: float = DEFAULT_SIGMA) -> None:
        if not (math.isfinite(sigma) and sigma >= 0):
            raise MethodError(f"noisy-truth: expected sigma >= 0, found {sigma}")
        self.sigma = float(sigma)
        self.card = MethodCard(
            name="noisy-truth" if self.sigma == self.DEFAULT_SIGMA else f"noisy-truth:sigma={self.sigma!r}",
            title=f"Truth + noise ({self.sigma:g})",
            revision="1",
            inputs=frozenset({"truth"}),
            stochastic=self.sigma > 0,
            notes="Sees the frames to be predicted. Not a predictor: it shows what a known error scores.",
        )

    def prepare(self, device: torch.device) -> None:
        """Nothing to load."""

    def predict_from_truth(self, conditioning: Conditioning, truth: Tensor, samples: int, seed: int) -> Tensor:
        """`truth` plus noise, `[B, S, T, 3, H, W]`. Sample k of a clip does not depend on S."""
        if not self.card.stochastic:
            return truth.unsqueeze(1)
        shape = truth.shape[1:]
        noise = torch.stack(
            [
                torch.stack([torch.randn(shape, generator=generator, dtype=torch.float32) for _ in range(samples)])
                for generator in conditioning.generators(seed)
            ]
        )
        return (truth.unsqueeze(1) + self.sigma * noise.to(truth.device)).clamp(0, 1)


def backward_warp(image: Tensor, flow: Tensor) -> Tensor:
    """Samples `image` at p + flow(p): bilinear, coordinates clamped to the image.

    Args:
        image: float `[B, 3, H, W]`.
        flow: float `[B, 2, H, W]`: (dx, dy) in pixels.

    Returns:
        Float `[B, 3, H, W]`.
    """
    height, width = image.shape[-2:]
    xs = torch.arange(width, device=flow.device, dtype=flow.dtype)
    ys = torch.arange(height, device=flow.device, dtype=flow.dtype)
    x = (xs + flow[:, 0]) * (2 / max(width - 1, 1)) - 1
    y = (ys[:, None] + flow[:, 1]) * (2 / max(height - 1, 1)) - 1
    grid = torch.stack([x, y], dim=-1)
    return functional.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _repeated(frame: Tensor, horizon: int) -> Tensor:
    """`[B, 3, H, W]` as a prediction `[B, 1, T, 3, H, W]`."""
    return frame[:, None, None].repeat(1, 1, horizon, 1, 1, 1)
