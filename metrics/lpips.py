"""Learned perceptual image patch similarity (LPIPS v0.1), one value a frame.

R. Zhang, P. Isola, A. A. Efros, E. Shechtman, O. Wang: The unreasonable effectiveness of deep features as a
perceptual metric. arXiv:1801.03924; trained linear heads, version 0.1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metrics.card import MetricCard
from metrics.errors import VideoError
from metrics.features.exact import exact_float32
from metrics.features.lpips_trunks import MIN_SIDE, WEIGHTS, LPIPSTrunk, Net
from metrics.threads import split_by_clip
from metrics.video import check_pair, check_video
from metrics.weights import weight_hash

CHUNK_PIXELS: dict[Net, int] = {"alex": 2**18, "vgg": 2**16}
"""Pixels of the frames that go through a network at a time, in each CPU thread: keeps maps below 32 MB."""

GPU_CHUNK = 16
"""How many times as many on a GPU."""


def lpips(pred: Tensor, target: Tensor, net: Net = "alex") -> Tensor:
    """LPIPS of every frame; 0 for equal frames, larger is worse.

    Computed in float32, TF32 off, a few frames at a time.

    Args:
        pred, target: float `[B, T, 3, H, W]`, RGB, in [0, 1]; sides of at least 31 px (alex) or 16 px (vgg).
        net: "alex" or "vgg".

    Returns:
        float64 `[B, T]` on the videos' device, without gradient.

    Raises:
        VideoError: as `check_pair`, or an unknown net.
        WeightsError: as `metrics.weights.weights`.
    """
    _check_net(net)
    check_pair(pred, target, min_side=MIN_SIDE[net])
    first, second = pred.flatten(0, 1), target.flatten(0, 1)
    trunk = _trunk(net, pred.device)

    def distances(rows: Tensor) -> Tensor:
        return _squared_distance(trunk(first[rows].float()), trunk(second[rows].float()))

    return _by_frames(distances, first, net).double().view(pred.shape[:2])


_TRUNKS: dict[tuple[Net, str], LPIPSTrunk] = {}


def _trunk(net: Net, device: torch.device) -> LPIPSTrunk:
    """The network on a device, built once in a process."""
    key = (net, str(device))
    if key not in _TRUNKS:
        _TRUNKS[key] = LPIPSTrunk(net).to(device).eval()
    return _TRUNKS[key]


def _check_net(net: str) -> None:
    if net not in WEIGHTS:
        raise VideoError(f"LPIPS net: expected one of {', '.join(WEIGHTS)}, found {net!r}")


def _squared_distance(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).square_().sum(1)


def _by_frames(function: Callable[[Tensor], Tensor], frames: Tensor, net: Net) -> Tensor:
    """`function(indices)` for all frames `[N, 3, H, W]`, a bounded number at a time; results N first."""
    chunk = max(1, CHUNK_PIXELS[net] // (frames.shape[-2] * frames.shape[-1]))
    indices = torch.arange(len(frames))

    def chunks(part: Tensor) -> Tensor:
        return torch.cat([function(rows) for rows in part.split(chunk)])

    with exact_float32(frames.device):
        if frames.device.type == "cpu":
            return split_by_clip(chunks, indices)
        chunk *= GPU_CHUNK
        return chunks(indices.to(frames.device))


class _LPIPS:
    """LPIPS as a frame metric of the harness; see `lpips`.

    Args:
        device: where to compute.
        mode: "exact" or "fast"; both compute in float32.
    """

    net: Net
    card: MetricCard

    def __init__(self, device: torch.device | str = "cpu", mode: str = "exact") -> None:
        self.device = torch.device(device)
        self.mode = mode

    def reference(self, target: Tensor) -> Tensor:
        """Features `[B, T, D]`, float32, of `target` `[B, T, 3, H, W]`; D as in `LPIPSTrunk`.

        At 64 x 64 px a frame takes 0.13 MB (alex) or 2 MB (vgg), in proportion to its area.
        """
        check_video(target, "target", min_side=MIN_SIDE[self.net])
        frames = target.flatten(0, 1).to(self.device)
        trunk = _trunk(self.net, frames.device)
        features = _by_frames(lambda rows: trunk(frames[rows].float()), frames, self.net)
        return features.unflatten(0, target.shape[:2])

    def score(self, pred: Tensor, reference: Tensor) -> Tensor:
        """LPIPS, float64 `[B, T]`, of `pred` `[B, T, 3, H, W]` against what `reference` returned.

        Raises:
            VideoError: as `check_video`, or `pred` and the target differ in clips or frames.
        """
        check_video(pred, "pred", min_side=MIN_SIDE[self.net])
        if pred.shape[:2] != reference.shape[:2]:
            raise VideoError(
                f"expected a prediction [B, T] = {list(reference.shape[:2])} like its target, "
                f"found {list(pred.shape[:2])}"
            )
        frames, known = pred.flatten(0, 1).to(self.device), reference.flatten(0, 1)
        trunk = _trunk(self.net, frames.device)

        def distances(rows: Tensor) -> Tensor:
            features = trunk(frames[rows].float())
            if features.shape[1] != known.shape[1]:
                raise VideoError(f"expected a prediction as large as its target, found frames {list(pred.shape[3:])}")
            return _squared_distance(features, known[rows])

        return _by_frames(distances, frames, self.net).double().view(pred.shape[:2])


def _card(net: Net, title: str, backbone: str) -> MetricCard:
    return MetricCard(
        name=f"lpips_{net}",
        title=title,
        kind="frame",
        version=1,
        convention=f"LPIPS v0.1 per frame, {backbone}, trained linear heads, RGB in [-1, 1] (Zhang et al. 2018)",
        higher_is_better=False,
        bounds=(0.0, None),
        reference="lpips 0.1.4",
        tolerance="1e-5 absolute",
        weights={WEIGHTS[net]: weight_hash(WEIGHTS[net])},
        min_side=MIN_SIDE[net],
    )


class LPIPSAlex(_LPIPS):
    """LPIPS with the AlexNet backbone, as a frame metric of the harness; see `lpips`."""

    net: Net = "alex"
    card = _card("alex", "LPIPS (Alex)", "AlexNet")


class LPIPSVGG(_LPIPS):
    """LPIPS with the VGG16 backbone, as a frame metric of the harness; see `lpips`."""

    net: Net = "vgg"
    card = _card("vgg", "LPIPS (VGG)", "VGG16")
