"""Images that a user names: clips of data sets as tables have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import pictures
from bench.data.folder import open_folder
from bench.data.interface import DataSet, Settings
from bench.data.registry import DATASETS, open_dataset
from bench.heatmap.run import _picture
from bench.pictures import CONTEXT, HORIZON
from bench.poke_page.scenes import named_scenes
from bench.suite_file import load_suite, suite_names


@pytest.mark.usefixtures("own_cache")
def test_a_clip_of_a_table_is_found_and_its_x0_is_that_of_the_table(
    tmp_path: Path,
    write_video: Callable[..., Path],
    moving_video: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_video(tmp_path / "videos" / "a.mkv", moving_video(40, 48, 48))
    (tmp_path / "videos" / "broken.mkv").touch()

    def opened(name: str, **settings: Any) -> DataSet:
        return open_folder(tmp_path / "videos", Settings(**settings))

    monkeypatch.setattr(pictures, "open_dataset", opened)
    table = opened("", size=32, length=CONTEXT + HORIZON, skip_unreadable=True)
    assert [ref.clip_id for ref in table.clips()] == ["a.mkv@000000", "a.mkv@000012", "a.mkv@000024"]
    for ref in table.clips():
        frames = table.load(ref.clip_id).frames
        [scene] = named_scenes([f"humans-real-mini:{ref.clip_id}"], 32)
        heatmap = _picture(f"humans-real-mini:{ref.clip_id}", [], 32, [(1.0, 2.0)])
        assert torch.equal(scene.x0, frames[1])
        assert torch.equal(heatmap.x0, frames[1].float() / 255)
        assert not torch.equal(frames[0], frames[1])


def test_x0_of_a_simulated_clip_is_that_to_which_its_poke_refers() -> None:
    name = "sim-pokes-00008-orchid@000"
    clip, x0 = pictures.clip_and_x0("sim-pokes", name, 64)
    alone = open_dataset("sim-pokes", size=64, length=11).load(name)
    assert torch.equal(x0, alone.frames[0])
    assert clip.poke is not None
    assert alone.poke is not None
    assert torch.equal(clip.poke.location, alone.poke.location)
    assert torch.equal(_picture(f"sim-pokes:{name}", [], None, []).x0, x0.float() / 255)


def test_suites_of_videos_cut_their_clips_as_named_clips_are_cut() -> None:
    for name in suite_names():
        protocol = load_suite(name).protocol
        if protocol.dataset in DATASETS and not protocol.dataset.startswith("sim-"):
            found = (protocol.context, protocol.horizon, protocol.frame_rate, protocol.clips_per_source)
            assert found == (CONTEXT, HORIZON, None, None), name
