"""On a GPU: I3D, LPIPS and a training step of the poking model, beside the plain forms and as shares of the peak."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peers.clips import noise
from peers.official_lpips import official_lpips
from peers.plain_i3d import PlainI3D
from peers.poking_clips import batch, classifier
from peers.poking_released import Features, ReleasedStep
from peers.timing import interleaved, profiled, report
from torch import Tensor
from torch.nn import functional as F

from bench.train import make_fabric
from bench.training.engine import FabricEngine
from bench.training.graph import WARM, GraphedStep
from methods.interface import Poke
from methods.perceptual import Perceptual
from methods.poking.config import PokingConfig
from methods.poking.objective import PokingTraining
from methods.poking.poke_map import poke_map
from methods.training import TrainingBatch
from metrics.features.i3d import i3d_logits
from metrics.lpips import LPIPSAlex
from metrics.weights import weights

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

DEVICE = "cuda"
ROUNDS = 5
I3D_CLIPS, FRAMES = 64, 10
I3D_SHARE = 0.15
"""Of the measured half-precision peak."""
LPIPS_CLIPS, PREDICTIONS, LPIPS_RATIO, LPIPS_SHARE = 64, 4, 7.0, 0.2
"""The share is of the measured peak of full float32."""
STEP_CLIPS, HORIZON = 10, 10
STEP_RATIOS = {"bf16": 3.0, "fp32": 1.5}
"""Of the released form's time to ours, at the batch of the paper."""
HALF_STEPS = 0.02
"""Relative, between our losses in bfloat16 and in float32."""


def waiting(program: Callable[[], object]) -> Callable[[], object]:
    """`program`, until the device is done."""

    def run() -> object:
        found = program()
        torch.cuda.synchronize()
        return found

    return run


def test_i3d_in_half_precision() -> None:
    video = noise(5, I3D_CLIPS, FRAMES, 64, 64).to(DEVICE)
    network = PlainI3D(weights("i3d-kinetics-400")).to(DEVICE)

    def peer() -> Tensor:
        frames = F.pad(video.flatten(0, 1), (0, 1, 0, 1), mode="replicate")
        frames = F.interpolate(frames, (225, 225), mode="bilinear", align_corners=True)[..., :-1, :-1]
        clips = (frames * 2 - 1).unflatten(0, (I3D_CLIPS, FRAMES)).transpose(1, 2)
        return torch.cat([network(part.contiguous()) for part in clips.split(8)])

    def ours() -> Tensor:
        return i3d_logits(video, mode="fast", batch_size=I3D_CLIPS)

    with torch.no_grad():
        error = (ours() - peer()).norm(dim=1) / peer().norm(dim=1)
        assert float(error.max()) < 5e-3
        times = interleaved({"ours": waiting(ours), "peer": waiting(peer)}, ROUNDS)
    title = f"I3D in float16, {I3D_CLIPS} clips of {FRAMES} frames, 64 px, {DEVICE}"
    figures = report(title, times, I3D_CLIPS, "clips", peer, DEVICE, torch.float16, ours)
    profiled(title, ours)
    assert figures["share_of_peak"] >= I3D_SHARE


def test_lpips() -> None:
    target = noise(1, LPIPS_CLIPS, FRAMES, 64, 64).to(DEVICE)
    preds = [noise(2 + sample, LPIPS_CLIPS, FRAMES, 64, 64).to(DEVICE) for sample in range(PREDICTIONS)]
    metric, official = LPIPSAlex(DEVICE), official_lpips("alex").to(DEVICE)

    def ours() -> Tensor:
        reference = metric.reference(target)
        return torch.stack([metric.score(pred, reference) for pred in preds])

    def peer() -> Tensor:
        pairs = [zip(pred, target, strict=True) for pred in preds]
        found = [official(shown, known, normalize=True).flatten() for part in pairs for shown, known in part]
        return torch.stack(found).view(PREDICTIONS, LPIPS_CLIPS, FRAMES)

    with torch.no_grad():
        torch.testing.assert_close(ours().float(), peer(), atol=1e-3, rtol=0)  # the peer's convolutions are in TF32
        times = interleaved({"ours": waiting(ours), "peer": waiting(peer)}, ROUNDS)
    pairs = PREDICTIONS * LPIPS_CLIPS * FRAMES
    title = f"LPIPS (alex), 64 px, {PREDICTIONS} predictions a reference, {DEVICE}"
    figures = report(title, times, pairs, "pairs", peer, DEVICE, program=ours)
    profiled(title, ours)
    assert figures["share_of_peak"] >= LPIPS_SHARE
    assert figures["ratio"] >= LPIPS_RATIO


