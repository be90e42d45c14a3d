"""What every registered method must satisfy: shape, range, seeds, independence of batch and order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.evaluate import condition, predict
from bench.protocol import Protocol
from methods.interface import Clip, Conditioning, Method, Poke, TruthMethod
from methods.registry import METHODS, build_method
from methods.training import TRAININGS
from methods.weights_file import save_weights

CONTEXT, HORIZON, CLIPS = 2, 4, 3
OWN_TESTS = {"oracle"}
"""Methods that answer for their own data alone, and are tested there: the oracle with the simulated world."""
TRAINED = sorted(TRAININGS)
SPECS = [
    *(n for n in METHODS if n != "predictions" and n not in OWN_TESTS and n not in TRAINED),
    "noisy-truth:sigma=0",
    "predictions",
    *TRAINED,
]


@dataclass(frozen=True)
class Case:
    method: Method | TruthMethod
    videos: Tensor
    tolerance: float = 0.0

    def conditioning(self, rows: list[int]) -> Conditioning:
        videos = self.videos[rows]
        poke = Poke(torch.tensor([[20.0, 30.0]]).repeat(CLIPS, 1)[rows], torch.tensor([[3.0, -5.0]] * CLIPS)[rows])
        times = torch.arange(HORIZON + 1.0)[:, None]
        tracks = torch.stack([torch.tensor([20.0 + k, 30.0]) + times * 0.5 * (k - 2) for k in range(5)])
        moved = tracks[None] + torch.arange(float(CLIPS))[rows][:, None, None, None]
        ids = tuple(f"clip-{row}" for row in rows)
        return Conditioning(videos[:, :CONTEXT], ids, HORIZON, poke=poke, tracks=moved)

    def predict(self, rows: list[int], samples: int = 2, seed: int = 0) -> Tensor:
        with torch.no_grad():
            if isinstance(self.method, TruthMethod):
                truth = self.videos[rows][:, CONTEXT:]
                return self.method.predict_from_truth(self.conditioning(rows), truth, samples, seed)
            return self.method.predict(self.conditioning(rows), samples, seed)


@pytest.fixture(scope="module")
def weights_files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A weights file of a trained method's smallest recipe, as the training begins with it."""
    folder = tmp_path_factory.mktemp("weights")

    def made(name: str) -> Path:
        path = folder / f"{name}.safetensors"
        if not path.exists():
            training = TRAININGS.get(name)
            names = [key for key, recipe in training.recipes.items() if recipe.data.get("size", 64) == 64]
            recipe = training.recipes[next(key for key in names if key.startswith("small"))]
            built = training(recipe.model, seed=1)
            save_weights(path, built.networks["predictor"].state_dict(), name, recipe.model)
        return path

    return made


@pytest.fixture(params=SPECS)
def case(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    moving_video: Callable[..., np.ndarray],
    weights_files: Callable[[str], Path],
) -> Case:
    frames, spec = CONTEXT + HORIZON, request.param
    size = 64 if spec in TRAINED else 32
    made = [moving_video(frames, size, size, dx=1 + row, dy=-row, seed=row) for row in range(CLIPS)]
    if spec == "predictions":
        for row, video in enumerate(made):
            samples = np.stack([video[CONTEXT:], 255 - video[CONTEXT:]])
            np.savez(tmp_path / f"clip-{row}.npz", video=samples)
        spec = f"predictions:folder={tmp_path}"
    # Sums over another batch are rounded otherwise; untrained networks that normalise every map amplify it.
    tolerance = 2e-3 if spec in TRAINED else 0.0
    method = build_method(f"{spec}:checkpoint={weights_files(spec)}" if spec in TRAINED else spec)
    method.prepare(torch.device("cpu"))
    videos = torch.stack([torch.from_numpy(video) for video in made]).permute(0, 1, 4, 2, 3).float() / 255
    return Case(method, videos, tolerance)


def test_shape_and_range(case: Case) -> None:
    prediction = case.predict([0, 1, 2], samples=2)
    samples = 2 if case.method.card.stochastic else 1
    assert prediction.shape == (CLIPS, samples, HORIZON, *case.videos.shape[2:])
    assert prediction.dtype == torch.float32
    assert torch.isfinite(prediction).all()
    assert prediction.min() >= 0
    assert prediction.max() <= 1


def test_a_clip_does_not_depend_on_its_batch_or_place(case: Case) -> None:
    together = case.predict([2, 0, 1])
    for place, row in enumerate([2, 0, 1]):
        torch.testing.assert_close(case.predict([row])[0], together[place], rtol=0, atol=case.tolerance)


def test_the_same_seed_gives_the_same_and_another_seed_other_samples(case: Case) -> None:
    first, again, other = case.predict([0], seed=0), case.predict([0], seed=0), case.predict([0], seed=1)
    assert torch.equal(first, again)
    drawn = case.method.card.stochastic and not case.method.card.name.startswith("predictions")
    assert torch.equal(first, other) != drawn


def test_a_sample_does_not_depend_on_how_many_are_drawn(case: Case) -> None:
    one, two = (case.predict([0], samples=samples)[:, 0] for samples in (1, 2))
    torch.testing.assert_close(one, two, rtol=0, atol=case.tolerance)


def test_no_future_frame_can_leak(case: Case) -> None:
    """The harness's own path from clips to a prediction, with other frames after x0."""
    if isinstance(case.method, TruthMethod):
        pytest.skip("a reference row that is shown the truth")
    size = case.videos.shape[-1]
    protocol = Protocol(dataset="d", size=size, context=CONTEXT, horizon=HORIZON, metrics=("psnr",))
    found = []
    for changed in (False, True):
        frames = (case.videos * 255).round().byte()
        if changed:
            frames[:, CONTEXT:] = 255 - frames[:, CONTEXT:]
        clips = [Clip(video, f"clip-{row}", "s", 10.0) for row, video in enumerate(frames)]
        conditioning, truth = condition(clips, protocol, torch.device("cpu"))
        given = case.conditioning([0, 1, 2])
        conditioning = replace(conditioning, poke=given.poke, tracks=given.tracks)
        found.append(predict(case.method, conditioning, truth, 1, 0))
    assert torch.equal(*found)


def test_samples_differ_if_the_card_says_so(case: Case) -> None:
    prediction = case.predict([0], samples=2)
    if case.method.card.stochastic:
        assert not torch.equal(prediction[:, 0], prediction[:, 1])
    else:
        assert prediction.shape[1] == 1


def test_the_input_is_left_as_it_was(case: Case) -> None:
    before = case.videos.clone()
    case.predict([0, 1, 2])
    assert torch.equal(case.videos, before)


def test_the_card_is_filled(case: Case) -> None:
    card = case.method.card
    assert card.title
    assert card.revision
    assert card.notes
