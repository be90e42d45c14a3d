"""Which variant of SRVP a state belongs to, read from its shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from methods.srvp.config import SRVPConfig
from metrics.errors import MethodError


def variant_of(tensors: Mapping[str, Tensor], origin: str) -> dict[str, Any]:
    """The fields of SRVPConfig that the shapes of a state determine: all but Euler steps and training settings.

    Args:
        tensors: a state of `SRVPNetwork`.
        origin: where it came from, for the message.

    Raises:
        MethodError: a tensor that tells is missing, or has another number of dimensions.
    """

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        if name not in tensors or tensors[name].ndim != dimensions:
            found = f"with shape {list(tensors[name].shape)}" if name in tensors else "nowhere"
            raise MethodError(f"{origin}: expected the tensor {name} with {dimensions} dimensions, found it {found}")
        return tuple(tensors[name].shape)

    vgg = "encoder.stages.0.1.conv.weight" in tensors
    filters, channels = shape("encoder.stages.0.0.conv.weight", 4)[:2]
    code = shape("encoder.code.conv.weight", 4)[0]
    joined = shape("decoder.stages.0.0.conv.weight", 4)[1 if vgg else 0]
    first = [name for name in tensors if name.startswith("first_state.layers.") and name.endswith("weight")]
    prior = [name for name in tensors if name.startswith("prior.layers.") and name.endswith("weight")]
    state = shape(f"dynamics.layers.{len(prior) - 1}.weight", 2)[0]
    return {
        "architecture": "vgg" if vgg else "dcgan",
        "skips": joined == 16 * filters,
        "channels": channels,
        "filters": filters,
        "code": code,
        "state": state,
        "noise": shape("posterior.weight", 2)[0] // 2,
        "inference_width": shape("content_sum.weight", 2)[0],
        "inference_layers": len(first),
        "residual_width": shape("dynamics.layers.0.weight", 2)[0],
        "residual_layers": len(prior),
        "conditioning": shape("first_state.layers.0.weight", 2)[1] // code,
    }


def check_variant(config: SRVPConfig, tensors: Mapping[str, Tensor], origin: str, claim: str) -> None:
    """Compares the variant of a state with the configuration that it came with.

    Args:
        origin: where the tensors came from.
        claim: where the configuration came from.

    Raises:
        MethodError: they differ; the message names both.
    """
    found = variant_of(tensors, origin)
    told = {name: getattr(config, name) for name in found}
    if told["residual_layers"] == 1:  # a single layer has no width
        told["residual_width"] = found["residual_width"]
    differing = [name for name in found if found[name] != told[name]]
    if differing:
        raise MethodError(
            f"{origin} holds srvp with {_listed(found, differing)}, but {claim} says {_listed(told, differing)}. "
            "Bring together the weights and the configuration of one training."
        )


def _listed(values: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name} = {values[name]}" for name in names)
