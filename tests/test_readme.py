"""The listings of the README are executed as they stand."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("*/README.md"))]
LISTINGS = [text for page in PAGES for text in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)]


def tables():
    return [text for page in PAGES for text in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)]


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


def test_the_tutorial_training_trains_and_its_weights_are_evaluated(tmp_path, monkeypatch):
    from conftest import DriftingDiscs

    from bench.check import run_check
    from bench.train import make_fabric, train
    from bench.training.feed import TrainingData
    from bench.training.plan import make_plan
    from methods.registry import METHODS
    from methods.training import TRAININGS

    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package/drift.py").write_text(listing("class DriftTraining"))
    monkeypatch.syspath_prepend(tmp_path)
    [declared] = [tomllib.loads(text) for text in tables() if "DriftTraining" in text]
    points = declared["project"]["entry-points"]
    assert points.keys() == {registry.entry_point_group for registry in (METHODS, TRAININGS)}
    for registry in (METHODS, TRAININGS):
        monkeypatch.setattr(registry, "_loaded", dict(registry._loaded))
        [(name, reference)] = points[registry.entry_point_group].items()
        monkeypatch.setitem(registry._references, name, reference)
    pairs = ["data.size=32", "loop.steps=6", "loop.validate_every=3", "loop.accumulate=2"]
    plan = make_plan("drift", pairs=[*pairs, "loop.validation_metrics=['psnr']", "loop.best=psnr"])
    assert plan.recipe == "small"
    data = TrainingData(DriftingDiscs(16, length=11), DriftingDiscs(4, length=11, name="held out"))
    done = train(plan, tmp_path / "out", data=data, fabric=make_fabric("fp32", "cpu"))
    assert done.values["psnr"] > 5
    spec, said = f"drift:checkpoint={done.model}", []
    assert run_check(spec, said.append, device=torch.device("cpu"), size=32), said


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
