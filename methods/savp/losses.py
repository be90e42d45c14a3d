"""Terms of the objective of SAVP, and how their weights move in the course of training.

Every term is the mean over the clips that it is given and is computed in float32 or better.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from methods.precision import full

SCHEDULE = 300_000
"""Steps of the authors' training. All schedules are functions of the step on this scale: a shorter training passes
through the same values in fewer steps."""

KL_ANNEAL = (50_000, 100_000)
DECAY = (200_000, 300_000)
SAMPLING_RATE = 900.0
SAMPLING_FLOOR = 0.001


def kl_share(position: float) -> float:
    """Share of the KL weight at a step: 0 before the annealing, then linear to 1."""
    start, end = KL_ANNEAL
    return min(max((position - start) / (end - start), 0.0), 1.0)


def learning_share(position: float) -> float:
    """Share of the learning rate at a step: 1, at last linear to 0."""
    start, end = DECAY
    return 1.0 - min(max((position - start) / (end - start), 0.0), 1.0)


def truth_probability(position: float) -> float:
    """Probability that a training step is fed the true frame; 0 once it is below SAMPLING_FLOOR."""
    exponent = position / SAMPLING_RATE
    if exponent > 100:
        return 0.0
    probability = SAMPLING_RATE / (SAMPLING_RATE + math.exp(exponent))
    return probability if probability >= SAMPLING_FLOOR else 0.0


def tensorflow_epsilon(updates: int, beta2: float, epsilon: float = 1e-8) -> float:
    """The epsilon with which PyTorch's Adam makes TensorFlow's `updates`-th update (counted from 1).

    TensorFlow adds epsilon to the root of the second moment before its bias is corrected, PyTorch after it.
    """
    return epsilon / math.sqrt(1 - beta2**updates)


def reconstruction(predicted: Tensor, true: Tensor, kind: str) -> Tensor:
    """Mean absolute ("l1") or squared ("l2") difference over all elements."""
    difference = predicted - true
    return difference.abs().mean() if kind == "l1" else difference.square().mean()


def kl_to_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)), N(0, I)) of `[N, T, nz]`: summed over nz, averaged over N and T."""
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(2).mean()


def least_squares(logits: Tensor, target: float) -> Tensor:
    """The LSGAN loss: mean squared distance of the logits from `target`."""
    return (logits - target).square().mean()


def feature_distance(made: list[Tensor], true: list[Tensor]) -> Tensor:
    """Sum over layers of the mean over places of 1 - cosine between the channels of two features.

    Computed as half the squared distance of the features, each normalised over channels: a / (|a| + 1e-10).

    Args:
        made, true: features `[N, C, T, H, W]` of each layer.
    """
    terms = [(_unit(a) - _unit(b)).square().sum(1).mean() / 2 for a, b in zip(made, true, strict=True)]
    return torch.stack(terms).sum()


def _unit(features: Tensor) -> Tensor:
    features = full(features)
    # Squares are kept away from 0, where the root has no gradient; far below the 1e-10 that is added to the root.
    norm = features.square().sum(1, keepdim=True).clamp(min=1e-30).sqrt()
    return features / (norm + 1e-10)
