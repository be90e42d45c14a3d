"""Which clips are cut, how they are called, and which are kept."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bench.data.clips import check_unique, clip_id, clip_starts, kept_clips, span, stride_for
from bench.data.interface import ClipRef, Settings
from metrics.errors import DataError

NUMBERS = st.integers(1, 40)


@given(frames=st.integers(0, 2000), length=NUMBERS, stride=NUMBERS)
def test_without_a_count_clips_are_disjoint_and_as_many_as_fit(frames: int, length: int, stride: int) -> None:
    starts = clip_starts(frames, Settings(length=length), stride)
    reach = span(length, stride)
    assert len(starts) == frames // reach
    covered = [range(start, start + reach) for start in starts]
    assert all(first.stop <= second.start for first, second in pairwise(covered))
    assert all(clip.start >= 0 and clip.stop <= frames for clip in covered)


@given(frames=st.integers(0, 2000), length=NUMBERS, stride=NUMBERS, count=st.integers(1, 50))
def test_with_a_count_clips_are_evenly_spaced(frames: int, length: int, stride: int, count: int) -> None:
    starts = clip_starts(frames, Settings(length=length, clips_per_source=count), stride)
    last = frames - span(length, stride)
    assert len(starts) == max(0, min(count, last + 1))
    assert starts == sorted(set(starts))
    assume(len(starts) > 1)
    assert (starts[0], starts[-1]) == (0, last)
    gaps = [second - first for first, second in pairwise(starts)]
    assert max(gaps) - min(gaps) <= 1


def test_hand_computed_starts() -> None:
    assert clip_starts(100, Settings(length=12), 2) == [0, 23, 46, 69]
    assert clip_starts(12, Settings(length=12), 1) == [0]
    assert clip_starts(11, Settings(length=12), 1) == []
    assert clip_starts(100, Settings(length=12, clips_per_source=1), 1) == [44]
    assert clip_starts(100, Settings(length=12, clips_per_source=3), 3) == [0, 33, 66]


@pytest.mark.parametrize(
    ("source", "wanted", "stride"),
    [(60, 10, 6), (25, 10, 3), (24, 10, 2), (30, 30, 1), (20, 30, 1), (29.97, 10, 3), (60, 24, 3)],
)
def test_the_stride_comes_nearest_to_the_wanted_rate(source: float, wanted: float, stride: int) -> None:
    assert stride_for(source, Settings(frame_rate=wanted)) == stride


def test_strides_without_a_wanted_rate() -> None:
    assert stride_for(25, Settings()) == 1
    assert stride_for(None, Settings(stride=4)) == 4
    with pytest.raises(DataError, match=r"so 10 fps cannot be taken from it; write its rate into frame_rate\.txt"):
        stride_for(None, Settings(frame_rate=10))
    with pytest.raises(DataError, match="it has 15 fps, fewer than the 30 fps wanted"):
        stride_for(15, Settings(frame_rate=30))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 0}, "size: expected at least 1, found 0"),
        ({"max_clips": 0}, "max_clips"),
        ({"frame_rate": 0.0}, "frame_rate: expected a positive number"),
        ({"frame_rate": float("nan")}, "frame_rate: expected a positive number"),
        ({"frame_rate": 10.0, "stride": 2}, "give one of them"),
    ],
)
def test_wrong_settings_are_refused(values: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Settings(**values)


def test_clip_ids() -> None:
    assert clip_id("walk/cam01.mp4", 23) == "walk_cam01.mp4@000023"
    assert clip_id("frames", 0) == "frames@000000"
    assert re.fullmatch(r"a_b\.mp4-[0-9a-f]{8}@000000", clip_id("a b.mp4", 0))


@given(st.text(min_size=1), st.text(min_size=1), st.integers(0, 10**6))
def test_clip_ids_are_plain_and_differ_with_the_path(first: str, second: str, start: int) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._@-]+", clip_id(first, start))
    assume(first.replace("/", "_") != second.replace("/", "_"))
    assert clip_id(first, start) != clip_id(second, start)


def test_equal_ids_are_refused() -> None:
    clips = [ClipRef(clip_id(source, 0), source) for source in ("a/b.mp4", "a_b.mp4")]
    with pytest.raises(DataError, match=r"two clips are called 'a_b.mp4@000000', of 'a/b.mp4' and 'a_b.mp4'"):
        check_unique(clips)


def refs(sizes: list[int]) -> list[ClipRef]:
    return [ClipRef(clip_id(f"v{n}", 10 * i), f"v{n}") for n, size in enumerate(sizes) for i in range(size)]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(1, 30), st.integers(0, 5))
def test_kept_clips_spread_over_the_sources(sizes: list[int], count: int, seed: int) -> None:
    clips = refs(sizes)
    settings = Settings(max_clips=count, seed=seed)
    kept = kept_clips(clips, settings)
    assert len(kept) == min(count, len(clips))
    assert kept == [clip for clip in clips if clip in kept]
    numbers = [sum(clip.source == f"v{n}" for clip in kept) for n in range(len(sizes))]
    fewest = min((number for number, size in zip(numbers, sizes, strict=True) if number < size), default=max(numbers))
    assert max(numbers) <= fewest + 1
    shuffled = random.Random(0).sample(clips, len(clips))
    assert {clip.clip_id for clip in kept_clips(shuffled, settings)} == {clip.clip_id for clip in kept}


def test_the_seed_moves_the_choice_and_more_clips_contain_fewer() -> None:
    clips = refs([4] * 20)
    ids = {seed: {clip.clip_id for clip in kept_clips(clips, Settings(max_clips=10, seed=seed))} for seed in (0, 1)}
    assert ids[0] != ids[1]
    assert ids[0] < {clip.clip_id for clip in kept_clips(clips, Settings(max_clips=25, seed=0))}
    assert kept_clips(clips, Settings()) == clips
