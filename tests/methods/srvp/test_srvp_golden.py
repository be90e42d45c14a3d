"""Forward pass, losses and optimiser steps against the authors' program, in float64."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from peers.engine import PlainEngine
from peers.srvp_golden import VARIANTS, Golden, golden_record
from torch import Tensor
from torch.nn import functional

from methods.srvp import objective
from methods.srvp.network import Path, SRVPNetwork, sampled
from methods.srvp.objective import SRVPTraining
from methods.srvp.official import our_name
from methods.training import TrainingBatch


@pytest.fixture(scope="module", params=VARIANTS)
def golden(request: pytest.FixtureRequest) -> Golden:
    return golden_record(request.param)


@pytest.fixture(scope="module")
def network(golden: Golden) -> SRVPNetwork:
    return golden.network().eval()


def test_the_fill_is_that_of_the_record(golden: Golden) -> None:
    values = [golden.official_state[str(key)].double().reshape(-1) for key in golden["state/keys"]]
    np.testing.assert_allclose([v[0] for v in values], golden["state/first"], rtol=1e-14, atol=1e-16)
    np.testing.assert_allclose([v[-1] for v in values], golden["state/last"], rtol=1e-14, atol=1e-16)
    np.testing.assert_allclose([v.sum() for v in values], golden["state/sum"], rtol=1e-9, atol=1e-9)


class Predicted:
    """The prediction of the record `part`, piece by piece."""

    def __init__(self, golden: Golden, network: SRVPNetwork, part: str, context: int) -> None:
        self.frames_shown = golden.frames(context)
        self.codes, self.features = network.encode(self.frames_shown)
        self.content = network.content(self.codes[:, -network.config.conditioning :])
        self.first = network.first_parameters(self.codes)
        self.posteriors = network.posterior_parameters(self.codes)
        start = sampled(self.first, torch.from_numpy(golden[f"{part}/eps_y0"]))
        self.path: Path = network.evolve(start, self.posteriors, golden.tensor(f"{part}/eps_z"))
        self.skips = [feature[:, -1] for feature in self.features]
        self.terms = network.decoder.skip_terms(self.skips)
        self.stages: dict[str, Tensor] = {}
        blocks = {f"dec{i}": stage for i, stage in enumerate(network.decoder.stages)}
        handles = [
            block.register_forward_hook(lambda _, __, out, name=name: self.stages.update({name: out}))
            for name, block in {"dec_first": network.decoder.first, **blocks}.items()
        ]
        self.frames = network.decode(self.content, self.path.states, self.terms)
        for handle in handles:
            handle.remove()
        self.priors = network.prior_parameters(self.path.states[:, :-1])


@pytest.fixture(scope="module")
def predicted(golden: Golden, network: SRVPNetwork) -> Predicted:
    with torch.no_grad():
        return Predicted(golden, network, "eval", int(golden["config"][6]))


def test_encoder(golden: Golden, network: SRVPNetwork, predicted: Predicted) -> None:
    golden.assert_close("eval/x", predicted.frames_shown, 1e-15)
    golden.assert_close("eval/h", predicted.codes)
    with torch.no_grad():
        _, stages = network.encoder(predicted.frames_shown.transpose(0, 1).flatten(0, 1))
    for i, stage in enumerate(reversed(stages)):
        golden.assert_close(f"eval/enc{i}", stage, clips_first=False)
    for i, skip in enumerate(predicted.skips):
        golden.assert_close(f"eval/skip{i}", skip, clips_first=False)


def test_content_and_parameters(golden: Golden, network: SRVPNetwork, predicted: Predicted) -> None:
    with torch.no_grad():
        projected = functional.relu(network.content_frame(predicted.codes))
        golden.assert_close("eval/w_proj", projected)
        golden.assert_close("eval/lstm_out", network.inference(predicted.codes)[0])
    golden.assert_close("eval/w", predicted.content, clips_first=False)
    golden.assert_close("eval/q_y", predicted.first, clips_first=False)
    golden.assert_close("eval/q_z", predicted.posteriors)
    golden.assert_close("eval/p_z", predicted.priors)


def test_dynamics(golden: Golden, predicted: Predicted) -> None:
    path = predicted.path
    golden.assert_close("eval/y", path.states)
    golden.assert_close("eval/z", path.noises)
    golden.assert_close("eval/res", path.residuals)
    if golden.variant == "vgg":
        start = path.states[:, :1]
        golden.assert_close("eval/y_substeps", torch.cat([start, start + path.residuals.cumsum(1)], 1))


def test_decoder(golden: Golden, predicted: Predicted) -> None:
    assert len(predicted.stages) == 5
    for name, value in predicted.stages.items():
        if golden.variant == "vgg" and name != "dec3":
            value = functional.interpolate(value, scale_factor=2)
        in_time = value.unflatten(0, (len(predicted.content), -1)).transpose(0, 1).flatten(0, 1)
        golden.assert_close(f"eval/{name}", in_time, clips_first=False)


def test_frames(golden: Golden, predicted: Predicted) -> None:
    golden.assert_close("eval/frames", predicted.frames)
    golden.assert_close("eval/frame_mean", predicted.frames.mean((2, 3, 4)))
    golden.assert_close("eval/frame_std", predicted.frames.std((2, 3, 4), correction=0))


@pytest.mark.parametrize("golden", ["dcgan", pytest.param("vgg", marks=pytest.mark.slow)], indirect=True)
def test_longer_context_separates_the_first_from_the_last_frames(golden: Golden, network: SRVPNetwork) -> None:
    with torch.no_grad():
        found = Predicted(golden, network, "eval_long", network.config.conditioning + 2)
    golden.assert_close("eval_long/frames", found.frames)
    golden.assert_close("eval_long/y", found.path.states)
    golden.assert_close("eval_long/z", found.path.noises)
    golden.assert_close("eval_long/w", found.content, clips_first=False)
    golden.assert_close("eval_long/q_y", found.first, clips_first=False)
    golden.assert_close("eval_long/q_z", found.posteriors)
    golden.assert_close("eval_long/p_z", found.priors)


def official_names(golden: Golden) -> dict[str, str]:
    """Our name of each of the authors' parameters and buffers."""
    return {str(key): str(our_name(str(key), golden.variant == "vgg")) for key in golden["state/keys"]}


