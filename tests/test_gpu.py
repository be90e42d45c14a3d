"""A GPU gives the numbers of the CPU: predictions, training steps, evaluations, resumed trainings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Convolved, DriftingDiscs
from peers.tiny_training import TinyTraining
from peers.untrained import TRAINED, narrow_config, untrained_method
from safetensors.torch import load_file
from torch import Tensor

from bench.data.augment import Augmentation
from bench.distributed import World
from bench.evaluate import evaluate
from bench.evaluation.prediction import predict
from bench.flow.registry import DEFAULT
from bench.pokes import PokeRule
from bench.protocol import Protocol
from bench.store import Store
from bench.train import make_fabric, train
from bench.training.engine import FabricEngine
from bench.training.feed import Feed, TrainingData
from bench.training.graph import GraphedStep
from bench.training.plan import DataPlan, make_plan
from methods.conformance.clips import generated_clips, shown
from methods.interface import Poke
from methods.poking.adapter import Poking
from methods.poking.config import PokingConfig
from methods.poking.layers import instance_norm
from methods.poking.network import PokingNetwork
from methods.registry import build_method
from methods.training import TRAININGS, TrainingBatch

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

CPU, GPU = torch.device("cpu"), torch.device("cuda")
PIXELS = 1e-4
"""Absolute, of predictions in [0, 1] in full float32."""
LOSSES, HALF = 1e-3, 0.05
"""Relative, of the losses of a first step: in float32, and in bfloat16."""
ROWS = 1e-4
"""Of metrics, absolute; a thousand times that for PSNR in dB."""
SIDE, CONTEXT, HORIZON, CLIPS = 64, 2, 10, 2


@pytest.fixture
def full_float32() -> Iterator[None]:
    """Convolutions and products without TF32, in trainings too."""
    switches: tuple[Any, ...] = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)
    before = [switch.fp32_precision for switch in switches]
    for switch in switches:
        switch.fp32_precision = "ieee"
    yield
    for switch, precision in zip(switches, before, strict=True):
        switch.fp32_precision = precision


def batch(device: torch.device) -> TrainingBatch:
    """Noise with pokes, flow and tracks; the same on every device."""
    generator = torch.Generator().manual_seed(2)
    frames = torch.rand(CLIPS, CONTEXT + HORIZON, 3, SIDE, SIDE, generator=generator)
    location = torch.full((CLIPS, 2), 30.0, device=device)
    tracks = 60 * torch.rand(CLIPS, 5, HORIZON + 1, 2, generator=generator)
    return TrainingBatch(
        frames.to(device),
        CONTEXT,
        tuple(f"clip-{row}" for row in range(CLIPS)),
        seed=3,
        poke=Poke(location, torch.full_like(location, 5.0)),
        flow=torch.full((CLIPS, 2, SIDE, SIDE), 5.0, device=device),
        tracks=tracks.to(device),
        total=CLIPS,
    )


class Stepper:
    """One training of a narrow network on one device, its configuration with `changes`."""

    def __init__(self, name: str, device: torch.device, precision: str = "fp32", **changes: Any) -> None:
        kind: Any = TRAININGS.get(name)
        config = narrow_config(name)
        self.training = kind(type(config)(**{**config.model_dump(), **changes}), seed=0)
        self.fabric = make_fabric(precision, device.type)
        for network in self.training.networks.values():
            network.to(device)
        self.engine = FabricEngine(self.fabric, self.training.optimizers, steps=100)
        self.batch = batch(device)

    def step(self) -> dict[str, Tensor]:
        with self.fabric.autocast():
            found: dict[str, Tensor] = self.training.step([self.batch], self.engine)
        self.engine.iteration += 1
        return found


@pytest.mark.parametrize("name", TRAINED)
def test_predictions_are_those_of_the_cpu(name: str, tmp_path: Path) -> None:
    spec = untrained_method(name, tmp_path)
    given = shown(generated_clips(SIDE, CONTEXT, HORIZON), CONTEXT)
    found = []
    for device in (CPU, GPU):
        method = build_method(spec)
        method.prepare(device)
        found.append(predict(method, given.conditioning.to(device), given.truth.to(device), 2, 0).cpu())
    assert found[0].std() > 0
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=PIXELS)


def test_many_pokes_in_half_precision_are_near_those_in_full() -> None:
    config = PokingConfig()
    method = Poking.sharing(PokingNetwork(config), config)
    method.prepare(GPU)
    x0 = torch.rand(3, config.size, config.size, generator=torch.Generator().manual_seed(0)).to(GPU)
    pokes = Poke(torch.full((20, 2), 30.0, device=GPU), torch.linspace(-8, 8, 40, device=GPU).view(20, 2))
    wanted = method.rollout_pokes(x0, pokes, HORIZON, frames=[HORIZON])
    with torch.autocast("cuda", torch.float16):
        found = method.rollout_pokes(x0, pokes, HORIZON, frames=[HORIZON])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-2)


@pytest.mark.usefixtures("full_float32")
@pytest.mark.parametrize("name", TRAINED)
def test_a_first_step_has_the_losses_of_the_cpu(name: str) -> None:
    wanted, found, half = (Stepper(name, *where).step() for where in ((CPU,), (GPU,), (GPU, "bf16")))
    for key, value in wanted.items():
        largest = max(abs(float(value)), 1e-3)
        assert float(found[key]) == pytest.approx(float(value), abs=LOSSES * largest), key
        assert bool(half[key].isfinite()), key
    total = "loss" if "loss" in wanted else next(iter(wanted))
    assert float(half[total]) == pytest.approx(float(wanted[total]), rel=HALF)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_maps_with_channels_innermost_stay_so_where_they_are_normalised(dtype: torch.dtype) -> None:
    x = torch.rand(2, 8, 16, 16, device=GPU).to(dtype, memory_format=torch.channels_last)
    with torch.autocast("cuda", torch.bfloat16):
        found = instance_norm(x)
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    wanted = torch.nn.functional.instance_norm(x.double(), eps=1e-5)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize("name", TRAINED)
def test_a_step_never_waits_for_the_device(name: str) -> None:
    stepper = Stepper(name, GPU, "bf16")
    for _ in range(2):  # memory is reserved and kernels are chosen
        stepper.step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        stepper.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.usefixtures("full_float32")
@pytest.mark.parametrize("changes", [{"gan": True, "gan_start": 5}, {"poke_encoder": "plus", "decoder": "warp"}])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recorded_steps_are_plain_steps(changes: dict[str, Any], precision: str) -> None:
    """Their rates are so small that rounding hardly grows from step to step."""
    changes = {**changes, "learning_rate": 1e-6}
    if changes.get("decoder") == "warp":
        changes |= {"motion_weight": 0.8, "still_weight": 5.0, "poke_weight": 1.6, "hold": 0.0}
    plain, recorded = (Stepper("poking", GPU, precision, **changes) for _ in range(2))
    graphed = GraphedStep(recorded.training, recorded.engine)
    for step in range(10):
        plain.batch = recorded.batch = replace(
            plain.batch, seed=step, iteration=step, frames=plain.batch.frames.flip(0)
        )
        wanted = {key: float(value) for key, value in plain.step().items()}
        with recorded.fabric.autocast():
            found = {key: float(value) for key, value in graphed(recorded.batch).items()}
        recorded.engine.iteration += 1
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            assert found[key] == pytest.approx(value, rel=HALF if precision == "bf16" else LOSSES, abs=LOSSES), (
                step,
                key,
            )


def test_batches_come_without_waiting_for_the_device() -> None:
    data = DriftingDiscs(8, size=SIDE, length=11)
    plan = DataPlan(
        dataset="discs", size=SIDE, flow=DEFAULT, augmentation=Augmentation(), poke=PokeRule(background=0.5)
    )
    feed = Feed(data, plan, frozenset({"poke"}), 4, 0, GPU, World(0, 1))
    for batch_read in feed.loader:
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            made = feed.ready(batch_read)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert made.frames.is_cuda
        assert made.flow is not None
        assert made.flow.is_cuda


def test_a_recorded_training_is_stopped_and_goes_on(tmp_path: Path) -> None:
    sets = ["loop.steps=14", "loop.graphs=true", "loop.precision=bf16", "loop.validate_every=0", "loop.log_every=1"]
    sets += [f"data.flow={DEFAULT}", "model.width=32", "model.min_side=32", "model.gan=true", "model.gan_start=8"]
    data = TrainingData(DriftingDiscs(18, size=SIDE, length=11), None)

    def run(folder: str, report: Any = None) -> list[dict[str, Any]]:
        plan = make_plan("poking", "small", [*sets, "loop.checkpoint_every=0", "data.validation_clips=0"])
        train(plan, tmp_path / folder, data=data, fabric=make_fabric("bf16", "cuda"), report=report)
        return [json.loads(line) for line in (tmp_path / folder / "log.jsonl").read_text().splitlines()]

    def stopping(done: int, _: int, __: str) -> None:
        if done == 6:
            raise KeyboardInterrupt

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("parts", stopping)
    for ours, once in zip(run("parts"), whole, strict=True):
        assert ours["iteration"] == once["iteration"]
        assert ours["dynamics"] == pytest.approx(once["dynamics"], rel=HALF)


def test_an_evaluation_has_the_rows_of_the_cpu(tmp_path: Path) -> None:
    data = DriftingDiscs(20, size=SIDE)
    metrics = ("fvd", "kvd", "lpips_alex", "lpips_vgg", "psnr", "ssim")
    protocol = Protocol(dataset="discs", size=SIDE, metrics=metrics, flow=DEFAULT, poke={}, tracker="dis")
    specs = ("copy-last-frame", "noisy-truth", untrained_method("poking", tmp_path), untrained_method("srvp", tmp_path))
    made = []
    for device in ("cpu", "cuda"):
        store = Store(tmp_path / device)
        made.append(evaluate([build_method(spec) for spec in specs], data, protocol, store, device=device))
    for wanted, found in zip(*made, strict=True):
        for metric in metrics[2:]:
            tolerance = 1000 * ROWS if metric == "psnr" else ROWS
            found_rows, wanted_rows = found.frame_values(metric), wanted.frame_values(metric)
            np.testing.assert_allclose(found_rows, wanted_rows, rtol=0, atol=tolerance, err_msg=metric)
        for metric in metrics[:2]:
            values = [record.facts.set_results[metric].value for record in (found, wanted)]
            assert values[0] == pytest.approx(values[1], rel=1e-3, abs=1e-3), metric


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRAININGS._loaded, "tiny", TinyTraining)


@pytest.mark.usefixtures("tiny")
def test_a_resumed_training_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    fixed = [f"data.flow={DEFAULT}", "loop.validate_every=0", "loop.checkpoint_every=5"]
    data = TrainingData(DriftingDiscs(18, length=11), DriftingDiscs(6, length=11, name="held-out"))

    def stopping(done: int, _: int, __: str) -> None:
        if done == 5:
            raise KeyboardInterrupt

    def run(folder: str, report: Any = None) -> dict[str, Tensor]:
        plan = make_plan("tiny", None, [*fixed, "loop.log_every=5"])
        trained = train(plan, tmp_path / folder, data=data, fabric=make_fabric("fp32", "cuda"), report=report)
        return load_file(trained.model)

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("parts", stopping)
    for key, value in run("parts").items():
        torch.testing.assert_close(value, whole[key], rtol=1e-4, atol=1e-5)


class Hungry(Convolved):
    """Takes a third of the memory of the device for each clip of a batch."""

    def prepare(self, device: torch.device) -> None:
        super().prepare(device)
        self.weight = self.weight.to(device)
        self.share = torch.cuda.get_device_properties(device).total_memory // 3
        self.sizes: list[int] = []

    def predict(self, conditioning: Any, samples: int, seed: int) -> Tensor:
        held = [torch.empty(self.share, dtype=torch.uint8, device="cuda") for _ in conditioning.clip_ids]
        self.sizes.append(len(held))
        self.calls += 1
        x0 = torch.nn.functional.conv2d(conditioning.x0, self.weight, padding=2)
        return x0[:, None, None].expand(-1, samples, conditioning.horizon, -1, -1, -1).clamp(0, 1)


def test_what_does_not_fit_is_computed_in_smaller_batches(tmp_path: Path) -> None:
    data, protocol = DriftingDiscs(9), Protocol(dataset="discs", size=32, metrics=("psnr",))
    method = Hungry()
    [record] = evaluate([method], data, protocol, Store(tmp_path), device="cuda", batch_size=8)
    assert len(record.facts.clip_ids) == 9
    assert max(method.sizes) <= 2
