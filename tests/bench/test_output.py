"""Files that a user asks for at a place that cannot be written: one sentence, and before the work where it can be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import DriftingDiscs

from bench.data.export import export_context
from bench.figures.run import make_figures
from bench.figures.style import panels, save
from bench.heatmap.file import write_heatmaps
from bench.heatmap.scores import write_scores
from bench.output import check_writable, output_path
from bench.protocol import Protocol
from bench.report.page import write_report
from bench.suite import write_table
from bench.suite_file import Suite
from bench.tables import Table
from metrics.errors import DataError, OutputError

PLAIN = Protocol(dataset="discs", size=32, metrics=("psnr",))


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """A place inside a file."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "deep" / "out"


def table() -> Table:
    from bench.evaluate import evaluate
    from bench.store import Store
    from bench.tables import build_table
    from methods.baselines import CopyLastFrame

    return build_table("T", evaluate([CopyLastFrame()], DriftingDiscs(4), PLAIN, Store(Path("store"))))


WRITERS: dict[str, Callable[[Path], object]] = {
    "figure": lambda out: save(panels(1)[0], out),
    "heatmap": lambda out: write_heatmaps(out, torch.rand(3, 8, 8), [], {}),
    "scores of heatmaps": lambda out: write_scores(pd.DataFrame(), "", out),
    "report": lambda out: write_report(out, "<p>"),
    "table": lambda out: write_table(table(), out, "paper/iper"),
    "export": lambda out: export_context(DriftingDiscs(1), PLAIN, out),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_cannot_be_written_is_one_sentence(
    nowhere: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        OutputError, match=r"file/deep/out.* cannot be written \(Not a directory\); choose another place"
    ):
        WRITERS[name](nowhere)


@pytest.mark.parametrize(
    "arguments",
    [
        ["heatmap", "oracle", "--device", "cpu"],
        ["heatmap-scores", "--clips", "2", "--device", "cpu"],
        ["report", "no-such-suite", "--device", "cpu"],
        ["figures", "reference", "--data", "VIDEOS", "--set", "frame_rate=none", "--device", "cpu"],
        ["tables", "reference", "--data", "VIDEOS", "--set", "frame_rate=none"],
    ],
)
def test_commands_say_so_before_they_compute(
    bench: Callable[..., tuple[int, str, str]],
    write_video: Callable[..., Path],
    moving_video: Callable[..., Any],
    nowhere: Path,
    tmp_path: Path,
    arguments: list[str],
) -> None:
    """Each of them would fail otherwise for another reason, or take long."""
    write_video(tmp_path / "videos" / "a.mkv", moving_video(12, 64, 64))
    given = [str(tmp_path / "videos") if one == "VIDEOS" else one for one in arguments]
    status, out, err = bench(*given, "--out", nowhere)
    assert (status, out) == (1, "")
    assert err.startswith(f"error: {nowhere}")
    assert "cannot be written (Not a directory); choose another place" in err
    assert err.count("\n") == 1


def test_figures_that_cannot_be_written_are_not_merely_left_out(tmp_path: Path) -> None:
    suite = Suite(name="discs", title="Discs", protocol=PLAIN, methods=("copy-last-frame",))
    (tmp_path / "strips-copy-last-frame.png").mkdir()
    with pytest.raises(OutputError, match=r"strips-copy-last-frame.png cannot be written \(Is a directory\)"):
        make_figures(suite, DriftingDiscs(4), tmp_path, tmp_path)


def test_the_check_leaves_nothing_and_other_errors_pass(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b" / "c.md")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError, match=r"cannot be written \(it is a folder\)"):
        check_writable(tmp_path)
    with pytest.raises(DataError), output_path(tmp_path / "c.md"):
        raise DataError("no clip")
    assert list(tmp_path.iterdir()) == []
