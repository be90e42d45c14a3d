"""The training of SAVP: phases of a step, variants, schedules, draws, resuming; with tiny networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from peers.engine import PlainEngine
from pydantic import ValidationError
from torch import Tensor

from methods.interface import method_fault
from methods.savp.config import RECIPES, SavpConfig, Variant
from methods.savp.draws import cropped, draw, draw_starts
from methods.savp.losses import feature_distance, kl_to_prior, tensorflow_epsilon, truth_probability
from methods.savp.network import State
from methods.savp.objective import SavpTraining, discriminator_losses, predictor_losses
from methods.savp.rollouts import rollouts
from methods.training import TRAININGS, TrainingBatch
from metrics.errors import MethodError

VARIANTS: list[Variant] = ["savp", "gan-only", "vae-only", "deterministic"]


def tiny(variant: Variant = "savp", **changes: object) -> SavpConfig:
    name = "small" if variant == "savp" else f"small-{variant}"
    sizes = {"generator_width": 2, "encoder_width": 2, "discriminator_width": 2, "clip_length": 4}
    return SavpConfig(**{**RECIPES[name].model.model_dump(), **sizes, **changes})


def batch(clips: int = 2, frames: int = 6, context: int = 2, seed: int = 5) -> TrainingBatch:
    generator = torch.Generator().manual_seed(1)
    video = torch.rand(clips, 1, 3, 64, 64, generator=generator).repeat(1, frames, 1, 1, 1)
    video = (video + torch.rand(clips, frames, 3, 1, 1, generator=generator)) / 2
    return TrainingBatch(video, context, tuple(f"clip-{n}" for n in range(clips)), seed, total=clips)


def state_of(training: SavpTraining) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": value.clone()
        for name, network in training.networks.items()
        for key, value in network.state_dict().items()
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_of_each_variant(variant: Variant) -> None:
    config = tiny(variant)
    assert config.variant == variant
    training = SavpTraining(config, seed=0)
    before = state_of(training)
    engine = PlainEngine(training.optimizers)
    engine.iteration = 3
    log = training.step([batch(1, frames=5)], engine)
    adversarial = variant in ("savp", "gan-only")
    assert engine.order == (["discriminator", "predictor"] if adversarial else ["predictor"])
    assert all(value.ndim == 0 and not value.requires_grad and value.isfinite() for value in log.values())
    wanted = {
        "savp": {"prior_gan", "posterior_gan", "posterior_features", "prior_discriminator", "posterior_discriminator"},
        "gan-only": {"prior_gan", "prior_features", "prior_discriminator"},
    }.get(variant, set())
    totals = {"predictor", "discriminator"} if adversarial else {"predictor"}
    kl = {"kl"} if config.kl_weight else set()
    assert log.keys() == wanted | totals | kl | {"reconstruction"}
    after = state_of(training)
    still = [key for key in before if torch.equal(before[key], after[key])]
    assert not [key for key in still if key.endswith("weight")]
    assert method_fault(training.method()) == ""


def test_both_phases_use_their_own_weights_and_clips() -> None:
    """The discriminators see the old generator, the generator the new discriminators; other clips in each phase."""
    training, part = SavpTraining(tiny(), seed=0), batch()
    config = training.config
    engine = PlainEngine(training.optimizers, steps=6)
    engine.iteration = 2
    position = 2 * 300_000 / 6
    draws = draw(part, config, truth_probability(position))
    with torch.no_grad():
        made = rollouts(training.generator, part.frames, 2, draws).made()
    assert training.judges is not None
    starts = draw_starts(part, config, "discriminator")
    loss, _, _ = discriminator_losses(config, made, part.frames, training.judges, starts)
    expected = torch.autograd.grad(loss, list(training.judges.parameters()))
    twin = SavpTraining(config, seed=0)
    training.step([part], engine)
    for found, wanted in zip(engine.gradients["discriminator"], expected, strict=True):
        torch.testing.assert_close(found, wanted)
    twin.networks["discriminator"].load_state_dict(training.networks["discriminator"].state_dict())
    rolled = rollouts(twin.generator, part.frames, 2, draws)
    starts = draw_starts(part, config, "predictor")
    loss, _ = predictor_losses(config, rolled, part.frames, twin.judges, starts, config.kl_weight)
    expected = torch.autograd.grad(loss, list(twin.generator.parameters()))
    for found, wanted in zip(engine.gradients["predictor"], expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_singular_vectors_move_once_in_a_step() -> None:
    training = SavpTraining(tiny(), seed=0)
    assert training.judges is not None
    expected = {name: judge.weights()[1] for name, judge in training.judges.items()}
    training.step([batch(1, frames=5)], PlainEngine(training.optimizers))
    for name, judge in training.judges.items():
        layers = [*judge.convolutions, judge.dense]
        for layer, estimate in zip(layers, expected[name], strict=True):
            assert torch.equal(layer.u, estimate)


@pytest.mark.parametrize("variant", ["savp", "deterministic"])
def test_parts_of_a_batch_add_up(variant: Variant) -> None:
    whole, apart = SavpTraining(tiny(variant), 0), SavpTraining(tiny(variant), 0)
    one, two = PlainEngine(whole.optimizers), PlainEngine(apart.optimizers, parts=2)
    first = whole.step([batch(frames=5)], one)
    second = apart.step(batch(frames=5).parts(2), two)
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-5, atol=1e-6)
    for name in one.gradients if variant == "deterministic" else ["discriminator"]:
        for a, b in zip(one.gradients[name], two.gradients[name], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_resuming_gives_the_same_weights() -> None:
    through, first = SavpTraining(tiny(), 0), SavpTraining(tiny(), 0)
    engine = PlainEngine(through.optimizers, steps=4)
    for iteration in range(2):
        engine.iteration = iteration
        through.step([batch(1, frames=5, seed=iteration)], engine)
    first.step([batch(1, frames=5, seed=0)], PlainEngine(first.optimizers, steps=4))
    resumed = SavpTraining(tiny(), seed=99)
    for name, network in first.networks.items():
        resumed.networks[name].load_state_dict(network.state_dict())
        resumed.optimizers[name].load_state_dict(first.optimizers[name].state_dict())
    engine = PlainEngine(resumed.optimizers, steps=4)
    engine.iteration = 1
    resumed.step([batch(1, frames=5, seed=1)], engine)
    expected = state_of(through)
    for key, value in state_of(resumed).items():
        assert torch.equal(value, expected[key]), key


def test_the_seed_decides_and_global_randomness_is_left_alone() -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    a, b, c = (state_of(SavpTraining(tiny(), seed)) for seed in (0, 0, 1))
    training = SavpTraining(tiny("vae-only"), 0)
    training.step([batch(1, frames=4)], PlainEngine(training.optimizers))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(a["predictor/cell.lstm_h0.weight"], c["predictor/cell.lstm_h0.weight"])


def test_initial_weights_are_the_authors() -> None:
    weights = state_of(SavpTraining(SavpConfig(generator_width=8, encoder_width=8, discriminator_width=2), 0))
    kernel = weights["predictor/cell.lstm_h2.weight"]
    # A normal distribution of standard deviation 0.02, cut at two of them, has 0.88 of it.
    assert kernel.abs().max() <= 0.04
    assert float(kernel.std()) == pytest.approx(0.02 * 0.8796, rel=0.01)
    assert weights["predictor/lstm_z.weight"].abs().max() <= (6 / 48) ** 0.5
    assert (weights["predictor/cell.h0.norm.weight"] == 1).all()
    assert all((value == 0).all() for key, value in weights.items() if key.endswith(".bias"))


def test_sequence_shared_by_both_rollouts_is_computed_as_if_apart() -> None:
    training, part = SavpTraining(tiny(), 0), batch(context=3, frames=7)
    config = training.config.model_copy(update={"context": 3})
    draws = draw(part, config, 0.5)
    assert draws.posterior is not None
    assert draws.prior is not None
    assert draws.posterior_truth is not None
    with torch.no_grad():
        found = rollouts(training.generator, part.frames, 3, draws)
        assert found.mean is not None
        assert found.log_variance is not None
        latents = found.mean + (0.5 * found.log_variance).exp() * draws.posterior
        given = torch.cat([torch.ones(2, 3, dtype=torch.bool), draws.posterior_truth], 1)
        start = State(part.frames[:, 0])
        expected, _ = training.generator.roll(start, part.frames[:, :-1], 6, latents, given)
        torch.testing.assert_close(found.posterior, expected)
        prior = torch.cat([latents[:, :2], draws.prior], 1)
        given = torch.cat([torch.ones(2, 3, dtype=torch.bool), draws.prior_truth], 1)
        expected, _ = training.generator.roll(start, part.frames[:, :-1], 6, prior, given)
        torch.testing.assert_close(found.prior, expected)


def test_without_sampling_no_true_frame_after_the_context_reaches_a_rollout() -> None:
    training, part = SavpTraining(tiny(), 0), batch()
    changed = replace(part, frames=torch.cat([part.frames[:, :2], torch.rand(2, 4, 3, 64, 64)], 1))
    draws = draw(part, training.config, 0.0)
    assert draws.posterior_truth is None
    with torch.no_grad():
        one = rollouts(training.generator, part.frames, 2, draws)
        other = rollouts(training.generator, changed.frames, 2, draws)
    assert one.prior is not None
    assert other.prior is not None
    assert torch.equal(one.prior, other.prior)
    assert not torch.equal(one.posterior[:, 1:], other.posterior[:, 1:]), "the posterior sees the future"


def test_draws_belong_to_the_clip() -> None:
    part, config = batch(3, frames=7), tiny()
    whole = draw(part, config, 0.5)
    single = draw(part.parts(3)[1], config, 0.5)
    for name in ("posterior", "prior", "posterior_truth", "prior_truth"):
        assert torch.equal(getattr(whole, name)[1:2], getattr(single, name))
    assert whole.posterior is not None
    assert whole.prior is not None
    assert whole.posterior_truth is not None
    assert whole.posterior.shape == (3, 6, 8)
    assert whole.prior.shape == (3, 5, 8)
    assert whole.posterior_truth.shape == (3, 4)
    assert not torch.equal(whole.posterior[:, 1:], whole.prior)


def test_clip_starts_are_uniform_and_drawn_anew() -> None:
    part, config = batch(1, frames=7), tiny()
    many = replace(part, frames=part.frames[:1].expand(600, -1, -1, -1, -1), clip_ids=tuple(map(str, range(600))))
    found = {phase: draw_starts(many, config, phase) for phase in ("discriminator", "predictor")}
    lists = [tuple(side) for phase in found.values() for pair in phase.values() for side in pair]
    assert len(set(lists)) == 8
    for starts in lists:
        counts = np.bincount(starts, minlength=3)
        assert len(counts) == 3
        assert counts.min() > 150
    assert found["predictor"] == draw_starts(many, config, "predictor")


def test_crops() -> None:
    video = torch.arange(12).float().view(2, 6, 1, 1, 1)
    assert cropped(video, [0, 2], 4).flatten(1).tolist() == [[0, 1, 2, 3], [8, 9, 10, 11]]
    assert cropped(video, [0, 0], 6) is video


def test_truth_probability() -> None:
    assert truth_probability(0) == pytest.approx(900 / 901)
    assert truth_probability(900 * np.log(900)) == pytest.approx(0.5)
    assert truth_probability(12_300) > 0.001
    assert truth_probability(12_400) == 0
    assert truth_probability(3e5) == 0


def test_adam_is_tensorflows() -> None:
    """Gradients as small as epsilon, where the two forms differ."""
    training = SavpTraining(tiny("deterministic"), 0)
    optimizer = training.optimizers["predictor"]
    weight = training.generator.cell.masks.bias
    start, m, v = weight.detach().double().clone(), 0.0, 0.0
    expected = start.clone()
    for update in range(1, 4):
        training._set_optimizers(1.0, update - 1)
        gradient = 1e-8 * torch.arange(1.0, 8.0) * update
        optimizer.zero_grad()
        weight.grad = gradient.clone()
        optimizer.step()
        m, v = 0.9 * m + 0.1 * gradient.double(), 0.999 * v + 0.001 * gradient.double() ** 2
        rate = 1e-3 * (1 - 0.999**update) ** 0.5 / (1 - 0.9**update)
        expected = expected - rate * m / (v**0.5 + 1e-8)
    torch.testing.assert_close(weight.detach().double(), expected, rtol=1e-4, atol=1e-9)
    assert tensorflow_epsilon(1, 0.999) == pytest.approx(1e-8 / 0.001**0.5)


def test_learning_rate_follows_the_length_of_the_training() -> None:
    training = SavpTraining(tiny("deterministic"), 0)
    engine = PlainEngine(training.optimizers, steps=12)
    rates = []
    for iteration in (0, 8, 10, 11):
        engine.iteration = iteration
        training.step([batch(1, frames=3)], engine)
        rates.append(training.optimizers["predictor"].param_groups[0]["lr"])
    assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 2.5e-4])


def test_loss_terms_by_hand() -> None:
    mean, log_variance = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, np.log(4.0)]]])
    exact = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (0.5 * log_variance).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    assert float(kl_to_prior(mean, log_variance)) == pytest.approx(float(exact.sum()))
    a, b = torch.randn(2, 3, 1, 4, 4), torch.randn(2, 3, 1, 4, 4)
    cosine = 1 - torch.nn.functional.cosine_similarity(a, b, dim=1).mean()
    assert float(feature_distance([a, a], [b, a])) == pytest.approx(float(cosine), rel=1e-5)


def test_features_of_zero_have_a_gradient() -> None:
    zero = torch.zeros(1, 3, 1, 2, 2, requires_grad=True)
    feature_distance([zero], [torch.ones(1, 3, 1, 2, 2)]).backward()
    assert zero.grad is not None
    assert zero.grad.isfinite().all()


def test_half_precision_keeps_losses_and_pictures_in_single() -> None:
    training, part = SavpTraining(tiny(), 0), batch(1, frames=5)
    engine = PlainEngine(training.optimizers)
    with torch.autocast("cpu", torch.bfloat16):
        log = training.step([part], engine)
    twin = SavpTraining(tiny(), 0)
    exact = twin.step([part], PlainEngine(twin.optimizers))
    assert all(value.dtype == torch.float32 for value in log.values())
    assert float(log["reconstruction"]) == pytest.approx(float(exact["reconstruction"]), rel=2e-2)


def test_clips_that_do_not_fit_are_refused() -> None:
    training = SavpTraining(SavpConfig(generator_width=1, encoder_width=1, discriminator_width=1), 0)
    training.check(64, 2, 10)
    training.check(64, 2, 9)
    with pytest.raises(MethodError, match="expected frames of 64 x 64 px, found 128 x 128"):
        training.check(128, 2, 10)
    with pytest.raises(MethodError, match="has 2 context frames, the data 1"):
        training.check(64, 1, 10)
    with pytest.raises(MethodError, match="horizon of at least 9 after 2 context frames, found 8"):
        training.check(64, 2, 8)
    SavpTraining(tiny("vae-only"), 0).check(64, 2, 1)


def test_recipes() -> None:
    endings = ["", "-gan-only", "-vae-only", "-deterministic"]
    assert list(RECIPES) == [size + ending for size in ("paper", "small") for ending in endings]
    for name, recipe in RECIPES.items():
        assert recipe.model.recipe == name
        assert recipe.data == {"size": 64, "context": 2, "horizon": 10}
        assert recipe.summary
    assert RECIPES["paper"].loop == {"batch_size": 16, "steps": 300_000}
    assert RECIPES["paper-vae-only"].loop == {"batch_size": 32, "steps": 300_000}
    assert TRAININGS.get("savp") is SavpTraining


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent": 0}, "deterministic variant"),
        ({"gan_weight": 0.0, "gan_feature_weight": 1.0}, "needs gan_weight"),
        ({"vae_gan_weight": 0.0}, "needs vae_gan_weight"),
        ({"size": 128}, "Input should be 64"),
        ({"nz": 8}, "Extra inputs"),
    ],
)
def test_configurations_that_contradict_themselves(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SavpConfig(**changes)  # type: ignore[arg-type]