def compare_gradients(golden: Golden, step: int, ours: Mapping[str, Tensor | None]) -> None:
    """Compares the gradients of the parameters in `ours`, under our names."""
    tolerance, names = (1e-8, 1e-7)[step - 1], official_names(golden)
    rows = [(row, str(key)) for row, key in enumerate(golden["train/params"]) if names[str(key)] in ours]
    assert len(rows) == len(ours)
    for row, key in rows:
        gradient = ours[names[key]]
        assert gradient is not None
        flat, norm = gradient.reshape(-1), float(golden[f"train/step{step}/grad_norm"][row])
        places = torch.arange(16) * flat.numel() // 16
        np.testing.assert_allclose(flat.norm(), norm, rtol=tolerance, err_msg=key)
        np.testing.assert_allclose(flat.sum(), golden[f"train/step{step}/grad_sum"][row], rtol=0, atol=1e-6 * norm)
        known = golden[f"train/step{step}/grad_sample"][row]
        np.testing.assert_allclose(flat[places], known, rtol=0, atol=tolerance * norm, err_msg=key)


def compare_updates(golden: Golden, step: int, training: SRVPTraining, before: dict[str, Tensor]) -> None:
    names, ours = official_names(golden), training.network.state_dict()
    for row, key in enumerate(golden["train/params"]):
        flat = ours[names[str(key)]].reshape(-1)
        delta, norm = flat - before[names[str(key)]].reshape(-1), float(golden[f"train/step{step}/delta_norm"][row])
        places = torch.arange(16) * flat.numel() // 16
        known = golden[f"train/step{step}/param_sample"][row]
        np.testing.assert_allclose(flat[places], known, rtol=0, atol=1e-9, err_msg=key)
        np.testing.assert_allclose(delta.norm(), norm, rtol=1e-7, err_msg=key)
        np.testing.assert_allclose(delta.sum(), golden[f"train/step{step}/delta_sum"][row], rtol=0, atol=1e-6 * norm)
    for row, key in enumerate(golden["train/buffers"]):
        value = ours[names[str(key)]].double()
        np.testing.assert_allclose(value.mean(), golden[f"train/step{step}/buffer_mean"][row], rtol=0, atol=1e-9)
        if step == 1 and value.ndim:
            places = torch.arange(8) * value.numel() // 8
            np.testing.assert_allclose(value[places], golden["train/step1/buffer_sample"][row], rtol=0, atol=1e-9)


