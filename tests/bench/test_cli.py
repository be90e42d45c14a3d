import json
import re

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def videos(tmp_path):
    """A folder with three moving textures as frame folders, 48 frames of 40 x 36 px each."""
    import cv2

    folder = tmp_path / "videos"
    for number in range(3):
        (folder / f"clip{number}").mkdir(parents=True)
        texture = np.random.default_rng(number).integers(0, 256, (60, 100, 3)).astype(np.uint8)
        texture = cv2.GaussianBlur(texture, (0, 0), 2)
        for t in range(48):
            frame = texture[5 : 5 + 36, t : t + 40]
            cv2.imwrite(str(folder / f"clip{number}" / f"{t:04d}.png"), frame)
    return folder


OPTIONS = ["--set", "size=32", "--set", 'metrics=["psnr","ssim","lpips_alex"]', "--set", "frame_rate=none"]


def test_evaluate_then_tables_on_a_folder(bench, videos, tmp_path):
    options = ["reference", "--data", videos, "--store", tmp_path / "store", *OPTIONS]
    status, _, err = bench("evaluate", *options)
    assert status == 0, err
    status, out, err = bench("tables", *options, "--out", tmp_path / "tables")
    assert status == 0, err
    assert len(re.findall(r"^\| .*\|$", out, re.MULTILINE)) == 6  # header and five methods
    assert {p.name for p in (tmp_path / "tables").iterdir()} == {"reference.md", "reference.tex", "reference.csv"}
    table = pd.read_csv(tmp_path / "tables" / "reference.csv")
    assert len(table) == 5 * 3
    ssim = table[table.metric == "ssim"].set_index("method").value
    assert ssim["Flow warp"] > ssim["Copy last frame"]


def test_tables_before_evaluate_says_what_to_run(bench, videos, tmp_path):
    status, _, err = bench("tables", "reference", "--data", videos, "--store", tmp_path, *OPTIONS)
    assert status == 1
    assert "run `bench evaluate reference`" in err
    assert "Traceback" not in err


def test_an_empty_folder_is_one_clear_error(bench, tmp_path):
    (tmp_path / "empty").mkdir()
    status, _, err = bench("evaluate", "reference", "--data", tmp_path / "empty", "--store", tmp_path / "store")
    assert status == 1
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_file_that_cannot_be_read_is_left_out_as_its_error_says(bench, videos, tmp_path):
    (videos / "broken.mp4").touch()
    options = ["reference", "--data", videos, "--method", "copy-last-frame", *OPTIONS]
    commands = [
        ["figures", *options, "--kind", "strips", "--out", tmp_path / "figures", "--device", "cpu"],
        ["data", "show", videos, "--size", 32, "--clips", 4, "--out", tmp_path / "sheet.png"],
        ["plan", *options, "--set", "clips=none", "--device", "cpu"],
    ]
    for command in commands:
        status, _, err = bench(*command)
        assert (status, err.count("Traceback")) == (1, 0), command
        assert "or leave them out with --skip-unreadable." in err
        status, _, err = bench(*command, "--skip-unreadable")
        assert status == 0, err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "referense"], "there are: .*reference"),
        (["evaluate", "reference", "--data", "no-such-set"], "unknown data set"),
        (["evaluate", "reference", "--set", "size"], "FIELD=VALUE"),
        (["data", "fetch", "humans"], "did you mean .*'humans-real-mini'"),
    ],
)
def test_bad_arguments_are_one_clear_error(bench, arguments, message):
    status, _, err = bench(*arguments)
    assert status == 1
    assert re.search(message, err)
    assert "Traceback" not in err


def test_an_unknown_method_names_near_matches(bench, videos, tmp_path):
    arguments = ["evaluate", "reference", "--data", videos, "--store", tmp_path, "--method", "flow-wrap", *OPTIONS]
    status, _, err = bench(*arguments)
    assert status == 1
    assert "did you mean 'flow-warp'" in err


@pytest.mark.parametrize(
    ("command", "name"), [("methods", "copy-last-frame"), ("data list", "humans-real-mini"), ("metrics", "fvd")]
)
def test_lists_have_one_line_each(bench, command, name):
    status, out, _ = bench(*command.split())
    assert status == 0
    assert any(line.startswith(name) and len(line) > len(name) + 10 for line in out.splitlines())


def test_a_metric_is_shown_with_its_limits_and_what_it_is_tested_against(bench):
    status, out, _ = bench("metrics", "fvd")
    assert status == 0
    shown = dict(line.split("  ", 1) for line in out.splitlines())
    assert shown["tested against"].strip().startswith("TF-Hub module i3d-kinetics-400/1")
    assert shown["tested against"].endswith("to 1e-5 relative")
    assert shown["better"].strip() == "lower; values in [0, inf)"
    assert shown["at least"].strip() == "frames: 9, clips: 2, side: 1 px"
    status, _, err = bench("metrics", "fvdd")
    assert (status, "did you mean 'fvd'" in err) == (1, True)


