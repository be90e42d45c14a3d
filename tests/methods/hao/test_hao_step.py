"""Objective and two steps of Adam against the authors' program; see tests/golden/hao.md."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peers.engine import PlainEngine
from peers.hao_golden import PREFIX, deviation, filled_network, golden, scene

from methods.hao import objective
from methods.hao.config import HaoConfig
from methods.hao.network import Prediction
from methods.hao.objective import HaoTraining, Pairs, hao_loss, valid_region
from methods.hao.trajectories import trajectory_map
from methods.training import TrainingBatch

LOSSES = 1e-9


def pairs(size: int) -> Pairs:
    x0, target, tracks = scene(size)
    return Pairs(x0, target, trajectory_map(tracks[:, :, 0], tracks[:, :, 1], size, size))


def as_batch(shown: Pairs) -> TrainingBatch:
    frames = torch.stack([shown.source, shown.target], 1)
    return TrainingBatch(frames, 1, tuple(str(row) for row in range(len(frames))), 0)


@pytest.mark.parametrize("size", [64, 128])
def test_valid_region(size: int) -> None:
    found = valid_region(scene(size)[1])
    assert np.array_equal(found.numpy().astype(np.uint8), golden()[f"s{size}/valid"])


@pytest.mark.parametrize(
    ("size", "steps"),
    [(64, 1), pytest.param(64, 2, marks=pytest.mark.slow), pytest.param(128, 2, marks=pytest.mark.slow)],
)
def test_steps(size: int, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = golden()
    shown = pairs(size)
    training = HaoTraining(HaoConfig(size=size, learning_rate=float(stored["lr"])), seed=0)
    training.network.double().load_state_dict(filled_network().state_dict())
    monkeypatch.setattr(objective, "draw_pairs", lambda batch, config: shown)
    predictions: list[Prediction] = []

    def noted(prediction: Prediction, target: torch.Tensor, config: HaoConfig) -> objective.Loss:
        predictions.append(prediction)
        return hao_loss(prediction, target, config)

    monkeypatch.setattr(objective, "hao_loss", noted)
    with torch.no_grad():
        loss = hao_loss(
            training.network.eval().predict(shown.source, shown.trajectories), shown.target, training.config
        )
    assert np.allclose([float(term) for term in loss], stored[f"s{size}/eval/loss"], rtol=LOSSES, atol=0)
    engine = PlainEngine(training.optimizers)
    names = [name for name, _ in training.network.named_parameters()]
    order = [names.index(str(key).removeprefix(PREFIX)) for key in stored[f"s{size}/train/params"]]
    for step, gradient_tolerance, sum_tolerance in ((1, 1e-7, 1e-6), (2, 1e-5, 1e-4))[:steps]:
        key = f"s{size}/train/step{step}"
        before = {name: p.detach().clone() for name, p in training.network.named_parameters()}
        logged = training.step([as_batch(shown)], engine)
        assert list(logged) == ["loss", "reconstruction", "completion", "mask"]
        assert np.allclose([float(v) for v in logged.values()], stored[f"{key}/loss"], rtol=LOSSES, atol=0)
        gradients = engine.gradients["predictor"]
        for row, place in enumerate(order):
            gradient = gradients[place].flatten()
            parameter = training.network.get_parameter(names[place]).detach().flatten()
            change = parameter - before[names[place]].flatten()
            at = [i * gradient.numel() // 16 for i in range(16)]
            norm = float(stored[f"{key}/grad_norm"][row])
            assert np.allclose(parameter[at], stored[f"{key}/param_sample"][row], rtol=0, atol=1e-8)
            if norm == 0:  # a bias before batch norm: only rounding is left of its gradient
                assert gradient.abs().max() < 1e-12
                continue
            assert float(gradient.norm()) == pytest.approx(norm, rel=gradient_tolerance)
            assert np.allclose(gradient[at], stored[f"{key}/grad_sample"][row], rtol=0, atol=gradient_tolerance * norm)
            assert float(gradient.sum()) == pytest.approx(stored[f"{key}/grad_sum"][row], abs=sum_tolerance * norm)
            length = float(stored[f"{key}/delta_norm"][row])
            assert float(change.norm()) == pytest.approx(length, rel=1e-5)
            assert float(change.sum()) == pytest.approx(stored[f"{key}/delta_sum"][row], abs=sum_tolerance * length)
        buffers = dict(training.network.named_buffers())
        for row, name in enumerate(stored[f"s{size}/train/buffers"]):
            buffer = buffers[str(name).removeprefix(PREFIX)].double().flatten()
            assert float(buffer.mean()) == pytest.approx(stored[f"{key}/buffer_mean"][row], abs=1e-8)
            if step == 1:
                at = [i * buffer.numel() // 8 for i in range(8)]
                assert np.allclose(buffer[at], stored[f"{key}/buffer_sample"][row], rtol=0, atol=1e-8)
    first = predictions[0]
    named = {"out": first.frame, "flow": first.heads.flow, "comp": first.completion, "mask": first.mask}
    assert max(deviation(value, f"s{size}/train/step1/{name}") for name, value in named.items()) < 1e-9