def filled_training(golden: Golden) -> SRVPTraining:
    """A training whose network is the filled one."""
    with torch.device("meta"):
        training = SRVPTraining(golden.config, seed=0)
    training.network = golden.network()
    training.networks = {"predictor": training.network}
    training.optimizers = {"srvp": torch.optim.Adam(training.network.parameters(), lr=golden.config.learning_rate)}
    return training


def compare_forward(golden: Golden, made: objective.Reconstruction) -> None:
    golden.assert_close("train/step1/h", made.codes)
    golden.assert_close("train/step1/frames", made.frames)
    golden.assert_close("train/step1/y", made.path.states)
    golden.assert_close("train/step1/z", made.path.noises)
    golden.assert_close("train/step1/res", made.path.residuals)
    golden.assert_close("train/step1/w", made.content, clips_first=False)
    golden.assert_close("train/step1/q_y", made.first, clips_first=False)
    golden.assert_close("train/step1/q_z", made.posteriors)
    golden.assert_close("train/step1/p_z", made.priors)


TERMS = ("loss", "likelihood", "divergence_y", "divergence_z", "residual")


def test_training_pass_of_vgg() -> None:
    """Forward, losses and the gradients that are quick to have; the slow test has all of them."""
    golden = golden_record("vgg")
    network, frames = golden.network().train(), golden.frames(int(golden["config"][8]))
    slow = ("encoder", "decoder.first", "decoder.stages.0", "decoder.stages.1", "decoder.stages.2")
    quick = {name: value for name, value in network.named_parameters() if not name.startswith(slow)}
    assert len(quick) > 30
    for name, value in network.named_parameters():
        value.requires_grad_(name in quick)
    made = objective.reconstruct(network, frames, golden.draws())
    terms = objective.objective(golden.config, frames, made)
    compare_forward(golden, made)
    found = [getattr(terms, name).item() for name in TERMS]
    np.testing.assert_allclose(found, golden["train/step1/loss"], rtol=1e-9)
    gradients = torch.autograd.grad(terms.loss, list(quick.values()))
    compare_gradients(golden, 1, dict(zip(quick, gradients, strict=True)))


@pytest.mark.parametrize("variant", ["dcgan", pytest.param("vgg", marks=pytest.mark.slow)])
def test_two_optimiser_steps(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = golden_record(variant)
    made: list[objective.Reconstruction] = []
    plain = objective.reconstruct

    def kept(*args: object) -> objective.Reconstruction:
        made.append(plain(*args))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(objective, "draw", lambda config, batch: golden.draws())
    monkeypatch.setattr(objective, "reconstruct", kept)
    training = filled_training(golden)
    frames = golden.frames(int(golden["config"][8]))
    golden.assert_close("train/x", frames, 1e-15)
    batch = TrainingBatch(frames, golden.config.conditioning, ("a", "b"), seed=0)
    engine = PlainEngine(training.optimizers, steps=100)
    for step in (1, 2):
        before = {key: value.clone() for key, value in training.network.state_dict().items()}
        losses = training.step([batch], engine)
        np.testing.assert_allclose([losses[key].item() for key in TERMS], golden[f"train/step{step}/loss"], rtol=1e-9)
        compare_gradients(golden, step, {name: p.grad for name, p in training.network.named_parameters()})
        compare_updates(golden, step, training, before)
        engine.iteration += 1
    compare_forward(golden, made[0])
