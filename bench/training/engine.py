"""What a step may ask of the loop: gradients to the right parameters, in any precision, over all processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from bench.distributed import peers_alive
from metrics.errors import TrainingError

if TYPE_CHECKING:
    from lightning.fabric import Fabric


class NotFiniteError(TrainingError):
    """A loss, a gradient or a weight became NaN or infinite."""


class FabricEngine:
    """Implements `methods.training.Engine` on Lightning Fabric.

    Gradients are averaged over processes here, once per optimiser step, rather than by a wrapper around each network:
    trainings that alternate between optimisers run any part of any network in any order.

    Args:
        fabric: launched.
        optimizers: of the training.
        steps: iterations of the whole training.
        accumulate: parts of a batch.
    """

    def __init__(self, fabric: Fabric, optimizers: Mapping[str, Optimizer], steps: int, accumulate: int = 1) -> None:
        self._fabric, self.steps, self._accumulate = fabric, steps, accumulate
        self.iteration = self.epoch = 0
        self._optimizers: dict[str, Any] = {
            name: fabric.setup_optimizers(optimizer) for name, optimizer in optimizers.items()
        }
        self._parameters = {
            name: [p for group in optimizer.param_groups for p in group["params"]]
            for name, optimizer in optimizers.items()
        }
        self._finite = torch.ones((), dtype=torch.bool, device=fabric.device)
        self._scaled = getattr(fabric.strategy.precision, "scaler", None) is not None

    def minimise(self, name: str, losses: Iterable[Tensor], max_norm: float | None = None) -> None:
        """See `methods.training.Engine.minimise`."""
        optimizer, parameters = self._optimizers[name], self._parameters[name]
        optimizer.zero_grad(set_to_none=True)
        for loss in losses:
            self._finite &= loss.detach().isfinite().all()
            if loss.device.type == "cpu":
                self.check_finite(f"the loss of {name!r}")
            self._fabric.backward(loss / self._accumulate, inputs=parameters)
        if self._fabric.world_size > 1:
            self._average(parameters)
        if max_norm is not None:
            norm = self._fabric.clip_gradients(nn.Module(), optimizer, max_norm=max_norm, error_if_nonfinite=False)
            assert norm is not None
            if not self._scaled:  # else such a step is left out, as ever in fp16
                self._finite &= norm.isfinite()
                if norm.device.type == "cpu":
                    self.check_finite(f"the gradient of {name!r}")
        optimizer.step()
        torch.clear_autocast_cache()  # it holds half-precision copies of the weights from before this step

    def check_finite(self, what: str = "a loss or gradient") -> None:
        """Waits for the device, and raises unless every loss so far, and every norm of gradients, was finite.

        Args:
            what: is named in the message.

        Raises:
            NotFiniteError: it was not.
        """
        if not bool(self._finite):
            raise NotFiniteError(f"{what} is not finite at or before iteration {self.iteration}")

    def check_weights(self, tensors: Iterable[Tensor]) -> None:
        """Waits for the device, and raises unless all numbers are finite: an infinite gradient of a finite loss moves
        weights to NaN, and a training that goes on from these never recovers.

        Raises:
            NotFiniteError: they are not.
        """
        finite = [tensor.isfinite().all() for tensor in tensors if tensor.is_floating_point()]
        if not bool(torch.stack(finite).all()):
            raise NotFiniteError(f"a weight is not finite at or before iteration {self.iteration}, with finite losses")

    def _average(self, parameters: list[nn.Parameter]) -> None:
        """The mean gradient over processes; where a process has none, it counts as zero."""
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters if p.grad is not None]
        for dtype in {g.dtype for g in gradients}:
            same = [g for g in gradients if g.dtype == dtype]
            flat = torch.cat([g.flatten() for g in same])
            with peers_alive():
                dist.all_reduce(flat)
            flat /= self._fabric.world_size
            for gradient, mean in zip(same, flat.split([g.numel() for g in same]), strict=True):
                gradient.copy_(mean.view_as(gradient))


class Average:
    """A moving average of a network's state: a = decay a + (1 - decay) p after every step, for its parameters and its
    floating-point buffers; what else there is, such as counts, is copied.

    Args:
        module: the network that is trained.
        decay: in (0, 1). After n steps it is at most (1 + n) / (10 + n), so that the start is soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._module, self._decay = module, decay
        self.tensors = {key: value.detach().clone() for key, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, iteration: int) -> None:
        """After step number `iteration`, from 0."""
        weight = 1 - min(self._decay, (1 + iteration) / (10 + iteration))
        state = self._module.state_dict()
        moved = [key for key, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.tensors[key] for key in moved], [state.pop(key) for key in moved], weight)
        for key, value in state.items():
            self.tensors[key].copy_(value)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges the network's state with the average; a second call puts it back."""
        own = {key: value.detach().clone() for key, value in self._module.state_dict().items()}
        self._module.load_state_dict(self.tensors)
        self.tensors = own
