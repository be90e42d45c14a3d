"""The listings of the README are executed as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("*/README.md"))]
LISTINGS = [text for page in PAGES for text in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)]


def listing(first_words):
    [found] = [text for text in LISTINGS if first_words in text]
    return found


def test_the_metrics_listing_runs():
    small = listing("from metrics import").replace("torch.rand(16, 10,", "torch.rand(4, 9,")
    done = subprocess.run([sys.executable, "-c", small], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "SetScore(value=" in done.stdout


def test_the_tutorial_method_can_be_evaluated(tmp_path, monkeypatch):
    from conftest import DriftingDiscs

    from bench.evaluate import evaluate
    from bench.protocol import Protocol
    from bench.store import Store
    from bench.tables import build_table
    from methods.registry import build_method

    file = tmp_path / "my_method.py"
    file.write_text(listing("class FadeToGrey"))
    methods = [build_method(f"{file}:FadeToGrey:speed=0.1"), build_method("copy-last-frame")]
    protocol = Protocol(dataset="discs", size=32, metrics=("psnr", "ssim"))
    records = evaluate(methods, DriftingDiscs(clips=6), protocol, Store(tmp_path / "store"))
    table = build_table("T", records)
    assert [row.title for row in table.rows] == ["Fade to grey", "Copy last frame"]
    values = table.frame().pivot(index="metric", columns="method", values="value")
    assert values.loc["psnr", "Fade to grey"] < values.loc["psnr", "Copy last frame"]
    assert isinstance(table.frame(), pd.DataFrame)


def test_the_tutorial_method_fades_as_it_says(tmp_path):
    from methods.interface import Conditioning
    from methods.registry import build_method

    file = tmp_path / "my_method.py"
    file.write_text(listing("class FadeToGrey"))
    method = build_method(f"{file}:FadeToGrey:speed=0.25")
    method.prepare(torch.device("cpu"))
    pred = method.predict(Conditioning(torch.ones(2, 1, 3, 8, 8), ("a", "b"), 5), 1, 0)
    assert pred.shape == (2, 1, 5, 3, 8, 8)
    assert pred[0, 0, :, 0, 0, 0].tolist() == pytest.approx([0.875, 0.75, 0.625, 0.5, 0.5])


@pytest.mark.parametrize(
    ("content", "spec", "message"),
    [
        (None, "{}:X", "there is no file"),
        ("import no_such_package", "{}:X", "no_such_package"),
        ("class Y: pass", "{}:X", "has no class 'X'"),
        ("class X:\n    pass", "{}:X", "card"),
    ],
)
def test_a_faulty_file_is_one_clear_error(tmp_path, content, spec, message):
    from methods.registry import build_method
    from metrics.errors import MethodError

    file = tmp_path / "mine.py"
    if content is not None:
        file.write_text(content)
    with pytest.raises(MethodError, match=message):
        build_method(spec.format(file))


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`?make ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert named <= targets | {"alone"}
