"""The clip rule of the release, transcribed frame by frame, against the rule used here."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.data.clips import span
from bench.data.interface import Settings
from bench.data.manifest import PreparedVideo
from bench.data.prepared_set import part_of, split_starts


def release_clips(first: int, last: int, horizon: int, step: int) -> set[tuple[int, ...]]:
    """All clips the release can draw from a video whose frames in a split are `first` to `last`.

    For every frame i: start = min(i, last - T s - 1); the clip is start, start + s, ..., start + T s.
    """
    starts = (min(i, last - horizon * step - 1) for i in range(first, last + 1))
    return {tuple(start + t * step for t in range(horizon + 1)) for start in starts}


@given(first=st.integers(0, 50), extra=st.integers(0, 60), horizon=st.integers(1, 12), step=st.integers(1, 8))
def test_training_clips_are_those_of_the_release(first: int, extra: int, horizon: int, step: int) -> None:
    frames = horizon * step + 2 + extra
    part = range(first, first + frames)
    starts = split_starts(part, "train", Settings(length=horizon + 1), step)
    ours = {tuple(start + t * step for t in range(horizon + 1)) for start in starts}
    assert len(starts) == len(ours)
    assert ours == release_clips(part.start, part.stop - 1, horizon, step)


@given(frames=st.integers(0, 200), length=st.integers(1, 12), step=st.integers(1, 8), count=st.integers(1, 5))
def test_test_clips_are_clips_of_the_release_that_do_not_overlap(
    frames: int, length: int, step: int, count: int
) -> None:
    part = range(100, 100 + frames)
    everything = split_starts(part, "train", Settings(length=length), step)
    starts = split_starts(part, "test", Settings(length=length), step)
    few = split_starts(part, "test", Settings(length=length, clips_per_source=count), step)
    assert set(starts) | set(few) <= set(everything)
    assert bool(starts) == bool(everything) == bool(few)
    assert all(late - early >= span(length, step) for early, late in pairwise(starts))
    assert few == sorted(set(few))
    assert len(few) == min(count, len(everything))


def test_a_part_of_exactly_one_clip_is_one_frame_longer_than_the_clip() -> None:
    assert split_starts(range(5, 17), "train", Settings(length=11), 1) == [5]
    assert split_starts(range(5, 16), "train", Settings(length=11), 1) == []


@given(frames=st.integers(0, 5000))
def test_within_video_split_is_the_release_s_four_fifths(frames: int) -> None:
    video = PreparedVideo("v", "v", "within", frames, 30.0, "", frames, "")
    train, test = part_of(video, "train"), part_of(video, "test")
    assert len(train) == int(0.8 * frames)
    assert [*train, *test] == list(range(frames))


@pytest.mark.parametrize("part", ["train", "test"])
def test_other_videos_belong_to_one_split(part: str) -> None:
    video = PreparedVideo("v", "v", part, 7, 30.0, "", 7, "")  # type: ignore[arg-type]
    assert {split: len(part_of(video, split)) for split in ("train", "test")} == {"train": 0, "test": 0} | {part: 7}
