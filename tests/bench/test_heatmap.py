"""Heatmaps of a predictor whose answer to every poke is known: a square that moves as one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.heatmap.figure import Row, draw, shown
from bench.heatmap.file import read_heatmaps, write_heatmaps
from bench.heatmap.maps import Settings, drawn_pokes, heatmaps, part_scores
from methods.baselines import CopyLastFrame, backward_warp
from methods.interface import Conditioning, ExactAnswer, MethodCard, Poke
from metrics.correlation import FORMS, Form
from metrics.errors import DataError, MethodError

SIZE = 64
SQUARE = (slice(12, 32), slice(30, 50))
PLACES = [(40.0, 20.0), (5.0, 55.0)]


def image() -> Tensor:
    coarse = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic").clamp(0, 1)[0]


class MovesTheSquare:
    """Shifts the square along the poke; everything else stays. A poke beside it moves nothing."""

    card = MethodCard(name="square", title="Square", revision="1", inputs=frozenset({"context", "poke"}))

    def __init__(self) -> None:
        self.largest_batch = 0

    def prepare(self, device: torch.device) -> None:
        pass

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        assert conditioning.poke is not None
        self.largest_batch = max(self.largest_batch, len(conditioning.clip_ids))
        return self.videos(conditioning.x0, conditioning.poke, conditioning.horizon)[:, None]

    def videos(self, x0: Tensor, poke: Poke, horizon: int) -> Tensor:
        inside = torch.zeros(1, 1, SIZE, SIZE)
        inside[..., *SQUARE] = 1
        x, y = poke.location.long().T
        shift = poke.displacement * inside[0, 0, y, x][:, None]
        field = -shift[:, :, None, None].expand(-1, -1, SIZE, SIZE)
        moved, mask = backward_warp(x0, field), backward_warp(inside.expand(len(x0), -1, -1, -1), field)
        return torch.where(mask > 0.5, moved, x0)[:, None].expand(-1, horizon, -1, -1, -1)


class EncodesOnce(MovesTheSquare):
    def rollout_pokes(self, x0: Tensor, pokes: Poke, horizon: int, frames: Sequence[int] | None = None) -> Tensor:
        assert frames == [horizon]
        return self.videos(x0.expand(len(pokes.location), -1, -1, -1), pokes, 1)

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        raise AssertionError("the shorter way was there")


class KnowsItsFlow(MovesTheSquare):
    """The square goes no further than REACH px, whatever is asked."""

    REACH = 4.0

    def exact_answer(self, conditioning: Conditioning) -> ExactAnswer:
        assert conditioning.poke is not None
        inside = torch.zeros(SIZE, SIZE, dtype=torch.float64)
        inside[SQUARE] = 1
        x, y = conditioning.poke.location[0].long().tolist()
        asked = conditioning.poke.displacement.double()
        moved = asked * (self.REACH / asked.norm(dim=1, keepdim=True)).clamp(max=1) * inside[y, x]
        return ExactAnswer(moved, moved[:, :, None, None] * inside)

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        raise AssertionError("exact flow was there")


def parts() -> Tensor:
    found = torch.zeros(SIZE, SIZE, dtype=torch.uint8)
    found[8:40, 26:58] = 2
    found[SQUARE] = 1
    return found


def test_the_poked_part_is_found() -> None:
    settings = Settings(pokes=24, horizon=3, longest=6.0, batch=10)
    method = MovesTheSquare()
    on, beside = heatmaps(method, image(), PLACES, settings)
    assert method.largest_batch == 10
    for form in FORMS:
        assert on.maps[form].shape == (SIZE, SIZE)
    # The forms with a variance take stillness for agreement where lengths vary little, so only one is held to this.
    assert on.maps["complex"][15:29, 33:47].mean() > 0.6
    assert part_scores(on, parts())["complex auc"] > 0.8
    assert shown(on, "complex", masked=True)[45:, :20].max() == 0
    assert on.foreground[22, 40]
    assert not on.foreground[60, 5]
    assert not on.empty
    assert np.isnan(part_scores(beside, parts())["complex auc"])


@pytest.mark.parametrize("form", FORMS)
def test_an_object_that_moves_as_one_correlates_fully_all_over(form: Form) -> None:
    """By exact flow, beside the pokes that came true, although half of those asked for go too far."""
    [found] = heatmaps(KnowsItsFlow(), image(), PLACES[:1], Settings(pokes=40, longest=8.0), foreground=parts() == 1)
    assert found.exact
    lengths = found.displacements.norm(dim=1)
    assert lengths.max() == pytest.approx(4)
    assert (lengths < 3.99).any()
    assert found.maps[form][SQUARE].min() == pytest.approx(1)
    assert shown(found, form, masked=True).sum() == pytest.approx(20 * 20)
    assert part_scores(found, parts())[f"{form} auc"] == 1


def test_a_place_beside_the_object_gives_an_empty_map_and_says_so(tmp_path: Path) -> None:
    for method in (MovesTheSquare(), KnowsItsFlow()):
        [found] = heatmaps(method, image(), PLACES[1:], Settings(pokes=6, horizon=2), foreground=parts() > 0)
        assert found.empty
        assert found.note == "beside the object: nothing moves, the map is empty"
        assert all(bool((values == 0).all()) for values in found.maps.values())
    draw(tmp_path / "map", [Row(image(), "Square", "paper", [found])])
    write_heatmaps(tmp_path / "map.npz", image(), [found], {})
    arrays = np.load(tmp_path / "map.npz")
    assert (bool(arrays["0/empty"]), bool(arrays["0/exact"])) == (True, True)
    assert str(arrays["0/note"]) == found.note


def test_where_no_parts_are_known_an_empty_map_says_so_too() -> None:
    [found] = heatmaps(MovesTheSquare(), image(), PLACES[1:], Settings(pokes=6, horizon=2))
    assert found.empty
    assert not found.foreground.any()
    assert found.note == "nothing moves by more than 0.5 px, the map is empty"


def test_what_moves_although_the_place_is_beside_the_object_is_said() -> None:
    elsewhere = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    elsewhere[60:] = True
    [found] = heatmaps(KnowsItsFlow(), image(), PLACES[:1], Settings(pokes=6), foreground=elsewhere)
    assert not found.empty
    assert found.note.startswith("beside the object, yet the picture moves by up to ")


def test_pokes_can_be_given() -> None:
    own = torch.tensor([[3.0, 0.0], [0.0, 2.0], [-2.0, 1.0]], dtype=torch.float64)
    [found] = heatmaps(MovesTheSquare(), image(), PLACES[:1], Settings(horizon=2), pokes=[own])
    assert torch.equal(found.displacements, own)


def test_an_image_is_encoded_once_where_the_method_can() -> None:
    settings = Settings(pokes=8, horizon=2, longest=6.0)
    one, other = (heatmaps(m, image(), PLACES[:1], settings)[0] for m in (MovesTheSquare(), EncodesOnce()))
    assert torch.equal(one.maps["paper"], other.maps["paper"])


def changed(video: Tensor, row: int, value: float) -> Tensor:
    """The same with another value at one pixel of the last frame of a row."""
    video = video.clone()
    video[row, ..., -1, 0, 5, 5] = value
    return video


WRONG = {
    "returned NaN or infinite values for 1 of 4 pokes": lambda video: changed(video, 2, torch.nan),
    "returned values in [0, 255], expected [0, 1]": lambda video: changed(changed(video, 1, 255.0), 0, 0.0),
    "expected a float tensor": lambda video: video[..., :-1],
    "returned torch.uint8": lambda video: (255 * video).byte(),
    "returned list": lambda video: video.tolist(),
}


@pytest.mark.parametrize("fault", WRONG)
@pytest.mark.parametrize("call", ["predict", "rollout_pokes"])
def test_frames_that_no_map_can_be_made_of_are_an_error(call: str, fault: str) -> None:
    class Wrong(MovesTheSquare):
        def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
            found: Tensor = WRONG[fault](super().predict(conditioning, samples, seed))
            return found

    class WrongAtOnce(EncodesOnce):
        def rollout_pokes(self, x0: Tensor, pokes: Poke, horizon: int, frames: Sequence[int] | None = None) -> Tensor:
            found: Tensor = WRONG[fault](super().rollout_pokes(x0, pokes, horizon, frames))
            return found

    method = Wrong() if call == "predict" else WrongAtOnce()
    with pytest.raises(MethodError, match=rf"^square, poked at \(40, 20\): {call} .*{re.escape(fault)}"):
        heatmaps(method, image(), PLACES[:1], Settings(pokes=4, horizon=2, longest=6.0))


def test_of_many_pokes_one_frame_is_taken() -> None:
    class AllFrames(MovesTheSquare):
        def rollout_pokes(self, x0: Tensor, pokes: Poke, horizon: int, frames: Sequence[int] | None = None) -> Tensor:
            return self.videos(x0.expand(len(pokes.location), -1, -1, -1), pokes, horizon)

    wanted = re.escape("[4, 2, 3, 64, 64], expected a float tensor [K, F, 3, H, W] = [4, 1, 3, 64, 64]")
    with pytest.raises(MethodError, match=wanted):
        heatmaps(AllFrames(), image(), PLACES[:1], Settings(pokes=4, horizon=2))


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (ExactAnswer(torch.zeros(4, 2), torch.zeros(4, 2, 9, 9)), "flow returned torch.float32 [4, 2, 9, 9]"),
        (ExactAnswer(torch.zeros(4, 2), torch.full((4, 2, 64, 64), torch.inf)), "infinite values for 4 of 4 pokes"),
        (ExactAnswer(torch.full((4, 2), torch.nan), torch.zeros(4, 2, 64, 64)), "displacement returned NaN"),
        (ExactAnswer(torch.zeros(2), torch.zeros(4, 2, 64, 64)), "expected a float tensor [B, 2] = [4, 2]"),
        (torch.zeros(4, 2), "returned Tensor, expected an ExactAnswer"),
    ],
)
def test_exact_answers_that_no_map_can_be_made_of_are_an_error(answer: ExactAnswer, fault: str) -> None:
    class Wrong(KnowsItsFlow):
        def exact_answer(self, conditioning: Conditioning) -> ExactAnswer:
            return answer

    with pytest.raises(MethodError, match=rf"^square, poked at \(40, 20\): exact_answer.*{re.escape(fault)}"):
        heatmaps(Wrong(), image(), PLACES[:1], Settings(pokes=4, horizon=2))


def test_pokes_are_as_long_as_they_are_said_to_be() -> None:
    random = drawn_pokes(Settings(pokes=500), 64, "a").norm(dim=1)
    assert 0.25 * 12.8 <= random.min() < 0.27 * 12.8
    assert 0.98 * 12.8 < random.max() <= 12.8
    fixed = drawn_pokes(Settings(pokes=500, lengths="fixed", longest=8.0), 64, "a")
    torch.testing.assert_close(fixed.norm(dim=1), torch.full((500,), 5.0, dtype=torch.float64))
    assert fixed.mean(0).norm() < 0.5
    assert torch.equal(drawn_pokes(Settings(), 64, "a"), drawn_pokes(Settings(), 64, "a"))
    assert not torch.equal(drawn_pokes(Settings(), 64, "a"), drawn_pokes(Settings(), 64, "b"))


def test_a_shared_scale_uses_one_reference() -> None:
    places = [PLACES[0], (34.0, 26.0)]
    own, shared = (
        heatmaps(MovesTheSquare(), image(), places, Settings(pokes=8, horizon=2, longest=6.0, shared_scale=s))
        for s in (False, True)
    )
    top = torch.quantile(torch.cat([h.variances["paper"].flatten() for h in own]), 0.99)
    for found in shared:
        torch.testing.assert_close(found.maps["paper"], (1 - found.variances["paper"] / top).clamp(0, 1))


def test_the_figure_and_the_arrays_are_written(tmp_path: Path) -> None:
    found = heatmaps(MovesTheSquare(), image(), PLACES, Settings(pokes=6, horizon=2, longest=6.0))
    draw(tmp_path / "deep" / "map", [Row(image(), "Square", form, found) for form in FORMS], insets=True)
    assert (tmp_path / "deep" / "map.png").stat().st_size > 10_000
    assert (tmp_path / "deep" / "map.pdf").read_bytes().startswith(b"%PDF")
    write_heatmaps(tmp_path / "map.npz", image(), found, {"method": "square"})
    arrays = np.load(tmp_path / "map.npz")
    np.testing.assert_array_equal(arrays["1/variance/paper"], found[1].variances["paper"].numpy())
    assert str(arrays["facts"]) == '{"method": "square"}'


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    found = heatmaps(MovesTheSquare(), image(), PLACES, Settings(pokes=6, horizon=2, longest=6.0))
    found[1] = replace(found[1], exact=True, empty=True, note="nothing moves")
    write_heatmaps(tmp_path / "map.npz", image(), found, {"method": "square"})
    pixels, again, facts = read_heatmaps(tmp_path / "map.npz")
    assert torch.equal(pixels, image())
    assert facts == {"method": "square"}
    assert len(again) == len(found)
    for one, other in zip(found, again, strict=True):
        assert (other.location, other.exact, other.empty, other.note) == (one.location, one.exact, one.empty, one.note)
        for name in ("displacements", "maps", "variances", "foreground", "mean_length"):
            torch.testing.assert_close(getattr(other, name), getattr(one, name), rtol=0, atol=0)
    (tmp_path / "map.npz").write_bytes((tmp_path / "map.npz").read_bytes()[:-200])
    with pytest.raises(DataError, match=r"expected an .npz file of `bench heatmap`"):
        read_heatmaps(tmp_path / "map.npz")


def test_bad_input_is_refused() -> None:
    with pytest.raises(MethodError, match="copy-last-frame takes no pokes"):
        heatmaps(CopyLastFrame(), image(), PLACES, Settings())
    with pytest.raises(DataError, match=r"\(70, 3\) is outside the image of 64 x 64 px"):
        heatmaps(MovesTheSquare(), image(), [(70, 3)], Settings())
    with pytest.raises(DataError, match="expected pokes >= 2"):
        Settings(pokes=1)
