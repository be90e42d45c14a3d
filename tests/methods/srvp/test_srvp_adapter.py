"""Predictions of the adapter, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peers.engine import PlainEngine
from peers.srvp_golden import golden_record
from peers.srvp_tiny import naive_prediction, tiny, tiny_batch, tiny_network
from torch import Tensor

from methods.interface import Conditioning
from methods.registry import build_method
from methods.srvp.adapter import ROLLED_TOGETHER, SRVP
from methods.srvp.objective import SRVPTraining
from methods.weights_file import save_weights
from metrics.cache import sha256_of
from metrics.errors import MethodError


def conditioning(clips: int = 2, context: int = 2, horizon: int = 3, size: int = 64) -> Conditioning:
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(clips, context, 3, size, size, generator=generator)
    return Conditioning(frames, [f"clip-{row}" for row in range(clips)], horizon)


@pytest.fixture(params=["vgg", "dcgan"])
def method(request: pytest.FixtureRequest) -> SRVP:
    return SRVP.sharing(tiny_network(architecture=request.param).eval())


def test_shape_range_and_samples(method: SRVP) -> None:
    found = method.predict(conditioning(), samples=3, seed=0)
    assert found.shape == (2, 3, 3, 3, 64, 64)
    assert found.dtype == torch.float32
    assert found.min() >= 0
    assert found.max() <= 1
    assert (found[:, 0] - found[:, 1]).abs().max() > 1e-3
    assert (found[0] - found[1]).abs().max() > 1e-3


@pytest.mark.parametrize("fields", [{}, {"architecture": "dcgan"}, {"skips": False}, {"conditioning": 1}])
@pytest.mark.parametrize("context", [2, 4])
def test_sharing_the_encoding_changes_nothing(fields: dict, context: int) -> None:
    network = tiny_network(**fields).double().eval()
    given = conditioning(context=context)
    given = Conditioning(given.context.double(), given.clip_ids, given.horizon)
    with torch.no_grad():
        known = naive_prediction(network, given, 3, seed=5)
    torch.testing.assert_close(SRVP.sharing(network).predict(given, 3, seed=5), known, atol=1e-12, rtol=0)
    assert known.std() > 0.01


@pytest.mark.parametrize("variant", [pytest.param("vgg", marks=pytest.mark.slow), "dcgan"])
def test_golden_frames(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = golden_record(variant)
    context, clips = int(golden["config"][6]), int(golden["config"][5])
    steps = golden["eval/eps_z"].shape[0]
    shown = golden.frames(context).expand(-1, -1, 3, -1, -1)
    drawn = torch.cat([torch.from_numpy(golden["eval/eps_y0"]), golden.tensor("eval/eps_z").flatten(1)], 1)
    monkeypatch.setattr(SRVP, "_noise", lambda *_: drawn.unsqueeze(1))
    method = SRVP.sharing(golden.network())
    found = method.predict(Conditioning(shown, ["a", "b"], steps + 1 - context), samples=1, seed=0)
    assert found.shape == (clips, 1, 10, 3, 64, 64)
    means = found[:, 0, :, : golden.config.channels].mean((2, 3, 4)).T
    torch.testing.assert_close(means, torch.from_numpy(golden["eval/frame_mean"][context:]), atol=1e-9, rtol=0)
    whole = torch.cat([torch.zeros(clips, context, *found.shape[3:]).double(), found[:, 0]], 1)
    frames = whole[:, :, : golden.config.channels].transpose(0, 1).flatten()[:: int(golden["eval/frames/step"])]
    predicted = frames != 0
    assert predicted.float().mean() > 0.6
    known = torch.from_numpy(golden["eval/frames/sub"])
    torch.testing.assert_close(frames[predicted], known[predicted], atol=1e-9, rtol=0)


def test_a_clip_does_not_depend_on_its_batch_or_place(method: SRVP) -> None:
    given = conditioning(clips=3)
    together = method.predict(given.select([2, 0, 1]), 2, seed=0)
    for place, row in enumerate([2, 0, 1]):
        assert torch.equal(method.predict(given.select([row]), 2, seed=0)[0], together[place])


def test_a_sample_does_not_depend_on_how_many_are_drawn(method: SRVP) -> None:
    given = conditioning(clips=1, horizon=1)
    many = method.predict(given, ROLLED_TOGETHER + 2, seed=0)
    assert torch.equal(method.predict(given, 1, seed=0)[:, 0], many[:, 0])
    assert torch.equal(method.predict(given, 2, seed=0)[:, 1], many[:, 1])
    assert not torch.equal(many[:, -1], many[:, 0])


def test_the_seed_decides(method: SRVP) -> None:
    given = conditioning()
    first, again, other = (method.predict(given, 1, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_future_is_as_long_as_asked(method: SRVP) -> None:
    assert method.predict(conditioning(horizon=17), 1, 0).shape[2] == 17


def test_grey_networks_predict_grey_frames() -> None:
    method = SRVP.sharing(tiny_network(channels=1).eval())
    given = conditioning()
    found = method.predict(given, 1, 0)
    assert found.shape == (2, 1, 3, 3, 64, 64)
    assert torch.equal(found[:, :, :, 0], found[:, :, :, 2])
    changed = given.context.clone()
    changed[:, :, 1:] = 0
    other = Conditioning(changed, given.clip_ids, given.horizon)
    assert torch.equal(method.predict(other, 1, 0), found)
    assert "red channel" in method.card.notes


def test_a_training_can_be_asked_in_between() -> None:
    training = SRVPTraining(tiny(), seed=0)
    engine = PlainEngine(training.optimizers)
    training.step([tiny_batch()], engine)
    before = {name: value.clone() for name, value in training.network.state_dict().items()}
    method = training.method()
    found = method.predict(conditioning(), 1, 0)
    assert training.network.training
    assert all(torch.equal(value, before[name]) for name, value in training.network.state_dict().items())
    training.step([tiny_batch()], engine)
    assert not torch.equal(method.predict(conditioning(), 1, 0), found)


def written(path: Path, **fields: object) -> dict[str, Tensor]:
    network = tiny_network(**fields)
    save_weights(path, network.state_dict(), "srvp", network.config)
    return network.state_dict()


def test_a_checkpoint_predicts_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    written(path, euler_steps=3)
    method = build_method(f"srvp:checkpoint={path}")
    assert isinstance(method, SRVP)
    method.prepare(torch.device("cpu"))
    known = SRVP.sharing(tiny_network(euler_steps=3)).predict(conditioning(), 2, 0)
    assert torch.equal(method.predict(conditioning(), 2, 0), known)
    card = method.card
    assert card.name == "srvp-tiny"
    assert card.weights == {"model.safetensors": sha256_of(path)}
    assert card.parameters == sum(p.numel() for p in method.network.parameters())
    assert card.inputs == {"context"}
    assert card.stochastic
    assert card.min_context == 2
    assert card.sizes == {64}
    assert "ICML 2020" in card.paper


def test_weights_are_asked_for() -> None:
    with pytest.raises(MethodError, match="srvp:checkpoint=FILE"):
        SRVP()
    with pytest.raises(MethodError, match="srvp:checkpoint=FILE"):
        SRVP(checkpoint=Path("a"), official=Path("b"))
    with pytest.raises(MethodError, match="no weights file"):
        SRVP(checkpoint=Path("nowhere.safetensors"))


def test_euler_steps_of_a_checkpoint_are_its_own(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    written(path)
    with pytest.raises(MethodError, match="leave the option euler_steps out"):
        SRVP(checkpoint=path, euler_steps=2)


def test_tensors_of_another_variant_are_refused_by_both_names(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for claimed, fields, expected in [
        ({}, {"architecture": "dcgan"}, "holds srvp with architecture = dcgan.*says architecture = vgg"),
        ({"skips": False}, {}, "holds srvp with skips = True.*says skips = False"),
        ({"conditioning": 1}, {}, "holds srvp with conditioning = 2.*says conditioning = 1"),
        ({"state": 5}, {"filters": 3}, "holds srvp with filters = 3, state = 3.*says filters = 2, state = 5"),
    ]:
        save_weights(path, tiny_network(**fields).state_dict(), "srvp", tiny(**claimed))
        with pytest.raises(MethodError, match=expected):
            SRVP(checkpoint=path)


def test_damaged_states_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    state = dict(tiny_network().state_dict())
    del state["prior.layers.1.bias"]
    save_weights(path, state, "srvp", tiny())
    with pytest.raises(MethodError, match=r"1 missing \(prior.layers.1.bias\)"):
        SRVP(checkpoint=path)
    del state["posterior.weight"]
    save_weights(path, state, "srvp", tiny())
    with pytest.raises(MethodError, match=r"expected the tensor posterior\.weight"):
        SRVP(checkpoint=path)
    save_weights(path, state, "savp", tiny())
    with pytest.raises(MethodError, match="expected weights of 'srvp', found 'savp'"):
        SRVP(checkpoint=path)


def test_clips_that_do_not_fit_are_refused() -> None:
    method = SRVP.sharing(tiny_network(conditioning=3))
    with pytest.raises(MethodError, match=r"srvp-tiny: these weights .* from 3 context frames, found 2"):
        method.predict(conditioning(context=2), 1, 0)
    with pytest.raises(MethodError, match="64 x 64 px, found 128 x 128"):
        method.predict(conditioning(context=3, size=128), 1, 0)
    with pytest.raises(MethodError, match="horizon of 0"):
        method.predict(conditioning(context=3, horizon=0), 1, 0)
