"""The oracle as a method of the harness."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.data.sim.clips import SimClip
from bench.data.sim.oracle_method import Oracle
from bench.data.sim.splits import SPLITS, make_scene
from methods.interface import Conditioning, Poke, method_fault
from metrics.errors import MethodError


@pytest.fixture(scope="module")
def clips() -> list[SimClip]:
    """A pulled plant, a pulled person, and a poke beside the object."""
    split = SPLITS["sim-pokes"]
    return [make_scene(split, scene, 64)[0] for scene in (0, 1, 7)]


def conditioning_of(clips: list[SimClip]) -> Conditioning:
    pokes = [clip.poke for clip in clips]
    location = torch.tensor([poke.location for poke in pokes if poke], dtype=torch.float32)
    displacement = torch.tensor(np.stack([poke.displacement for poke in pokes if poke]), dtype=torch.float32)
    context = torch.stack([torch.from_numpy(clip.frames[:2]).float() / 255 for clip in clips])
    return Conditioning(context, [clip.clip_id for clip in clips], 10, 10.0, Poke(location, displacement))


def test_it_gives_the_true_frames(clips: list[SimClip]) -> None:
    method = Oracle()
    assert method_fault(method) == ""
    method.prepare(torch.device("cpu"))
    video = method.predict(conditioning_of(clips), samples=1, seed=0)
    assert video.shape == (3, 1, 10, 3, 64, 64)
    truth = torch.stack([torch.from_numpy(clip.frames[2:]).float() / 255 for clip in clips])
    assert [method.answers[clip.clip_id].feasible for clip in clips] == [True, True, False]
    assert torch.equal(video[2, 0], truth[2])
    error = (video[:2, 0] - truth[:2]).square().mean((1, 2, 3, 4))
    still = (truth[:2, :1] - truth[:2]).square().mean((1, 2, 3, 4))
    assert (error < 0.02 * still).all()


def test_its_flow_is_exact(clips: list[SimClip]) -> None:
    """That of the clip, whose poke it is asked again; nothing follows a poke beside the object."""
    found = Oracle().exact_answer(conditioning_of(clips))
    assert found.flow.shape == (3, 2, 64, 64)
    for row, clip in enumerate(clips[:2]):
        assert clip.poke is not None
        x, y = clip.poke.location
        moves = np.hypot(*clip.flow).max()
        assert np.abs(found.flow[row].numpy() - clip.flow).max() < 0.1 * moves
        np.testing.assert_allclose(found.displacement[row], clip.poke.displacement, atol=0.06)
        np.testing.assert_allclose(found.flow[row, :, y, x], found.displacement[row], atol=0.005)
    assert found.flow[2].abs().max() == 0
    assert found.displacement[2].abs().max() == 0


def test_it_does_not_depend_on_the_batch(clips: list[SimClip]) -> None:
    method = Oracle()
    method.prepare(torch.device("cpu"))
    together = method.predict(conditioning_of(clips[:2]), samples=1, seed=0)
    alone = method.predict(conditioning_of(clips[1:2]), samples=1, seed=5)
    assert torch.equal(together[1:2], alone)


def test_what_it_cannot_answer_is_an_error(clips: list[SimClip]) -> None:
    method = Oracle()
    method.prepare(torch.device("cpu"))
    good = conditioning_of(clips[:1])
    with pytest.raises(MethodError, match="one poke for each clip"):
        method.predict(replace(good, poke=None), 1, 0)
    with pytest.raises(MethodError, match="a horizon of 5"):
        method.predict(replace(good, horizon=5), 1, 0)
    for name in ("sim-plants-00000-ficus@000", "video@000001"):
        with pytest.raises(MethodError, match="knows no scene of clip"):
            method.predict(replace(good, clip_ids=[name]), 1, 0)
