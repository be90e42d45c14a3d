"""The conformance kit: a sound adapter passes, and each broken one fails the item that it breaks and no other."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from methods.conformance import CHECKS, check_method, summary
from methods.conformance.base import Check, Result
from methods.conformance.clips import generated_clips
from methods.conformance.sameness import Devices
from methods.dis_flow import dis_flow
from methods.interface import Clip, Conditioning, MethodCard
from metrics.errors import DataError, MethodError

CARD = MethodCard(
    name="sound",
    title="Sound",
    revision="1",
    inputs=frozenset({"context", "poke", "tracks"}),
    min_context=2,
    horizons=frozenset({4, 10}),
    sizes=frozenset({16, 24}),
)
INDEXED = torch.device("cpu", 0)
"""Another name for the CPU, which stands for another device."""
SWITCHES = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)
"""Of TF32 on a GPU; they can be set without one."""


class Sound:
    """Fades x0 to grey, by an amount that poke and tracks set."""

    card = CARD

    def prepare(self, device: torch.device) -> None:
        self.device = device

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        self.refuse(conditioning)
        return self.video(conditioning, samples, seed)

    def refuse(self, conditioning: Conditioning) -> None:
        size, frames = conditioning.context.shape[-1], conditioning.context.shape[1]
        if size not in (16, 24):
            raise MethodError(f"expected 16 or 24 px, found {size}")
        if frames < 2:
            raise MethodError(f"expected 2 frames, found {frames}")
        if conditioning.horizon not in (4, 10):
            raise MethodError(f"expected a horizon of 4 or 10, found {conditioning.horizon}")
        if conditioning.poke is None or conditioning.tracks is None:
            raise MethodError("expected a poke and tracks")

    def video(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        times = torch.arange(1, conditioning.horizon + 1)[None, None, :, None, None, None] / 100
        grey = self.grey(conditioning)[:, None, None, None, None, None]
        return (1 - times) * self.picture(conditioning)[:, None, None] + times * grey

    def picture(self, conditioning: Conditioning) -> Tensor:
        return conditioning.x0

    def grey(self, conditioning: Conditioning) -> Tensor:
        return self.signal_of_poke(conditioning) + self.signal_of_tracks(conditioning)

    def signal_of_poke(self, conditioning: Conditioning) -> Tensor:
        assert conditioning.poke is not None
        return (conditioning.poke.location.sum(1) + 3 * conditioning.poke.displacement[:, 0]).sin() / 8 + 0.5

    def signal_of_tracks(self, conditioning: Conditioning) -> Tensor:
        assert conditioning.tracks is not None
        return conditioning.tracks[:, :, -1].sum((1, 2)).sin() / 8

    def rollout_pokes(self, x0, pokes, horizon, frames=None):
        count = len(pokes.location)
        tracks = torch.zeros(count, 1, horizon + 1, 2)
        given = Conditioning(x0.repeat(count, 2, 1, 1, 1), ["image"] * count, horizon, poke=pokes, tracks=tracks)
        return self.drawn(Sound.video(self, given, 1, 0)[:, 0], frames)

    def drawn(self, videos: Tensor, frames: Sequence[int] | None) -> Tensor:
        return videos if frames is None else videos[:, [number - 1 for number in frames]]


class Noisy(Sound):
    """The stochastic kind."""

    card = replace(CARD, name="noisy", stochastic=True)

    def video(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        shape = (conditioning.horizon, *conditioning.x0.shape[1:])
        drawn = [
            torch.stack([torch.rand(shape, generator=g) for _ in range(samples)])
            for g in self.sources(conditioning, seed)
        ]
        return 0.9 * super().video(conditioning, 1, seed) + 0.1 * torch.stack(drawn)

    def sources(self, conditioning: Conditioning, seed: int) -> list[torch.Generator]:
        return conditioning.generators(seed)


class SeesX0Alone(Sound):
    """The kind whose `rollout_pokes` sees all that `predict` does."""

    card = replace(CARD, name="alone", inputs=frozenset({"context", "poke"}), min_context=1)

    def refuse(self, conditioning: Conditioning) -> None:
        super().refuse(replace(conditioning, context=conditioning.context.repeat(1, 2, 1, 1, 1), tracks=Tensor()))

    def signal_of_tracks(self, conditioning: Conditioning) -> Tensor:
        return torch.zeros(())


class UntitledCard(Sound):
    card = replace(CARD, title="")


class NewCardEachTime(Sound):
    numbers = itertools.count()

    def __init__(self) -> None:
        self.card = replace(CARD, revision=str(next(self.numbers)))


class HiddenNetwork(Sound):
    def __init__(self) -> None:
        with torch.random.fork_rng():
            self.network = torch.nn.Linear(2, 3)


class Unprepared(Sound):
    def prepare(self, device: torch.device) -> None:
        raise RuntimeError("no weights")


class NoSamplesAxis(Sound):
    def video(self, *given):
        return super().video(*given)[:, 0]


class NotATensor(Sound):
    def video(self, *given):
        return super().video(*given).tolist()


class OwnError(Exception):
    """An exception that no library knows."""


class Raises(Sound):
    def video(self, *given):
        raise OwnError("cannot")


class Bytes(Sound):
    def video(self, *given):
        return (super().video(*given) * 255).byte()


class NotANumber(Sound):
    def video(self, *given):
        video = super().video(*given)
        video[-1, ..., 0] = torch.nan
        return video


class Signed(Sound):
    def video(self, *given):
        return super().video(*given) * 2 - 1


class TenOnly(Sound):
    def video(self, conditioning, samples, seed):
        video = super().video(conditioning, samples, seed)
        return torch.stack([video[:, :, t] for t in range(10)], 2)


class OneSize(Sound):
    def picture(self, conditioning):
        return conditioning.x0 + torch.zeros(24, 24)


class TwoFramesExactly(Sound):
    def picture(self, conditioning):
        _, last = conditioning.context.unbind(1)
        return last


class NaNAtOtherHorizon(Sound):
    def video(self, conditioning, samples, seed):
        video = super().video(conditioning, samples, seed)
        return video if conditioning.horizon == 10 else video * torch.nan


class InfiniteAtOtherSize(Sound):
    def picture(self, conditioning):
        return conditioning.x0 if conditioning.x0.shape[-1] == 24 else conditioning.x0 / 0


class BytesAtOtherSize(Sound):
    def video(self, conditioning, samples, seed):
        video = super().video(conditioning, samples, seed)
        return video if conditioning.x0.shape[-1] == 24 else video * 255


class NaNFromMoreContext(Sound):
    def picture(self, conditioning):
        return conditioning.x0 if conditioning.context.shape[1] == 2 else conditioning.x0 * torch.nan


class ManyEqualSamples(Sound):
    def video(self, conditioning, samples, seed):
        return super().video(conditioning, samples, seed).expand(-1, samples, -1, -1, -1, -1)


class EqualSamples(Noisy):
    def video(self, conditioning, samples, seed):
        return super().video(conditioning, 1, seed).expand(-1, samples, -1, -1, -1, -1)


class SamplesByCount(Noisy):
    def video(self, conditioning, samples, seed):
        return super().video(conditioning, samples, seed).flip(1)


class DrawsAllFrames(Sound):
    def drawn(self, videos, frames):
        return videos


class DrawsTheLastFrames(SeesX0Alone):
    def drawn(self, videos, frames):
        return videos if frames is None else videos[:, -len(frames) :]


class RollsOutNaN(Sound):
    def drawn(self, videos, frames):
        return super().drawn(videos, frames) * torch.nan


class RollsOutSigned(Sound):
    def drawn(self, videos, frames):
        return super().drawn(videos, frames) * 2 - 1


class RollsOutSomethingElse(SeesX0Alone):
    def rollout_pokes(self, x0, pokes, horizon, frames=None):
        return super().rollout_pokes(x0.flip(-1), pokes, horizon, frames)


class SwapsPokes(SeesX0Alone):
    def drawn(self, videos, frames):
        return super().drawn(videos.flip(0), frames)


class RollsOutOverX0(Sound):
    def rollout_pokes(self, x0, pokes, horizon, frames=None):
        return super().rollout_pokes(x0.mul_(0.5), pokes, horizon, frames)


class CannotRollOut(Sound):
    def drawn(self, videos, frames):
        raise OwnError("cannot")


class WritesToContext(Sound):
    def video(self, conditioning, samples, seed):
        video = super().video(conditioning, samples, seed)
        conditioning.context.mul_(2).sub_(1)
        return video


class Remembers(Sound):
    clips = 0

    def video(self, conditioning, samples, seed):
        grown, self.clips = self.clips and len(conditioning.clip_ids) > self.clips, len(conditioning.clip_ids)
        return super().video(conditioning, samples, seed) + (1e-5 if grown else 0)


class DeterministicButSeeded(Sound):
    def video(self, conditioning, samples, seed):
        return super().video(conditioning, samples, seed) * (1 - 0.01 * seed)


class IgnoresTheSeed(Noisy):
    def sources(self, conditioning, seed):
        return conditioning.generators(0)


class BatchStatistics(Sound):
    def picture(self, conditioning):
        return conditioning.x0 - conditioning.x0.mean() / 4 + 0.1


class SortsByName(Sound):
    def video(self, conditioning, samples, seed):
        order = sorted(range(len(conditioning.clip_ids)), key=lambda row: conditioning.clip_ids[row])
        return super().video(conditioning.select(order), samples, seed)


class GlobalRandomness(Sound):
    def picture(self, conditioning):
        return conditioning.x0 + 5e-5 * torch.rand(())


class Reseeds(Sound):
    def video(self, conditioning, samples, seed):
        torch.manual_seed(seed)
        return super().video(conditioning, samples, seed)


class ByThreads(Sound):
    def picture(self, conditioning):
        return conditioning.x0 * 0.9 ** torch.get_num_threads()


class ByBuild(Sound):
    numbers = itertools.count()

    def __init__(self) -> None:
        self.scale = 0.9 if next(self.numbers) == 2 else 1.0  # the kit's third build is that of another process

    def picture(self, conditioning):
        return conditioning.x0 * self.scale


class ByDevice(Sound):
    def picture(self, conditioning):
        return conditioning.x0 * (0.8 if self.device == INDEXED else 1)


class Peeks(Sound):
    def picture(self, conditioning):
        context = conditioning.context
        behind = context.untyped_storage().nbytes() // 4 - context.numel()
        if not behind:
            return conditioning.x0
        everything = context.as_strided((context.numel() + behind,), (1,), 0)
        return conditioning.x0 * 0.5 + 0.5 * everything[-1]


class LooksUpIds(Sound):
    def picture(self, conditioning):
        return conditioning.x0 * (0.8 if conditioning.clip_ids[0].startswith("check") else 1)


class OneStreamForAll(Noisy):
    def sources(self, conditioning, seed):
        return [torch.Generator().manual_seed(seed) for _ in conditioning.clip_ids]


class Blind(Sound):
    def picture(self, conditioning):
        return torch.full_like(conditioning.x0, 0.5)


class IgnoresPoke(Sound):
    def signal_of_poke(self, conditioning):
        return torch.full((len(conditioning.x0),), 0.5)


class IgnoresTracks(Sound):
    def signal_of_tracks(self, conditioning):
        return torch.zeros(len(conditioning.x0))


class UndeclaredTracks(Sound):
    card = replace(CARD, inputs=frozenset({"context", "poke"}))

    def refuse(self, conditioning):
        super().refuse(replace(conditioning, tracks=torch.zeros(1)))

    def signal_of_tracks(self, conditioning):
        return torch.zeros(()) if conditioning.tracks is None else super().signal_of_tracks(conditioning)


class Slides(Sound):
    def picture(self, conditioning):
        return torch.roll(conditioning.x0, 3, -1)


class PromisesZero(Slides):
    card = replace(CARD, promises=frozenset({"zero_stillness"}))


class PromisesBeside(Slides):
    card = replace(CARD, promises=frozenset({"beside_stillness"}))


class AnySizeAfterAll(Sound):
    def refuse(self, conditioning):
        if conditioning.context.shape[-1] in (16, 24):
            super().refuse(conditioning)


class OtherErrorForSize(Sound):
    def refuse(self, conditioning):
        if conditioning.context.shape[-1] not in (16, 24):
            raise ValueError("expected 16 or 24, found another size")
        super().refuse(conditioning)


class AnyHorizonAfterAll(Sound):
    def refuse(self, conditioning):
        super().refuse(replace(conditioning, horizon=10))


class SaysTooLittle(Sound):
    def refuse(self, conditioning):
        if conditioning.context.shape[1] < 2:
            raise MethodError("not enough frames")
        super().refuse(conditioning)


class NeedsPokeSilently(Sound):
    def refuse(self, conditioning):
        if conditioning.poke is not None:
            super().refuse(conditioning)


class MisleadsOnTracks(Sound):
    def refuse(self, conditioning):
        if conditioning.tracks is None:
            raise MethodError("expected something else")
        super().refuse(conditioning)


BROKEN: dict[str, list[type]] = {
    "card": [UntitledCard, NewCardEachTime, HiddenNetwork],
    "prepare": [Unprepared],
    "shape": [NoSamplesAxis, NotATensor, Raises],
    "type": [Bytes],
    "finite values": [NotANumber],
    "range": [Signed],
    "other horizon": [TenOnly, NaNAtOtherHorizon],
    "other size": [OneSize, InfiniteAtOtherSize, BytesAtOtherSize],
    "more context": [TwoFramesExactly, NaNFromMoreContext],
    "samples": [ManyEqualSamples, EqualSamples, SamplesByCount],
    "many pokes": [
        *(DrawsAllFrames, DrawsTheLastFrames, RollsOutNaN, RollsOutSigned, RollsOutSomethingElse, SwapsPokes),
        *(RollsOutOverX0, CannotRollOut),
    ],
    "inputs kept": [WritesToContext],
    "same seed": [Remembers],
    "other seed": [DeterministicButSeeded, IgnoresTheSeed],
    "batch size": [BatchStatistics],
    "order of clips": [SortsByName],
    "random state": [GlobalRandomness, Reseeds],
    "threads": [ByThreads],
    "processes": [ByBuild],
    "device": [ByDevice],
    "no peek": [Peeks],
    "clip ids": [LooksUpIds, OneStreamForAll],
    "context": [Blind],
    "poke": [IgnoresPoke],
    "tracks": [IgnoresTracks, UndeclaredTracks],
    "zero poke": [PromisesZero],
    "background poke": [PromisesBeside],
    "wrong size": [AnySizeAfterAll, OtherErrorForSize],
    "wrong horizon": [AnyHorizonAfterAll],
    "too few frames": [SaysTooLittle],
    "missing poke": [NeedsPokeSilently],
    "missing tracks": [MisleadsOnTracks],
}


def every_item() -> list[Check]:
    """All items; that on devices compares with the CPU under another name."""
    return [Devices(INDEXED) if kind is Devices else kind() for kind in CHECKS]


def results_of(build: Callable[[], object]) -> dict[str, Result]:
    return {result.name: result for result in check_method(build, checks=every_item())}  # type: ignore[arg-type]


@pytest.mark.parametrize("build", [Sound, Noisy])
def test_every_item_applies_to_a_sound_adapter_and_passes(build):
    found = results_of(build)
    measured = {"zero poke", "background poke", "cost"}
    assert {name: result.verdict for name, result in found.items()} == {
        kind.name: "measured" if kind.name in measured else "passed" for kind in CHECKS
    }


@pytest.mark.parametrize(
    ("item", "broken"),
    [(item, kind) for item, kinds in BROKEN.items() for kind in kinds],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_a_broken_adapter_fails_exactly_its_item(item, broken):
    found = results_of(broken)
    assert [name for name, result in found.items() if result.verdict == "failed"] == [item], found[item]
    failed = found[item]
    assert failed.expected
    assert failed.found
    assert failed.cure.endswith(".")


def test_every_item_that_can_fail_has_a_broken_adapter():
    assert set(BROKEN) == {kind.name for kind in CHECKS} - {"cost"}
    assert len({kind.name for kind in CHECKS}) == len(CHECKS)


@pytest.fixture
def tf32():
    """The switches of a user who allows TF32."""
    before = [switch.fp32_precision for switch in SWITCHES]
    for switch in SWITCHES:
        switch.fp32_precision = "tf32"
    yield
    for switch, precision in zip(SWITCHES, before, strict=True):
        switch.fp32_precision = precision


@pytest.mark.usefixtures("tf32")
def test_calls_are_made_in_full_float32_as_in_an_evaluation():
    found = set()

    class Looks(Sound):
        def picture(self, conditioning):
            found.add(tuple(switch.fp32_precision for switch in SWITCHES))
            found.add((torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()))
            return conditioning.x0

    with torch.autocast("cpu", torch.bfloat16):
        results = results_of(Looks)
    assert not [result for result in results.values() if result.verdict == "failed"]
    assert found == {("ieee", "ieee"), (False, False)}
    assert {switch.fp32_precision for switch in SWITCHES} == {"tf32"}


def test_after_an_essential_item_the_others_do_not_apply():
    found = list(results_of(Bytes).values())
    stop = [result.name for result in found].index("type")
    assert {result.verdict for result in found[:stop]} == {"passed"}
    assert {(r.verdict, r.found) for r in found[stop + 1 :]} == {("not applicable", "`type` failed")}


def test_many_pokes_are_answered_as_predict_does_where_both_see_the_same():
    results = results_of(SeesX0Alone)
    assert [name for name, result in results.items() if result.verdict == "failed"] == []
    assert results["many pokes"].found == "10 pokes on one image are answered as by `predict`, to 0.0e+00"
    for build in (Sound, Noisy):  # tracks and another context frame, and randomness, besides
        found = results_of(build)["many pokes"].found
        assert found == "10 pokes on one image: the frames asked for, finite and in [0, 1]"


def test_many_pokes_are_for_methods_that_say_so():
    class Lacks(Sound):
        rollout_pokes = None

    class TakesNone(SeesX0Alone):
        card = replace(CARD, inputs=frozenset({"context"}), min_context=1)

        def refuse(self, conditioning):
            pass

        def signal_of_poke(self, conditioning):
            return torch.full((len(conditioning.x0),), 0.5)

    assert results_of(Lacks)["many pokes"] == Result("many pokes", "not applicable", "it has no rollout_pokes")
    assert results_of(TakesNone)["many pokes"].found == "it takes no poke"


def test_a_fault_of_values_says_in_which_prediction():
    failed = results_of(BytesAtOtherSize)["other size"]
    assert failed.expected == "values in [0, 1]"
    assert re.fullmatch(r"\[\d+\S*, \d+\S*\] in a prediction of shape \[1, 1, 10, 3, 16, 16\]", failed.found)
    assert failed.cure == "Divide by 255."
    assert results_of(NaNAtOtherHorizon)["other horizon"].found == (
        "6912 of 6912 values NaN or infinite in a prediction of shape [1, 1, 4, 3, 24, 24]"
    )


def test_an_unknown_exception_is_told_with_its_line():
    failed = results_of(Raises)["shape"]
    assert failed.found.startswith("OwnError: cannot (test_conformance.py, line ")


def test_a_kept_promise_is_a_verdict_and_no_promise_is_a_figure():
    class Keeps(Sound):
        card = replace(CARD, promises=frozenset({"zero_stillness"}))

    found = results_of(Keeps)
    assert found["zero poke"].verdict == "passed"
    assert found["background poke"].verdict == "measured"
    assert results_of(Slides)["zero poke"].verdict == "measured"
    assert "100.0 %" not in results_of(Slides)["zero poke"].found


def test_a_promise_that_is_unknown_fails_the_card():
    class Unknown(Sound):
        card = replace(CARD, promises=frozenset({"world peace"}))

    assert results_of(Unknown)["card"].verdict == "failed"


def test_a_method_that_knows_certain_clips_alone_refuses_others_with_advice():
    class Knows(Sound):
        def check_clips(self, clip_ids):
            if set(clip_ids) != {"a"}:
                raise MethodError(f"there are no clips {', '.join(clip_ids)}")

    with pytest.raises(MethodError, match=r"check-0.*--data"):
        list(check_method(Knows))


def test_clips_without_a_poke_are_refused_for_a_method_that_takes_one():
    def bare(size: int, context: int, horizon: int) -> list[Clip]:
        return [replace(clip, poke=None) for clip in generated_clips(size, context, horizon)]

    with pytest.raises(DataError, match="takes poke"):
        list(check_method(Sound, source=bare))


def test_a_size_that_the_card_excludes_is_refused():
    with pytest.raises(MethodError, match=r"16, 24 px, found 32"):
        list(check_method(Sound, size=32))


def test_clips_that_a_source_does_not_have_excuse_the_item():
    def ten_alone(size: int, context: int, horizon: int) -> list[Clip]:
        if horizon != 10:
            raise DataError("ten frames alone")
        return generated_clips(size, context, horizon)

    found = {result.name: result for result in check_method(Sound, source=ten_alone)}
    assert found["other horizon"].verdict == "not applicable"
    assert not [result for result in found.values() if result.verdict == "failed"]


def test_the_kit_leaves_random_state_and_threads_as_they_were():
    import random

    import numpy as np

    torch.manual_seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate(), torch.get_num_threads()  # noqa: NPY002
    results_of(GlobalRandomness)
    results_of(Reseeds)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (np.random.get_state()[1].tolist(), random.getstate(), torch.get_num_threads())  # noqa: NPY002


def test_lines_are_aligned_and_counted():
    passed = Result("shape", "passed", "[1]")
    failed = Result("no peek", "failed", "another", "equal bits", "Do not.")
    lines = [result.line(10) for result in (passed, failed)]
    assert lines[0] == "shape       passed          [1]"
    assert lines[1] == "no peek     failed          expected equal bits; found another. Do not."
    assert summary([passed, failed, passed]) == "2 passed, 1 failed, 0 measured, 0 not applicable"


@pytest.mark.parametrize("size", [16, 64, 100])
def test_generated_clips_move_as_they_say(size):
    for clip in generated_clips(size, 2, 10):
        assert clip.frames.shape == (12, 3, size, size)
        assert clip.flow is not None
        assert clip.parts is not None
        assert clip.tracks is not None
        assert clip.poke is not None
        disc = clip.parts.bool()
        x, y = clip.poke.location[0].int().tolist()
        assert disc[y, x]
        torch.testing.assert_close(clip.flow[:, y, x], clip.poke.displacement[0])
        torch.testing.assert_close(
            clip.tracks[:, -1] - clip.tracks[:, 1], clip.poke.displacement.expand(5, 2), atol=1e-3, rtol=0
        )
        assert not clip.flow[:, ~disc].any()
        if size == 64:  # against an estimate of the motion: a third of a pixel on average, of six to nine
            measured = dis_flow(clip.frames[1], clip.frames[-1])
            assert (measured - clip.flow)[:, disc].norm(dim=0).mean() < 0.6


def test_generated_clips_do_not_depend_on_how_many_frames_are_asked_for():
    short, long = generated_clips(32, 1, 4)[1], generated_clips(32, 5, 10)[1]
    assert torch.equal(short.frames, long.frames[4:9])
