"""IVRNN against the authors' modules, see tests/golden/ivrnn.md.

The quick tests compute the first predictions of the first clip: nothing here looks ahead, nor at other clips, so these
are the stored numbers. The slow ones compute everything, with gradients and one step of Adam.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peers.engine import PlainEngine
from peers.ivrnn_golden import (
    BATCH,
    STEPS,
    VARIANTS,
    error,
    filled,
    frames,
    golden,
    noise,
    prediction_error,
    raw_values,
    tiled,
)
from torch import Tensor, nn

from methods.ivrnn.config import PAPER_WIDTHS, IVRNNConfig
from methods.ivrnn.layers import Block, ConvLSTM, InitialState, PlainConvLSTM, Residual
from methods.ivrnn.network import Gaussian, ImprovedVRNN
from methods.ivrnn.objective import IVRNNTraining, objective
from methods.ivrnn.official import UNUSED, official_names
from methods.ivrnn.sampler import incremental, released
from methods.training import Engine, TrainingBatch

CONTEXT, SHOWN = 2, 3
ACTIVATIONS, STATISTICS, PREDICTIONS = 1e-5, 3e-5, 5e-5
"""Tolerances: absolute, of float32 values of order 1."""


@pytest.fixture(scope="module", params=list(VARIANTS))
def built(request: pytest.FixtureRequest) -> tuple[str, ImprovedVRNN]:
    """One network at a time: each takes up to 0.9 GB."""
    return request.param, filled(request.param).requires_grad_(False)


@pytest.mark.parametrize(("model", "expected"), [("H", 207_890_619), ("F", 151_423_931), ("V4", 230_744_387)])
def test_the_paper_size_has_the_released_parameters(model: str, expected: int) -> None:
    config = IVRNNConfig(variant=VARIANTS[model])
    with torch.device("meta"):
        network = ImprovedVRNN(config)
    unused = 6_300_672 if model == "V4" else 0
    assert config.widths == PAPER_WIDTHS
    assert sum(parameter.numel() for parameter in network.parameters()) + unused == expected


@pytest.mark.parametrize("model", list(VARIANTS))
def test_every_released_tensor_has_its_place(model: str) -> None:
    names = official_names(IVRNNConfig(variant=VARIANTS[model])).values()
    assert len(set(names)) == len(names)
    stored = golden()[f"{model}/keys"].tolist()
    assert set(stored) - set(names) == {key for key in stored if key.startswith(UNUSED)}
    assert set(names) <= set(stored)


def official_place(names: dict[str, str], name: str, module: nn.Module) -> str:
    """What the golden file calls the output of a module of ours; `names` are those of the parameters."""
    within = {
        Residual: (".conv1.weight", ".conv_0.0.weight"),
        ConvLSTM: (".cell_norm.weight", ".model.c_norm.weight"),
        PlainConvLSTM: (".gates.weight", ".model.gates.weight"),
        InitialState: (".norm.weight", ".2.model.weight"),
        Block: (".norm.weight", ".main.1.weight"),
        nn.Conv2d: (".weight", ".model.weight"),
    }
    own, official = within[type(module)]
    return names[f"{name}{own}"].removesuffix(official)


def recorded(network: ImprovedVRNN, clips: int) -> tuple[dict[str, Tensor], list[torch.utils.hooks.RemovableHandle]]:
    """Fills a dictionary with outputs under their names in the golden file, shaped as there."""
    found: dict[str, Tensor] = {}
    handles = []

    def record(name: str, module: nn.Module) -> None:
        def hook(_: nn.Module, __: object, output: Tensor | tuple) -> None:
            if isinstance(module, InitialState):
                found[name] = torch.cat(output, dim=1)[:, None]
            elif isinstance(module, ConvLSTM | PlainConvLSTM):
                found[name] = output[0]
            elif isinstance(module, Residual):
                found[name] = output
            else:
                found[name] = output.unflatten(0, (clips, -1))

        handles.append(module.register_forward_hook(hook))

    names, dense = official_names(network.config), network.config.dense_prior
    for name, module in network.named_modules():
        last_of_level = name.startswith("encoder.levels.") and isinstance(module, Residual)
        if last_of_level and not dense:
            level, block = name.split(".")[2:]
            if block == ("0" if level == "0" else "1"):
                record(f"emb_net.{level}", module)
        elif (
            isinstance(module, Residual | ConvLSTM | PlainConvLSTM | InitialState)
            or name.endswith(".grow")
            or (name == "output" and dense)
        ):
            record(official_place(names, name, module), module)
    return found, handles


@torch.no_grad()
def test_mean_pass(built: tuple[str, ImprovedVRNN]) -> None:
    model, network = built
    found, handles = recorded(network, clips=1)
    out = network(frames()[:1, :SHOWN], None)
    for handle in handles:
        handle.remove()
    stored = {key.split("/")[2] for key in golden() if key.startswith(f"{model}/act/")}
    # The stem and the poolings of the flat encoder are not modules of ours that have an output of their own.
    assert stored - found.keys() <= {f"emb_net.{i}" for i in (0, 2, 5, 8, 11, 14)}
    assert found.keys() <= stored
    for name, value in found.items():
        assert error(f"{model}/act/{name}", value) < (ACTIVATIONS if name.startswith("emb") else STATISTICS), name
    _check_statistics(f"{model}/mean/q", out.posterior)
    _check_statistics(f"{model}/mean/p", out.prior)
    assert prediction_error(f"{model}/mean/preds", out.frames) < PREDICTIONS


def _check_statistics(name: str, found: list[Gaussian]) -> None:
    for level, gaussian in enumerate(found):
        assert error(f"{name}{level}_mean", gaussian.mean) < STATISTICS, level
        assert error(f"{name}{level}_logvar", gaussian.logvar) < STATISTICS, level


def cut(levels: list[Tensor], clips: int = 1, steps: int = SHOWN - CONTEXT) -> list[Tensor]:
    return [level[:clips, :steps] for level in levels]


@torch.no_grad()
def test_pass_with_noise_for_the_prior(built: tuple[str, ImprovedVRNN]) -> None:
    model, network = built
    predicted, prior = network.prior_pass(frames()[:1, :SHOWN], cut(noise(model, 0, "p")))
    _check_statistics(f"{model}/sampled/p", prior)
    assert prediction_error(f"{model}/sampled/preds", predicted) < PREDICTIONS


@torch.no_grad()
def test_pass_with_noise_for_the_posterior(built: tuple[str, ImprovedVRNN]) -> None:
    model, network = built
    predicted = network(frames()[:1, :SHOWN], cut(noise(model, 1, "q"))).frames
    assert prediction_error(f"{model}/train/preds", predicted) < PREDICTIONS


def test_incremental_sampling_of_means_is_the_released_procedure(built: tuple[str, ImprovedVRNN]) -> None:
    model, network = built
    found = incremental(network, frames()[:1, :CONTEXT], 2, 1, None)
    assert np.abs(found[..., 1::2, ::2].numpy() - golden()[f"{model}/ar_mean/frames"][:1, :2]).max() < PREDICTIONS


def test_incremental_first_frame_with_noise_is_the_released_one(built: tuple[str, ImprovedVRNN]) -> None:
    model, network = built
    found = incremental(network, frames()[:1, :CONTEXT], 1, 1, lambda _: cut(noise(model, 2, "p", 3), steps=1))
    assert np.abs(found[..., 1::2, ::2].numpy() - golden()[f"{model}/ar_sampled/frames"][:1, :1]).max() < PREDICTIONS


@pytest.mark.slow
def test_released_sampling(built: tuple[str, ImprovedVRNN]) -> None:
    model, network = built
    numbers = iter((2, 3, 4))
    context = frames()[:, :CONTEXT]
    found = released(network, context, 3, 1, lambda steps: noise(model, next(numbers), "p", steps))
    assert np.abs(found[..., 1::2, ::2].numpy() - golden()[f"{model}/ar_sampled/frames"]).max() < PREDICTIONS
    for sample in (incremental, released):
        found = sample(network, context, 3, 1, None)
        assert np.abs(found[..., 1::2, ::2].numpy() - golden()[f"{model}/ar_mean/frames"]).max() < PREDICTIONS


@pytest.mark.slow
@torch.no_grad()
def test_whole_mean_and_sampled_passes(built: tuple[str, ImprovedVRNN]) -> None:
    model, network = built
    out = network(frames(), None)
    _check_statistics(f"{model}/mean/q", out.posterior)
    _check_statistics(f"{model}/mean/p", out.prior)
    assert prediction_error(f"{model}/mean/preds", out.frames) < PREDICTIONS
    assert np.abs(out.frames[0, -1].numpy() - golden()[f"{model}/mean/frame"]).max() < PREDICTIONS
    stored = golden()[f"{model}/mean/preds/stat"]
    stat = [out.frames.double().mean(), out.frames.double().std(correction=0), out.frames.min(), out.frames.max()]
    assert np.abs(np.array([float(v) for v in stat]) - stored).max() < PREDICTIONS
    predicted, prior = network.prior_pass(frames(), noise(model, 0, "p"))
    _check_statistics(f"{model}/sampled/p", prior)
    assert prediction_error(f"{model}/sampled/preds", predicted) < PREDICTIONS


class GoldenTraining(IVRNNTraining):
    """With the golden file's weights and noise in place of random ones."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.config = IVRNNConfig(variant=VARIANTS[model], beta=float(golden()[f"{model}/beta"]))
        self.network = filled(model)
        self.networks = {"predictor": self.network}
        # The optimiser of the training class itself, of a network without memory.
        with torch.device("meta"):
            options = IVRNNTraining(self.config, 0).optimizers["predictor"].defaults
        self.optimizers = {"predictor": torch.optim.Adam(self.network.parameters(), **options)}

    def terms(self, batch: TrainingBatch) -> dict[str, Tensor]:
        self.last = self.network(batch.frames, noise(self.model, 1, "q"))
        return objective(self.config, self.last, batch.future)


