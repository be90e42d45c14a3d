"""Contact sheets: colours that mean what the legend says, arrows and dots where the poke is."""

from __future__ import annotations

import colorsys
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DriftingDiscs
from PIL import Image

from bench.data.show import GAP, LINE, TILE, contact_sheet, flow_colours, flow_scale, part_colours
from bench.flow.source import FlowSource
from bench.pokes import PokeRule
from methods.interface import Clip, Poke
from metrics.errors import DataError, OutputError


def test_flow_colours_by_colorsys() -> None:
    vectors = [(3.0, 0.0), (0.0, 2.0), (-1.0, 0.0), (0.0, -4.0), (1.0, 1.0), (0.0, 0.0), (40.0, 0.0)]
    flow = torch.tensor(vectors).T[:, None, :]
    found = flow_colours(flow, 4.0)[0]
    for (dx, dy), colour in zip(vectors, found.tolist(), strict=True):
        hue = math.degrees(math.atan2(dy, dx)) % 360 / 360
        expected = colorsys.hsv_to_rgb(hue, 1, min(1.0, math.hypot(dx, dy) / 4) ** 0.5)
        assert np.abs(np.array(colour) / 255 - expected).max() <= 0.5 / 255 + 1e-6
    assert found[5].tolist() == [0, 0, 0]
    assert found[6].tolist() == [255, 0, 0]


def test_the_scale_is_that_of_what_moves() -> None:
    flow = torch.zeros(2, 40, 40)
    flow[0, :4, :4] = 6.0
    assert flow_scale([flow, torch.zeros(2, 40, 40)]) == 6.0
    assert flow_scale([torch.zeros(2, 8, 8)]) == 1.0


def test_parts_have_colours_of_their_own() -> None:
    colours = part_colours(torch.arange(40, dtype=torch.uint8).view(5, 8)).reshape(-1, 3)
    assert colours[0].tolist() == [0, 0, 0]
    assert len({tuple(colour) for colour in colours.tolist()}) == 40


class Poked(DriftingDiscs):
    """Grey clips with a known poke, flow and parts."""

    context = 2

    def load(self, clip_id: str) -> Clip:
        clip = super().load(clip_id)
        flow = torch.zeros(2, self.size, self.size)
        flow[0, 8:12, 8:12] = 12.0
        poke = Poke(torch.tensor([[10.0, 10.0]]), torch.tensor([[12.0, 0.0]]))
        parts = (flow[0] > 0).to(torch.uint8)
        return replace(clip, frames=torch.full_like(clip.frames, 100), flow=flow, parts=parts, poke=poke)


def tile(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    """The picture in a row and a column."""
    top, left = 3 * LINE + row * (TILE + LINE + GAP) + LINE, GAP + column * (TILE + GAP)
    return sheet[top : top + TILE, left : left + TILE]


def test_sheet_of_true_pokes(tmp_path: Path) -> None:
    """32 px at 6 times: the poke goes from (63, 63) to (135, 63) of a tile."""
    path = contact_sheet(Poked(6), 2, tmp_path / "new" / "sheet.png")
    sheet = np.asarray(Image.open(path))
    assert sheet.shape[1] == GAP + 7 * (TILE + GAP)
    red = np.array([255, 0, 0])
    for row in range(2):
        first = tile(sheet, row, 0)
        on = (first == red).all(-1)
        assert on[63, 64:134].all()
        assert not on[63, :58].any()
        assert not on[63, 140:].any()
        assert not on[:50].any()
        for column in range(1, 5):
            ys, xs = np.nonzero((tile(sheet, row, column) == red).all(-1))
            assert abs(xs.mean() - 135) < 1
            assert abs(ys.mean() - 63) < 1
            assert np.ptp(xs) == np.ptp(ys) == 6
        flow = tile(sheet, row, 5)
        assert (flow[48:72, 48:72] == red).all()
        assert not flow[:48].any()
        parts = tile(sheet, row, 6)
        assert parts[48:72, 48:72].any(-1).all()
        assert not parts[72:].any()
        untouched = first[150:]
        assert (untouched == 100).all()


def test_sheet_of_estimated_flow_has_no_parts(tmp_path: Path, own_cache: Path) -> None:
    discs = DriftingDiscs(4)
    path = contact_sheet(discs, 9, tmp_path / "sheet.png")
    sheet = Image.open(path)
    assert sheet.width == GAP + 6 * (TILE + GAP)
    rows = 4
    assert sheet.height > 3 * LINE + rows * (TILE + LINE + GAP)
    again = contact_sheet(
        discs, 9, tmp_path / "again.png", flow=FlowSource(discs, "dis", context=2), rule=PokeRule(), seed=0
    )
    assert again.read_bytes() == path.read_bytes()
    other = contact_sheet(discs, 9, tmp_path / "other.png", seed=1)
    assert other.read_bytes() != path.read_bytes()


def test_faults_are_named(tmp_path: Path, own_cache: Path) -> None:
    with pytest.raises(DataError, match="both must be at least 1"):
        contact_sheet(DriftingDiscs(3), 0, tmp_path / "sheet.png")
    with pytest.raises(DataError, match="both must be at least 1"):
        contact_sheet(DriftingDiscs(0), 2, tmp_path / "sheet.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"sheet.png cannot be written \(Not a directory\); choose another place"):
        contact_sheet(DriftingDiscs(2), 1, tmp_path / "file" / "sheet.png")