class Steps:
    """Training steps of our form, in one precision and layout, recorded or as they are."""

    def __init__(
        self, tensors: dict[str, Tensor], part: TrainingBatch, precision: str, graphs: bool = False, **fields: Any
    ) -> None:
        config = PokingConfig(gan_start=0, learning_rate=1e-9, **fields)
        self.training = PokingTraining(config, seed=0)
        self.training.supervision._perceptual = Perceptual("vgg19", 5, tensors).to(DEVICE)
        for network in self.training.networks.values():
            network.to(DEVICE)
        self.fabric = make_fabric(precision, DEVICE)
        self.engine = FabricEngine(self.fabric, self.training.optimizers, steps=100)
        self.part = part
        self.graphed = GraphedStep(self.training, self.engine) if graphs else None

    def __call__(self) -> dict[str, Tensor]:
        with self.fabric.autocast():
            if self.graphed is not None:
                return self.graphed(self.part)
            return self.training.step([self.part], self.engine)


@pytest.mark.parametrize("side", [64, 128])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_poking_step(side: int, precision: str) -> None:
    """The released program computes in float32 (TF32 where cuDNN chooses); it is the peer of both precisions."""
    tensors = classifier("vgg19", torch.float32)
    made = batch(STEP_CLIPS, HORIZON, side, dtype=torch.float32)
    assert made.poke is not None
    pokes = Poke(made.poke.location.to(DEVICE), made.poke.displacement.to(DEVICE))
    part = TrainingBatch(made.frames.to(DEVICE), 1, made.clip_ids, made.seed, poke=pokes, total=STEP_CLIPS)
    fields = {"size": side, "channels_last": precision == "bf16"}
    ours = Steps(tensors, part, precision, graphs=True, **fields)
    states = [{k: v.to(DEVICE) for k, v in network.state_dict().items()} for network in ours.training.networks.values()]
    moved = {key: value.to(DEVICE) for key, value in tensors.items()}
    released = ReleasedStep(states[0], Features("vgg19", moved), *states[1:3])
    poke = poke_map(pokes.location, pokes.displacement, side)
    drawn = tuple(
        torch.randint(STEP_CLIPS * HORIZON, (16,), generator=part.common_generator(tag)).tolist()
        for tag in ("real frames", "fake frames")
    )
    frames = part.frames * 2 - 1

    def peer() -> object:
        return released(frames, poke, *drawn)

    found = {name: float(value) for name, value in ours().items()}
    plain = Steps(tensors, part, "fp32", size=side)()
    for name in ("static", "reconstruction", "trajectory"):
        assert found[name] == pytest.approx(float(plain[name]), rel=HALF_STEPS), name
    del plain
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(WARM):
        waiting(ours)()
    peak = torch.cuda.max_memory_reserved() / 2**20
    times = interleaved({"ours": waiting(ours), "peer": waiting(peer)}, ROUNDS)
    type = torch.bfloat16 if precision == "bf16" else torch.float32
    title = f"poking step, {side} px, batch {STEP_CLIPS}, {precision}, {peak:.0f} MiB, {DEVICE}"
    figures = report(title, times, STEP_CLIPS, "clips", peer, DEVICE, type)
    profiled(title, ours)
    assert figures["ratio"] >= STEP_RATIOS[precision]
