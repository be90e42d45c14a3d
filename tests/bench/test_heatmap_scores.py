"""Scores of heatmaps over scenes: rows, means, intervals, and that true physics shows parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import bench.heatmap.scores as module
from bench.data.interface import ClipRef
from bench.data.sim.splits import SPLITS, make_scene
from bench.heatmap.maps import Settings
from bench.heatmap.scores import Study, markdown, score_methods, summary, write_scores
from bench.statistics import mean_interval
from methods.interface import Clip, Poke
from metrics.errors import DataError, MethodError

STUDY = Study(clips=2, places=2, settings=Settings(pokes=4))


class FewScenes:
    """A plant, a poke beside an object, and a person, of sim-pokes."""

    SCENES = (0, 7, 1)

    def __init__(self, name: str, **settings: object) -> None:
        self.name, self.split = name, SPLITS["sim-pokes"]

    def clips(self) -> list[ClipRef]:
        return [ClipRef(self.split.clip_id(scene, 0), self.split.source(scene)) for scene in self.SCENES]

    def load(self, clip_id: str) -> Clip:
        clip = make_scene(self.split, self.split.locate(clip_id)[0], 64)[0]
        assert clip.poke is not None
        poke = Poke(torch.tensor([clip.poke.location]).float(), torch.from_numpy(clip.poke.displacement)[None].float())
        return Clip(
            frames=torch.from_numpy(clip.frames),
            clip_id=clip_id,
            source=clip.source,
            frame_rate=10.0,
            flow=torch.from_numpy(clip.flow),
            parts=None if self.name == "no-parts" else torch.from_numpy(clip.parts),
            poke=poke,
        )


@pytest.fixture(scope="module", autouse=True)
def few_scenes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "open_dataset", FewScenes)
        yield


@pytest.fixture(scope="module")
def scores(few_scenes: None) -> pd.DataFrame:
    return score_methods([], STUDY, torch.device("cpu"))


def test_true_physics_shows_the_parts(scores: pd.DataFrame) -> None:
    assert len(scores) == 2 * 2 * 3
    assert set(scores["method"]) == {"Simulation (oracle)"}
    assert set(scores["flow"]) == {"exact"}
    assert not scores["empty"].any()
    assert scores[scores["form"] == "complex"]["auc"].mean() > 0.7
    assert (scores["auc"] != scores["auc_still"]).any()


def test_means_are_over_scenes(scores: pd.DataFrame, tmp_path: Path) -> None:
    found = summary(scores).set_index("form")
    part = scores[scores["form"] == "complex"]
    means = [part[part["source"] == source]["auc"].mean() for source in part["source"].unique()]
    expected = mean_interval(np.array(means), list(part["source"].unique()))
    assert found.loc["complex", "auc"] == pytest.approx(np.mean(means))
    assert found.loc["complex", "auc low"] == pytest.approx(expected.low, nan_ok=True)
    assert (found["scenes"] == 2).all()
    assert (found["places"] == 4).all()
    text = markdown(summary(scores), STUDY)
    assert text.count("| Simulation (oracle) |") == 3
    assert f"| {np.mean(means):.3f}" in text
    assert "4 pokes at each place" in text
    write_scores(scores, text, tmp_path / "deep" / "scores")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "deep" / "scores.csv"), scores, check_dtype=False)
    assert (tmp_path / "deep" / "scores.md").read_text() == text


def test_undefined_scores_are_left_out_of_the_means(scores: pd.DataFrame) -> None:
    damaged = scores.copy()
    first = damaged["source"] == damaged["source"].iloc[0]
    damaged.loc[first, "auc"] = np.nan
    assert summary(damaged)["auc"].tolist() == pytest.approx(
        damaged[~first].groupby("form", sort=False)["auc"].mean().tolist()
    )


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(MethodError, match="copy-last-frame takes no pokes"):
        score_methods(["copy-last-frame"], STUDY, torch.device("cpu"))
    with pytest.raises(DataError, match="has no parts and true pokes"):
        score_methods([], Study(data="no-parts", clips=2), torch.device("cpu"))
    with pytest.raises(DataError, match="2 clips that are poked on the object, expected 3"):
        score_methods([], Study(clips=3), torch.device("cpu"))
