"""The `lpips` package's own model, with its own heads, its random trunk replaced by the trained one."""

from __future__ import annotations

import re
import warnings

import torch

from metrics.features.lpips_trunks import WEIGHTS, Net
from metrics.weights import weights


def official_lpips(net: Net) -> torch.nn.Module:
    """Takes pairs `[N, 3, H, W]` in [-1, 1], or in [0, 1] with `normalize=True`; returns `[N, 1, 1, 1]`."""
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's note on an argument that the package still passes
        model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    trunk = weights(WEIGHTS[net])
    copied = 0
    with torch.no_grad():
        for name, parameter in model.net.named_parameters():
            # The package keeps torchvision's number of each layer: slice2.3.weight is features.3.weight.
            found = re.fullmatch(r"slice\d\.(\d+)\.(weight|bias)", name)
            assert found, name
            parameter.copy_(trunk[f"features.{found[1]}.{found[2]}"])
            copied += 1
    assert copied == sum(key.startswith("features") for key in trunk)
    return model.eval().requires_grad_(False)
