"""RAFT optical flow, by torchvision."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bench.flow.estimators import check_frames, enlargement
from metrics.cache import sha256_of, user_path
from metrics.errors import WeightsError
from metrics.weight_sources import FOLDER_VARIABLE
from metrics.weights import UNPICKLING_FAULTS


class RAFTFlow:
    """Teed and Deng, "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow", ECCV 2020; torchvision's network
    and weights (raft_large, C_T_SKHT_V2).

    The weight file is looked for in $POKEBENCH_WEIGHTS under torchvision's name for it, and is else downloaded by
    torchvision into its own cache; either way its sha256 must begin with the eight digits in its name. Frames are
    enlarged until the shorter side has 256 px and padded to a multiple of 8 by repeating the border. Results depend
    on the batch by rounding only.

    Raises:
        WeightsError: no weights and no way to download them, or a file that is not the expected one.
    """

    name, version, network, weights_name = "raft", 1, "raft_large", "C_T_SKHT_V2"
    least_side, updates, at_once = 256, 12, 8

    def __init__(self, device: torch.device | str = "cpu") -> None:
        from torchvision.models import get_model, get_model_weights

        self.device = torch.device(device)
        self.settings: dict[str, Any] = {
            "network": self.network,
            "weights": self.weights_name,
            "updates": self.updates,
            "least_side": self.least_side,
        }
        chosen = get_model_weights(self.network)[self.weights_name]
        model = get_model(self.network, weights=None)
        model.load_state_dict(_raft_weights(chosen.url))
        self.model = model.eval().to(self.device)

    @property
    def backend(self) -> str:
        """torchvision's and torch's versions, and the kind of device."""
        import torchvision

        return f"torchvision {torchvision.__version__}, torch {torch.__version__}, {self.device.type}"

    def estimate(self, first: Tensor, second: Tensor) -> Tensor:
        """See `bench.flow.registry.FlowEstimator`."""
        check_frames(self.name, first, second)
        pieces = zip(first.split(self.at_once), second.split(self.at_once), strict=True)
        return torch.cat([self._estimate(a, b) for a, b in pieces])

    @torch.inference_mode()
    def _estimate(self, first: Tensor, second: Tensor) -> Tensor:
        height, width = first.shape[-2:]
        factor = enlargement(first, self.least_side)
        right, below = -width * factor % 8, -height * factor % 8
        pair = []
        for frames in (first, second):
            frames = frames.to(self.device)
            unit = frames.float() / 255 if frames.dtype == torch.uint8 else frames.float()
            large = functional.interpolate(unit, scale_factor=factor, mode="bilinear") if factor > 1 else unit
            pair.append(functional.pad(large * 2 - 1, (0, right, 0, below), mode="replicate"))
        flow = self.model(*pair, num_flow_updates=self.updates)[-1]
        flow = flow[..., : height * factor, : width * factor]
        return (functional.avg_pool2d(flow, factor) / factor).clone().cpu()


class SmallRAFTFlow(RAFTFlow):
    """The same with raft_small, C_T_V2: a fifth of the parameters."""

    name, network, weights_name = "raft-small", "raft_small", "C_T_V2"


def _raft_weights(url: str) -> dict[str, Tensor]:
    name = url.rpartition("/")[2]
    folder = os.environ.get(FOLDER_VARIABLE)
    own = user_path(folder) / name if folder else None
    if own is not None and own.is_file():
        wanted = name.rpartition("-")[2].removesuffix(".pth")
        found = sha256_of(own)
        if not found.startswith(wanted):
            raise WeightsError(
                f"{own}: expected a file whose sha256 begins with {wanted}, found {found}; download {url} again"
            )
        try:
            return torch.load(own, map_location="cpu", weights_only=True)
        except UNPICKLING_FAULTS as error:
            raise WeightsError(f"{own} cannot be read as tensors ({error}); download {url} again") from error
    try:
        return torch.hub.load_state_dict_from_url(
            url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except UNPICKLING_FAULTS as error:  # a URLError is an OSError
        raise WeightsError(
            f"the RAFT weights {name} are not in ${FOLDER_VARIABLE} ({folder or 'not set'}) and cannot be downloaded "
            f"({error}). Put the file from {url} into a folder and set {FOLDER_VARIABLE} to it, or use another "
            "estimator, such as dis."
        ) from error
