"""The SRVP model: frame codes, content, first state, residual dynamics, frames (sections 3 and 4 of the paper).

The authors' program calls the first state y_0 (the paper: y_1), and so does this one. Sequences are `[B, T, ...]`. All
Gaussians are diagonal and given as parameters `[..., 2 n]`: n means, then n raw values whose softplus is the standard
deviation. All noise is given by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from methods.srvp.config import SRVPConfig
from methods.srvp.convolutions import Decoder, Encoder

MIN_STD = 1e-8


def mean_and_std(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Means and standard deviations `[..., n]` of parameters `[..., 2 n]`, in float32 or wider."""
    mean, raw = widened(parameters).chunk(2, dim=-1)
    return mean, functional.softplus(raw) + MIN_STD


def sampled(parameters: Tensor, eps: Tensor) -> Tensor:
    """mean + std * eps: a sample of the Gaussian with `parameters`, for standard normal `eps`."""
    mean, std = mean_and_std(parameters)
    return mean + std * eps


def widened(value: Tensor) -> Tensor:
    """`value` in float32, or as it is where it is float64."""
    return value if value.dtype == torch.float64 else value.float()


@dataclass(frozen=True)
class Path:
    """A latent trajectory from the first state on.

    Attributes:
        states: y_0..y_S at the frames, `[B, S + 1, state]`.
        noises: z_1..z_S, `[B, S, noise]`.
        residuals: what each Euler step added, `[B, S euler_steps, state]`.
    """

    states: Tensor
    noises: Tensor
    residuals: Tensor


class MLP(nn.Module):
    """Linear layers with a ReLU between them."""

    def __init__(self, inputs: int, hidden: int, outputs: int, layers: int) -> None:
        super().__init__()
        widths = [inputs, *[hidden] * (layers - 1), outputs]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """`[..., inputs]` to `[..., outputs]`."""
        for i, layer in enumerate(self.layers):
            x = layer(functional.relu(x) if i else x)
        return x


class SRVPNetwork(nn.Module):
    """All networks of SRVP and the steps of its forward pass.

    In training mode batch normalisation uses the statistics of the batch, in evaluation mode the running ones.
    """

    def __init__(self, config: SRVPConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        self.encoder = Encoder(c)
        self.decoder = Decoder(c, c.inference_width + c.state)
        self.content_frame = nn.Linear(c.code, c.inference_width)
        self.content_sum = nn.Linear(c.inference_width, c.inference_width)
        self.first_state = MLP(c.conditioning * c.code, c.inference_width, 2 * c.state, c.inference_layers)
        self.inference = nn.LSTM(c.code, c.inference_width, batch_first=True)
        self.posterior = nn.Linear(c.inference_width, 2 * c.noise)
        self.prior = MLP(c.state, c.residual_width, 2 * c.noise, c.residual_layers)
        self.dynamics = MLP(c.state + c.noise, c.residual_width, c.state, c.residual_layers)
        for layer in self.dynamics.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.orthogonal_(layer.weight, c.residual_gain)
            nn.init.zeros_(layer.bias)

    def encode(self, frames: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Codes of frames, and their features at four depths.

        Args:
            frames: `[B, T, C, 64, 64]` in [0, 1].

        Returns:
            Codes `[B, T, code]`, and features `[B, T, c, h, w]`, deepest first; no features without skips.
        """
        shape = frames.shape[:2]
        codes, features = self.encoder(frames.flatten(0, 1))
        kept = [feature.unflatten(0, shape) for feature in features] if self.config.skips else []
        return codes.unflatten(0, shape), kept

    def content(self, codes: Tensor) -> Tensor:
        """The content vector w, `[B, inference_width]` in [-1, 1], of k frames in any order, `[B, k, code]`."""
        return torch.tanh(self.content_sum(functional.relu(self.content_frame(codes)).sum(dim=1)))

    def first_parameters(self, codes: Tensor) -> Tensor:
        """Parameters of q(y_0), `[B, 2 state]`, from the first k of the codes `[B, T, code]`."""
        return self.first_state(codes[:, : self.config.conditioning].flatten(1))

    def posterior_parameters(self, codes: Tensor) -> Tensor:
        """Parameters of q(z_1)..q(z_{T-1}), `[B, T - 1, 2 noise]`; that of z_t has seen the frames 0..t."""
        return self.posterior(self.inference(codes)[0][:, 1:])

    def prior_parameters(self, states: Tensor) -> Tensor:
        """Parameters of p(z_t), `[..., 2 noise]`, given the state of the frame before, `[..., state]`."""
        return self.prior(states)

    def evolve(self, first: Tensor, posteriors: Tensor, eps: Tensor) -> Path:
        """Runs the residual dynamics for S frames.

        Args:
            first: y_0, `[B, state]`.
            posteriors: parameters of the first P noises, `[B, P, 2 noise]`; the others are drawn from the prior.
            eps: standard normal noise `[B, S, noise]`.
        """
        steps = self.config.euler_steps
        state, states, noises, residuals = first, [first], [], []
        for t in range(eps.shape[1]):
            parameters = posteriors[:, t] if t < posteriors.shape[1] else self.prior(state)
            z = sampled(parameters, eps[:, t])
            for _ in range(steps):
                residual = widened(self.dynamics(torch.cat([state, z], dim=-1))) / steps
                state = state + residual
                residuals.append(residual)
            states.append(state)
            noises.append(z)
        return Path(torch.stack(states, 1), torch.stack(noises, 1), torch.stack(residuals, 1))

    def decode(self, content: Tensor, states: Tensor, skip_terms: Sequence[Tensor] = ()) -> Tensor:
        """Frames `[B, n, C, 64, 64]` in [0, 1] of n states for each of B clips.

        Args:
            content: w, `[B, inference_width]`.
            states: `[B, n, state]`.
            skip_terms: of the B clips, from `decoder.skip_terms`; empty without skips.
        """
        repeated = content.unsqueeze(1).expand(-1, states.shape[1], -1)
        vectors = torch.cat([repeated, states], dim=-1).flatten(0, 1)
        return torch.sigmoid(widened(self.decoder(vectors, skip_terms))).unflatten(0, states.shape[:2])
