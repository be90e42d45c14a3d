"""What a training step lets the generator predict: a rollout with posterior latents, and one with prior latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from methods.savp.draws import Draws
from methods.savp.network import Generator, State, drawn


@dataclass(frozen=True)
class Rollouts:
    """What the generator makes of true frames x_0..x_{T-1}.

    Attributes:
        posterior: predictions of x_1..x_{T-1} from posterior latents (or without latents), `[N, T - 1, 3, H, W]`.
        prior: the same from prior latents; None where the objective does not look at them.
        mean, log_variance: of the posterior, `[N, T - 1, nz]`; None without latents.
    """

    posterior: Tensor
    prior: Tensor | None
    mean: Tensor | None
    log_variance: Tensor | None

    def made(self) -> dict[str, Tensor]:
        """Predictions by the discriminator that judges them."""
        return (
            {"posterior": self.posterior} if self.prior is None else {"prior": self.prior, "posterior": self.posterior}
        )


def rollouts(generator: Generator, frames: Tensor, context: int, draws: Draws) -> Rollouts:
    """Predicts every frame from the ones before, with posterior and with prior latents.

    The latents of transitions within the context are the posterior's in both rollouts, and both are fed the same frames
    there: those steps are computed once.

    Args:
        frames: `[N, T, 3, H, W]` in [0, 1].
        context: first frames, always fed as they are.
    """
    steps, shared = frames.shape[1] - 1, context - 1
    mean = log_variance = latents = None
    if draws.posterior is not None:
        mean, log_variance = generator.posterior(frames)
        latents = drawn(mean, log_variance, draws.posterior)
    start = None if latents is None else latents[:, :shared]
    begun, state = generator.roll(State(frames[:, 0]), frames[:, :shared], shared, start)
    later = None if latents is None else latents[:, shared:]
    truth, given = frames[:, shared:-1], draws.posterior_truth
    if draws.prior is not None and later is not None:
        state, truth, later = state.repeated(2), truth.repeat(2, 1, 1, 1, 1), torch.cat([later, draws.prior])
        if given is not None and draws.prior_truth is not None:
            given = torch.cat([given, draws.prior_truth])
    if given is None:
        truth = truth[:, :1]
    else:
        given = torch.cat([given.new_ones(len(given), 1), given], 1)
    rest, _ = generator.roll(state, truth, steps - shared, later, given)
    posterior, *prior = (torch.cat([begun, half], 1) for half in rest.split(len(frames)))
    return Rollouts(posterior, prior[0] if prior else None, mean, log_variance)
