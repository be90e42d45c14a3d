"""What each way of training moves, rates, recipes, and what is refused."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from peers.engine import PlainEngine
from peers.poking_clips import batch, training

from methods import perceptual
from methods.poking.config import PokingConfig
from methods.poking.objective import PokingTraining
from methods.poking.recipes import RECIPES
from methods.training import TRAININGS
from metrics.errors import MethodError

pytestmark = pytest.mark.usefixtures("narrow")

GENERATOR = {"shape_enc", "dynamics_enc", "fusion_block", "dec"}


def moved(made: PokingTraining, engine: PlainEngine) -> dict[str, set[str]]:
    """Which parts of the generator, or which discriminators, each optimiser has non-zero gradients for."""
    owners = {
        id(p): key.split(".")[0] if name == "predictor" else name
        for name, network in made.networks.items()
        for key, p in network.named_parameters()
    }
    found: dict[str, set[str]] = {}
    for name, gradients in engine.gradients.items():
        parameters = [p for group in made.optimizers[name].param_groups for p in group["params"]]
        found[name] = {
            owners[id(p)]
            for p, gradient in zip(parameters, gradients, strict=True)
            if gradient is not None and gradient.any()
        }
    return found


STATIC, DYNAMICS = {"shape_enc", "dec"}, {"dynamics_enc", "fusion_block", "dec"}


ADVERSARIES = {"patch": {"patch"}, "temporal": {"temporal"}}


@pytest.mark.parametrize(
    ("changes", "iteration", "wanted"),
    [
        ({"gan_start": 1}, 0, {"static": STATIC, "dynamics": DYNAMICS}),
        (
            {"gan_start": 1},
            1,
            {"static": STATIC, "patch": {"patch"}, "temporal": {"temporal"}, "dynamics": DYNAMICS},
        ),
        ({"gan": False, "stages_of_training": "two", "pretrain_share": 0.3}, 2, {"static": STATIC}),
        ({"gan": False, "stages_of_training": "two", "pretrain_share": 0.3}, 3, {"dynamics": DYNAMICS}),
        ({"gan": False, "stages_of_training": "single"}, 0, {"dynamics": GENERATOR}),
        ({"gan": False, "predictor": "rnn"}, 0, {"static": STATIC, "dynamics": DYNAMICS}),
        ({"gan": False, "levels": 1, "poke_encoder": "plus"}, 0, {"static": STATIC, "dynamics": DYNAMICS}),
        ({"gan_start": 0, "decoder": "warp"}, 0, {"static": STATIC, **ADVERSARIES, "dynamics": DYNAMICS}),
    ],
)
def test_each_stage_moves_exactly_its_parameters(
    changes: dict[str, Any], iteration: int, wanted: dict[str, set[str]]
) -> None:
    made = training(dtype=torch.float32, **changes)
    before = {name: {k: v.clone() for k, v in net.state_dict().items()} for name, net in made.networks.items()}
    engine = PlainEngine(made.optimizers, steps=10)
    engine.iteration = iteration
    made.step([batch(dtype=torch.float32)], engine)
    assert moved(made, engine) == wanted
    still = GENERATOR - set().union(*wanted.values())
    for key, value in made.network.state_dict().items():
        if key.split(".")[0] in still:
            assert torch.equal(value, before["predictor"][key]), key


def test_the_discriminators_of_two_stages_begin_with_the_second() -> None:
    made = training(
        dtype=torch.float32, stages_of_training="two", pretrain_share=0.5, gan_start=1, form="paper", patch_penalty=0.0
    )
    engine = PlainEngine(made.optimizers, steps=4)
    orders = []
    for iteration in range(4):
        engine.iteration, engine.order = iteration, []
        made.step([batch(dtype=torch.float32)], engine)
        orders.append(engine.order)
    assert orders == [["static"], ["static"], ["dynamics"], ["patch", "temporal", "dynamics"]]


def test_without_the_trajectory_loss_no_target_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = training(gan=False, trajectory_weight=0.0)
    calls = []
    made.network.shape_enc.register_forward_hook(lambda module, given, found: calls.append(len(given[0])))
    found = made.step([batch()], PlainEngine(made.optimizers))
    assert "trajectory" not in found
    assert calls == [2, 2]
    made = training(gan=False)
    made.network.shape_enc.register_forward_hook(lambda module, given, found: calls.append(len(given[0])))
    assert "trajectory" in made.step([batch()], PlainEngine(made.optimizers))
    assert calls[2:] == [2, 2, 6]


def test_frames_that_no_loss_looks_at_are_not_drawn() -> None:
    made = training(gan=False, perceptual_frames=1)
    decoded = []
    made.network.dec.register_forward_hook(lambda module, given, found: decoded.append(len(found)))
    made.step([batch(clips=2, horizon=3)], PlainEngine(made.optimizers))
    assert decoded == [2, 2]


def test_the_frames_looked_at_are_of_each_clip_and_differ_between_seeds() -> None:
    made = training(gan=False, perceptual_frames=2)
    part = batch(clips=3, horizon=5)
    rows = made.supervision._looked_at(part)
    assert rows is not None
    assert sorted((rows % 3).tolist()) == [0, 0, 1, 1, 2, 2]
    assert len(set(rows.tolist())) == 6
    others = [made.supervision._looked_at(replace(part, seed=seed)) for seed in range(5)]
    assert any(not torch.equal(rows, other) for other in others if other is not None)
    alone = made.supervision._looked_at(part.parts(3)[1])
    assert alone is not None
    assert sorted(alone.tolist()) == sorted((rows[rows % 3 == 1] // 3).tolist())


def test_the_first_stage_sees_all_frames_of_a_clip() -> None:
    from methods.poking.supervision import _drawn_images

    part = batch(clips=2, horizon=3, context=2)
    shown = set()
    for seed in range(40):
        images = _drawn_images(replace(part, seed=seed))
        for row in range(2):
            (frame,) = (t for t in range(5) if torch.equal(images[row], part.frames[row, t]))
            shown.add((row, frame))
    assert shown == {(row, frame) for row in range(2) for frame in range(1, 5)}


def test_rates_follow_milestones_but_not_the_decoder_in_the_static_step() -> None:
    made = training(rate_milestones=(2, 4), rate_factor=0.5, learning_rate=1e-3)
    engine = PlainEngine(made.optimizers, steps=10)
    rates = []
    for engine.epoch in (0, 1, 2, 3, 4, 9):
        made._set_rates(engine)
        static = made.optimizers["static"].param_groups
        rates.append((static[0]["lr"], static[1]["lr"]))
        for name in ("dynamics", "patch", "temporal"):
            assert made.optimizers[name].param_groups[0]["lr"] == static[0]["lr"]
    assert rates == [(1e-3, 1e-3)] * 2 + [(5e-4, 1e-3)] * 2 + [(2.5e-4, 1e-3)] * 2
    decoder = {id(p) for p in made.network.dec.parameters()}
    assert {id(p) for p in made.optimizers["static"].param_groups[1]["params"]} == decoder


def test_rates_fall_to_zero_over_the_last_share() -> None:
    made = training(gan=False, rate_milestones=(), rate_cooldown=0.4, learning_rate=1.0)
    engine = PlainEngine(made.optimizers, steps=10)
    rates = []
    for engine.iteration in range(10):
        made._set_rates(engine)
        rates.append(made.optimizers["dynamics"].param_groups[0]["lr"])
    assert rates == pytest.approx([1] * 7 + [0.75, 0.5, 0.25])


def test_a_seed_gives_the_same_weights_and_touches_no_other_randomness() -> None:
    config = RECIPES["small-plus"].model
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    first = PokingTraining(config, seed=4)
    assert torch.equal(torch.rand(3), wanted)
    again, other = PokingTraining(config, seed=4), PokingTraining(config, seed=5)
    pairs = [(p, q, r) for p, q, r in zip(*(t.network.parameters() for t in (first, again, other)), strict=True)]
    assert all(torch.equal(p, q) for p, q, _ in pairs)
    assert not all(torch.equal(p, r) for p, _, r in pairs)


def test_a_step_is_the_same_from_a_restored_state() -> None:
    first, second = (training(dtype=torch.float32) for _ in range(2))
    engine, part = PlainEngine(first.optimizers), batch(dtype=torch.float32)
    first.step([part], engine)
    for name, network in first.networks.items():
        second.networks[name].load_state_dict(network.state_dict())
    for name, optimizer in first.optimizers.items():
        second.optimizers[name].load_state_dict(deepcopy(optimizer.state_dict()))
    other = PlainEngine(second.optimizers)
    engine.iteration = other.iteration = 1
    wanted, found = first.step([part], engine), second.step([part], other)
    assert {name: float(value) for name, value in wanted.items()} == {k: float(v) for k, v in found.items()}


@pytest.mark.parametrize(
    ("stages", "weight", "names"), [("alternating", 0.1, ("static", "reconstruction")), ("two", 100.0, ("trajectory",))]
)
def test_learning_lowers_the_losses(stages: str, weight: float, names: tuple[str, ...]) -> None:
    made = training(
        dtype=torch.float32,
        gan=False,
        learning_rate=3e-3,
        perceptual_layers=3,
        trajectory_weight=weight,
        stages_of_training=stages,
        pretrain_share=0.01,
    )
    engine, part = PlainEngine(made.optimizers, steps=6), batch(dtype=torch.float32)
    history = []
    for engine.iteration in range(6):
        history.append({name: float(value) for name, value in made.step([part], engine).items()})
    for name in names:
        assert history[-1][name] < 0.95 * history[0][name], name


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipes(name: str) -> None:
    recipe = RECIPES[name]
    assert isinstance(recipe.model, PokingConfig)
    assert recipe.model.recipe == name
    assert recipe.summary
    augmented = (
        {} if name == "paper" or name.startswith("small") else {"augmentation": {"colour": 0.8, "geometry": 0.8}}
    )
    assert recipe.data == {"size": recipe.model.size, "context": 1, "horizon": recipe.model.horizon, **augmented}
    assert {"batch_size", "steps"} <= set(recipe.loop)
    assert PokingConfig(**recipe.model.model_dump(mode="json")) == recipe.model
    if name.startswith("small"):
        assert recipe.model.perceptual == "vgg16"
        assert recipe.model.gan == name.endswith("gan")


def test_ablations_differ_from_the_recipe_in_what_they_are_about() -> None:
    base = RECIPES["official"].model.model_dump()
    warp = {"decoder": "warp", "motion_weight": 0.2, "still_weight": 5.0, "poke_weight": 0.6}
    wanted: dict[str, dict[str, Any]] = {
        "warp": warp,
        "plus": {"poke_encoder": "plus", **warp},
        "rnn-1": {"predictor": "rnn", "rnn_cells": 1},
        "rnn-3": {"predictor": "rnn"},
        "levels-2": {"levels": 2},
        "no-trajectory": {"trajectory_weight": 0.0},
        "single-stage": {"stages_of_training": "single"},
    }
    for name, changes in wanted.items():
        found = RECIPES[name].model.model_dump()
        assert {key: value for key, value in found.items() if value != base[key] and key != "recipe"} == changes


def test_the_registry_knows_the_training() -> None:
    assert TRAININGS.get("poking") is PokingTraining


@pytest.mark.parametrize(
    ("changes", "given", "said"),
    [
        ({}, (64, 1, 3), "the configuration is for 32 px, found clips of 64 px"),
        ({}, (32, 0, 3), "at least one context frame"),
        ({}, (32, 1, 10), "the temporal discriminator is for horizon 3, found 10"),
    ],
)
def test_clips_that_do_not_fit(changes: dict[str, Any], given: tuple[int, int, int], said: str) -> None:
    with pytest.raises(MethodError, match=said):
        training(**changes).check(*given)


def test_without_discriminators_any_horizon_fits() -> None:
    training(gan=False).check(32, 2, 10)


def test_clips_without_pokes() -> None:
    made = training(gan=False, stages_of_training="single")
    with pytest.raises(MethodError, match="expected clips with pokes"):
        made.step([replace(batch(), poke=None)], PlainEngine(made.optimizers))


def test_vgg19_must_be_on_this_machine(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setenv("POKEBENCH_WEIGHTS", str(tmp_path / "mine"))
    config = PokingConfig(size=32, width=64, min_side=8, gan=False)
    with pytest.raises(MethodError, match=r"vgg19-dcbb9e9d\.pth.*perceptual=vgg16"):
        PokingTraining(config, 0).check(32, 1, 10)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / perceptual.VGG19_FILE).write_bytes(b"not it")
    with pytest.raises(MethodError, match="is damaged"):
        PokingTraining(config, 0).check(32, 1, 10)


@pytest.mark.parametrize("decoder", ["draw", "warp"])
@pytest.mark.parametrize("gan", [False, True])
def test_recomputing_saves_memory_and_changes_nothing(decoder: str, gan: bool) -> None:
    part = batch(2, 4, 32, dtype=torch.float64)
    kept, steps = [], []
    for recompute in (False, True):
        made = training(decoder=decoder, gan=gan, gan_start=0, recompute=recompute)
        engine = PlainEngine(made.optimizers)
        count = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal count
            count += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            losses = made.step([part], engine)
        kept.append(count)
        steps.append((losses, engine.gradients))
    assert kept[1] < (0.9 if gan else 0.6) * kept[0]  # discriminators keep what they computed
    plain, again = steps
    assert plain[0].keys() == again[0].keys()
    for name, value in plain[0].items():
        torch.testing.assert_close(again[0][name], value, rtol=1e-9, atol=0)
    for name, gradients in plain[1].items():
        for found, wanted in zip(again[1][name], gradients, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-12)