GRADIENTS = {"H": 1, "F": 2, "V4": 1}
"""Multiples of the tolerances of gradients. Those stored for F differ by up to 1.9e-3 from a float64 evaluation."""


def picked(count: int) -> Tensor:
    m = torch.arange(16)
    return ((2 * m + 1) * count // 32 + m) % count


@pytest.mark.slow
@pytest.mark.parametrize("model", list(VARIANTS))
def test_one_training_step(model: str) -> None:
    stored, training = golden(), GoldenTraining(model)
    batch = TrainingBatch(frames(), CONTEXT, ("a", "b"), seed=0, total=BATCH)
    assert batch.future.shape[1] == STEPS
    places = {key: rank for rank, key in enumerate(stored[f"{model}/keys"].tolist())}
    parameters = dict(training.network.named_parameters())
    ranks = {own: places[official] for own, official in official_names(training.config).items()}
    before = {own: p.detach().flatten()[picked(p.numel())] for own, p in parameters.items()}

    engine: Engine = PlainEngine(training.optimizers)
    found = training.step([batch], engine)
    assert prediction_error(f"{model}/train/preds", training.last.frames) < PREDICTIONS
    assert [float(found[k]) for k in ("loss", "reconstruction", "divergence")] == pytest.approx(
        stored[f"{model}/train/loss"], rel=1e-5
    )
    levels = [float(found[f"divergence_{level}"]) for level in range(len(training.config.latents))]
    assert levels == pytest.approx(stored[f"{model}/train/kl_per_level"], rel=1e-5)
    for kind, expected in zip(("l2", "bce"), stored[f"{model}/train/rec_l2_bce"], strict=True):
        config = training.config.model_copy(update={"reconstruction": kind})
        assert float(objective(config, training.last, batch.future)["reconstruction"]) == pytest.approx(
            expected, rel=1e-5
        )

    close, norms, slack = [], [], GRADIENTS[model]
    for own, parameter in parameters.items():
        rank, gradient = ranks[own], parameter.grad
        assert gradient is not None
        norm = stored[f"{model}/train/grad_norm"][rank]
        norms.append(abs(float(gradient.double().norm()) / norm - 1))
        assert norms[-1] < 2e-3 * slack, own
        v = tiled(torch.from_numpy(raw_values(rank)), gradient.shape)
        assert (
            abs(float((gradient.double() * v).sum()) - stored[f"{model}/train/grad_dot"][rank]) < 5e-3 * norm * slack
        ), own
        chosen = gradient.flatten()[picked(gradient.numel())].numpy()
        assert np.abs(chosen - stored[f"{model}/train/grad_sub"][rank]).max() < 3e-3 * norm * slack, own
        delta = parameter.detach().flatten()[picked(parameter.numel())] - before[own]
        close.append(np.abs(delta.numpy() - stored[f"{model}/adam/delta"][rank]) < 1e-6)
    assert np.median(norms) < 2e-4 * slack
    assert np.concatenate(close).mean() > 0.995

    del engine, training.optimizers
    training.network.zero_grad()
    with torch.no_grad():
        after = training.terms(batch)
    assert [float(after["reconstruction"]), float(after["divergence"])] == pytest.approx(
        stored[f"{model}/adam/loss_after"], rel=2e-3 * slack
    )
