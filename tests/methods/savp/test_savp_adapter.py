"""SAVP as a method: predictions, samples, what it refuses, weights files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peers.plain_savp import plain_prediction

from methods.interface import Conditioning
from methods.registry import build_method
from methods.savp.adapter import ROWS, Savp
from methods.savp.config import RECIPES, SavpConfig, Variant
from methods.savp.network import Generator
from methods.weights_file import save_weights
from metrics.cache import sha256_of
from metrics.errors import MethodError


def tiny(variant: Variant = "savp") -> SavpConfig:
    name = "small" if variant == "savp" else f"small-{variant}"
    return SavpConfig(**{**RECIPES[name].model.model_dump(), "generator_width": 2, "encoder_width": 2})


def lively(config: SavpConfig) -> Generator:
    """Weights large enough for latents to show in the frames."""
    torch.manual_seed(4)
    generator = Generator(config)
    for parameter in generator.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return generator


def method(variant: Variant = "savp") -> Savp:
    made = Savp.sharing(lively(tiny(variant)), tiny(variant))
    made.prepare(torch.device("cpu"))
    return made


def given(clips: int = 2, context: int = 2, horizon: int = 3, side: int = 64) -> Conditioning:
    frames = torch.rand(clips, context, 3, side, side, generator=torch.Generator().manual_seed(2))
    return Conditioning(frames, [f"clip-{n}" for n in range(clips)], horizon)


@pytest.mark.parametrize("horizon", [1, 4])
def test_shape_and_range(horizon: int) -> None:
    found = method().predict(given(horizon=horizon), 3, 0)
    assert found.shape == (2, 3, horizon, 3, 64, 64)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert 0 <= found.min() <= found.max() <= 1


def test_samples_seeds_and_batches() -> None:
    made, both = method(), given()
    first = made.predict(both, 2, 0)
    assert torch.equal(first, made.predict(both, 2, 0))
    assert (first[:, 0] - first[:, 1]).abs().max() > 1e-3
    assert (first - made.predict(both, 2, 1)).abs().max() > 1e-3
    torch.testing.assert_close(made.predict(both, 1, 0), first[:, :1], rtol=0, atol=1e-5)
    torch.testing.assert_close(made.predict(both.select([1]), 2, 0), first[1:], rtol=0, atol=1e-5)


def test_many_samples_are_computed_in_pieces() -> None:
    made, one = method(), given(1, horizon=1)
    many = made.predict(one, ROWS + 3, 0)
    assert many.shape[1] == ROWS + 3
    torch.testing.assert_close(many[:, :2], made.predict(one, 2, 0), rtol=0, atol=1e-5)


def test_a_longer_horizon_is_more_of_the_same_rollout() -> None:
    """The deterministic variant, whose draws do not depend on the horizon."""
    made = method("deterministic")
    assert not made.card.stochastic
    long = made.predict(given(horizon=5), 4, 0)
    assert long.shape[1] == 1
    torch.testing.assert_close(made.predict(given(horizon=2), 1, 1), long[:, :, :2], rtol=0, atol=1e-6)


def test_only_the_last_context_frames_count() -> None:
    made, more = method(), given(context=4)
    last = Conditioning(more.context[:, -2:], more.clip_ids, more.horizon)
    assert torch.equal(made.predict(more, 2, 0), made.predict(last, 2, 0))
    assert made.card.min_context == 2


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(MethodError, match=r"savp-small: expected frames of 64 x 64 px, found 32 x 32"):
        method().predict(given(side=32), 1, 0)
    with pytest.raises(MethodError, match="expected at least 2 context frames, found 1"):
        method().predict(given(context=1), 1, 0)
    with pytest.raises(MethodError, match="needs one file of trained weights"):
        build_method("savp")
    with pytest.raises(MethodError, match="needs one file of trained weights"):
        Savp(Path("a"), Path("b"))
    with pytest.raises(MethodError, match="there is no weights file"):
        build_method("savp:checkpoint=nowhere.safetensors")


@pytest.mark.parametrize("variant", ["savp", "gan-only", "vae-only", "deterministic"])
def test_a_weights_file_gives_the_same_method(variant: Variant, tmp_path: Path) -> None:
    config, file = tiny(variant), tmp_path / "weights.safetensors"
    generator = lively(config)
    save_weights(file, generator.state_dict(), "savp", config)
    made = build_method(f"savp:checkpoint={file}")
    assert isinstance(made, Savp)
    ending = "" if variant == "savp" else f"-{variant}"
    assert made.card.name == f"savp-small{ending}"
    assert made.card.weights == {"weights.safetensors": sha256_of(file)}
    assert made.card.parameters == sum(parameter.numel() for parameter in generator.parameters())
    assert made.card.sizes == {64}
    assert "Stochastic Adversarial Video Prediction" in made.card.paper
    made.prepare(torch.device("cpu"))
    expected = Savp.sharing(generator, config).predict(given(), 2, 0)
    assert torch.equal(made.predict(given(), 2, 0), expected)


def test_weights_of_another_variant_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_weights(file, Generator(tiny()).state_dict(), "savp", tiny("deterministic"))
    with pytest.raises(MethodError, match=r"of the variant deterministic \(latent=0\).*those of a model with latents"):
        Savp(file)
    save_weights(file, Generator(tiny("deterministic")).state_dict(), "savp", tiny("vae-only"))
    with pytest.raises(MethodError, match=r"of the variant vae-only \(latent=8\).*those of the variant deterministic"):
        Savp(file)
    save_weights(file, Generator(tiny()).state_dict(), "savp", RECIPES["small"].model)
    with pytest.raises(MethodError, match=r"does not fit Generator: .* of another shape"):
        Savp(file)


def test_prediction_is_the_plain_programs() -> None:
    config = SavpConfig(**{**tiny().model_dump(), "generator_width": 4})
    generator = lively(config)
    found = Savp.sharing(generator, config).predict(given(), 2, 3)
    with torch.no_grad():
        torch.testing.assert_close(found, plain_prediction(generator, given(), 2, 3), rtol=0, atol=1e-4)
