"""What every registered method must satisfy: shape, range, seeds, independence of batch and order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from methods.interface import Conditioning, Method, TruthMethod
from methods.registry import METHODS, build_method

CONTEXT, HORIZON, SIZE, CLIPS = 2, 4, 32, 3
OWN_TESTS = {"oracle"}
"""Methods that answer for their own data alone, and are tested there: the oracle with the simulated world."""
SPECS = [*(n for n in METHODS if n != "predictions" and n not in OWN_TESTS), "noisy-truth:sigma=0", "predictions"]


@dataclass(frozen=True)
class Case:
    method: Method | TruthMethod
    videos: Tensor

    def predict(self, rows: list[int], samples: int = 2, seed: int = 0) -> Tensor:
        videos = self.videos[rows]
        conditioning = Conditioning(videos[:, :CONTEXT], [f"clip-{row}" for row in rows], HORIZON)
        if isinstance(self.method, TruthMethod):
            return self.method.predict_from_truth(conditioning, videos[:, CONTEXT:], samples, seed)
        return self.method.predict(conditioning, samples, seed)


@pytest.fixture(params=SPECS)
def case(request: pytest.FixtureRequest, tmp_path: Path, moving_video: Callable[..., np.ndarray]) -> Case:
    frames = CONTEXT + HORIZON
    made = [moving_video(frames, SIZE, SIZE, dx=1 + row, dy=-row, seed=row) for row in range(CLIPS)]
    spec = request.param
    if spec == "predictions":
        for row, video in enumerate(made):
            samples = np.stack([video[CONTEXT:], 255 - video[CONTEXT:]])
            np.savez(tmp_path / f"clip-{row}.npz", video=samples)
        spec = f"predictions:folder={tmp_path}"
    method = build_method(spec)
    method.prepare(torch.device("cpu"))
    videos = torch.stack([torch.from_numpy(video) for video in made]).permute(0, 1, 4, 2, 3).float() / 255
    return Case(method, videos)


def test_shape_and_range(case: Case) -> None:
    prediction = case.predict([0, 1, 2], samples=2)
    samples = 2 if case.method.card.stochastic else 1
    assert prediction.shape == (CLIPS, samples, HORIZON, 3, SIZE, SIZE)
    assert prediction.dtype == torch.float32
    assert torch.isfinite(prediction).all()
    assert prediction.min() >= 0
    assert prediction.max() <= 1


def test_a_clip_does_not_depend_on_its_batch_or_place(case: Case) -> None:
    together = case.predict([2, 0, 1])
    for place, row in enumerate([2, 0, 1]):
        torch.testing.assert_close(case.predict([row])[0], together[place], rtol=0, atol=0)


def test_the_same_seed_gives_the_same_and_another_seed_other_samples(case: Case) -> None:
    first, again, other = case.predict([0], seed=0), case.predict([0], seed=0), case.predict([0], seed=1)
    assert torch.equal(first, again)
    drawn = case.method.card.stochastic and not case.method.card.name.startswith("predictions")
    assert torch.equal(first, other) != drawn


def test_a_sample_does_not_depend_on_how_many_are_drawn(case: Case) -> None:
    assert torch.equal(case.predict([0], samples=1)[:, 0], case.predict([0], samples=2)[:, 0])


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
