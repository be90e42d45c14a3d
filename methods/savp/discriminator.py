"""The video discriminators of SAVP: 3-D convolutions under spectral norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from methods.convolution3d import convolve3d
from methods.savp.config import SavpConfig
from methods.savp.layers import truncated_normal_

SLOPE = 0.1
NORM_FLOOR = 1e-12


def spectral(weight: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """A weight divided by its largest singular value, estimated by one power iteration.

    Gradients flow through the iteration, unlike in `torch.nn.utils.spectral_norm`, as in the authors' graph.

    Args:
        weight: `[out, ...]`.
        u: `[1, out]`: estimate of the left singular vector.

    Returns:
        The normalised weight, and the next estimate `[1, out]`.
    """
    matrix = weight.flatten(1)
    v = _normalised(u @ matrix)
    mapped = v @ matrix.T
    estimate = _normalised(mapped)
    return weight / (mapped * estimate).sum(), estimate


def _normalised(vector: Tensor) -> Tensor:
    return vector / (torch.linalg.vector_norm(vector) + NORM_FLOOR)


class SpectralLayer(nn.Module):
    """Weight, bias and singular vector of one layer."""

    u: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.zeros(shape[0]))
        self.register_buffer("u", torch.empty(1, shape[0]))
        truncated_normal_(self.weight)
        truncated_normal_(self.u, std=1.0)


class VideoDiscriminator(nn.Module):
    """Tells true clips from made ones: seven 3-D convolutions and a dense layer.

    The dense layer's width follows from the clip length: weights fit clips of the length they were trained with.
    """

    STRIDES = ((1, 1, 1), (1, 2, 2), (1, 1, 1), (1, 2, 2), (1, 1, 1), (2, 2, 2), (1, 1, 1))
    """Of the convolutions, over (time, height, width); those with a stride have kernels of 4, the others of 3."""

    def __init__(self, width: int, clip_length: int) -> None:
        super().__init__()
        channels = [3, width, 2 * width, 2 * width, 4 * width, 4 * width, 8 * width, 8 * width]
        self.convolutions = nn.ModuleList(
            SpectralLayer((outputs, inputs, *[4 if max(stride) > 1 else 3] * 3))
            for inputs, outputs, stride in zip(channels, channels[1:], self.STRIDES, strict=False)
        )
        # Two convolutions of kernel 4 take one frame each off the clip, the third one halves what is left.
        frames = (clip_length - 2) // 2
        self.dense = SpectralLayer((1, channels[-1] * frames * 8 * 8))

    def _layers(self) -> list[SpectralLayer]:
        return [layer for layer in self.modules() if isinstance(layer, SpectralLayer)]

    def weights(self) -> tuple[list[Tensor], list[Tensor]]:
        """The normalised weights of all layers, and the next estimates of their singular vectors.

        Every call starts from the stored estimates; `store` replaces these, once in a training step.
        """
        with torch.autocast(self.dense.weight.device.type, enabled=False):
            pairs = [spectral(layer.weight, layer.u) for layer in self._layers()]
        return [weight for weight, _ in pairs], [estimate for _, estimate in pairs]

    @torch.no_grad()
    def store(self, estimates: list[Tensor]) -> None:
        """Keeps new estimates of the singular vectors."""
        for layer, estimate in zip(self._layers(), estimates, strict=True):
            layer.u.copy_(estimate)

    def forward(self, clips: Tensor, weights: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Scores clips.

        Args:
            clips: `[N, T, 3, 64, 64]` in [0, 1], T being the clip length.
            weights: of `weights`.

        Returns:
            Logits `[N]`, and the seven features `[N, C, T', H', W']` after their non-linearity.
        """
        features = []
        flowing = clips.transpose(1, 2)
        if clips.device.type == "cpu":  # with few channels, 3-D convolutions take a third less time in this layout
            flowing = flowing.contiguous(memory_format=torch.channels_last_3d)
        for layer, weight, stride in zip(self._layers(), weights, self.STRIDES, strict=False):
            flowing = convolve3d(flowing, weight, layer.bias, stride)
            flowing = functional.leaky_relu(flowing, SLOPE)
            features.append(flowing)
        logits = functional.linear(flowing.flatten(1), weights[-1], self.dense.bias)
        return logits.squeeze(1).to(clips.dtype), features


def discriminators(config: SavpConfig) -> nn.ModuleDict | None:
    """The discriminators that the objective needs: "prior" for samples, "posterior" for reconstructions."""
    wanted = {"prior": config.gan_weight, "posterior": config.vae_gan_weight}
    made = {
        name: VideoDiscriminator(config.discriminator_width, config.clip_length)
        for name, weight in wanted.items()
        if weight > 0
    }
    return nn.ModuleDict(made) if made else None