def test_export_and_score_predictions_made_outside(bench, videos, tmp_path):
    context = tmp_path / "context"
    status, _, err = bench("data", "export", "reference", context, "--data", videos, *OPTIONS)
    assert status == 0, err
    mine = tmp_path / "mine"
    mine.mkdir()
    for file in context.glob("*.npz"):
        shown = np.load(file)
        assert shown["context"].shape == (2, 32, 32, 3)
        np.savez(mine / file.name, video=np.repeat(shown["context"][-1:], shown["horizon"], axis=0))
    methods = ["--method", f"predictions:folder={mine},title=Mine", "--method", "copy-last-frame"]
    options = ["reference", "--data", videos, "--store", tmp_path / "store", *OPTIONS, *methods]
    assert bench("evaluate", *options)[0] == 0
    status, _, err = bench("tables", *options, "--out", tmp_path / "tables")
    assert status == 0, err
    table = pd.read_csv(tmp_path / "tables" / "reference.csv").pivot(index="metric", columns="method", values="value")
    assert np.allclose(table["Mine"], table["Copy last frame"], atol=1e-6)


def test_records_say_where_they_come_from(bench, videos, tmp_path):
    store = tmp_path / "store"
    bench("evaluate", "reference", "--data", videos, "--store", store, "--method", "copy-last-frame", *OPTIONS)
    [path] = store.glob("*/*/record.json")
    record = json.loads(path.read_text())
    provenance = record["provenance"]
    assert provenance["packages"].keys() >= {"python", "torch", "numpy", "lpips"}
    assert provenance["hardware"][0].keys() >= {"device", "processor", "threads"}
    assert provenance["seed"] == 0
    assert record["protocol"]["dataset"] == "folder:videos"
    assert record["metrics"]["lpips_alex"]["weights"]


def test_train_then_train_again_goes_on(bench, videos, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    from peers.tiny_training import TinyTraining

    from methods.training import TRAININGS

    monkeypatch.setitem(TRAININGS._loaded, "tiny", TinyTraining)
    options = ["--data", videos, "--out", tmp_path / "out", "--device", "cpu", "--set", "data.flow=dis"]
    options += ["--set", "loop.validate_every=0", "--set", "data.validation_clips=2", "--set", "loop.batch_size=2"]
    status, _, err = bench("train", "tiny", *options, "--set", "data.augmentation.hue=[0.0, 0.1]")
    assert status == 0, err
    status, out, err = bench("train", "tiny", *options, "--set", "data.augmentation.hue=[0.0, 0.1]")
    assert status == 0, err
    assert out.strip().endswith("out/model.safetensors")
    assert "going on from" in caplog.text
    status, _, err = bench("train", "tiny", *options, "--set", "model.lr=0.5")
    assert status == 1
    assert "holds a training under another plan" in err
    assert "lr: 0.01 there, 0.5 here" in err
    status, _, err = bench("train", "tiny", "--set", "loop.step=3")
    assert (status, err.startswith("error: --set 'loop.step=3'")) == (1, True)


def test_a_training_leaves_out_what_cannot_be_read_only_when_told_to(bench, videos, tmp_path, monkeypatch, caplog):
    from peers.tiny_training import TinyTraining

    from methods.training import TRAININGS

    monkeypatch.setitem(TRAININGS._loaded, "tiny", TinyTraining)
    (videos / "broken.mp4").touch()
    options = ["--data", videos, "--out", tmp_path / "out", "--device", "cpu", "--set", "data.flow=dis"]
    options += ["--set", "loop.validate_every=0", "--set", "data.validation_clips=0", "--set", "loop.batch_size=2"]
    status, _, err = bench("train", "tiny", *options)
    assert (status, "or leave them out with --skip-unreadable." in err) == (1, True)
    status, _, err = bench("train", "tiny", *options, "--skip-unreadable")
    assert status == 0, err
    assert "left out as unreadable: broken.mp4" in caplog.text


def test_trainings_are_listed_with_their_recipes(bench, monkeypatch):
    from peers.tiny_training import TinyTraining

    from methods.training import TRAININGS

    monkeypatch.setitem(TRAININGS._loaded, "tiny", TinyTraining)
    status, out, _ = bench("trainings")
    assert status == 0
    assert re.search(r"tiny: .*\n  small    for tests\n", out)


def test_suites_are_listed_with_what_they_train(bench):
    status, out, _ = bench("suites")
    assert status == 0
    assert "table1: Video prediction, 64 px (sim-plants, 64 px, " in out
    assert re.search(r"paper/iper: .*iper, 128 px, 7 methods\); trains hao \(paper-128\), poking \(official\)", out)


def test_published_numbers_are_printed_with_a_caution(bench):
    status, out, _ = bench("published", 1)
    assert status == 0
    assert "| SAVP     | 136.81" in out
    assert "Not comparable" in out
