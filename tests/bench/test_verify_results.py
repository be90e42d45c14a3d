"""`bench verify FOLDER`: sound results pass, and every kind of fault is found and listed."""

import json
import re
import shutil
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import DriftingDiscs, Unkept
from pydantic import BaseModel
from safetensors.numpy import load_file, save

from bench import cli
from bench.checkpoint_card import load_card, make_card, write_card
from bench.data.interface import DataSource, Status
from bench.data.registry import DATASETS
from bench.evaluate import evaluate
from bench.protocol import Protocol
from bench.store import Store
from bench.suite import write_table
from bench.suite_file import Suite
from bench.tables import build_table
from bench.verify.cells import MOTION_TOLERANCE, TOLERANCE, _by_motion, _compared, largest_difference
from bench.verify.results import Settings, verify_results
from methods.interface import MethodCard
from methods.registry import METHODS, build_method
from methods.weights_file import load_weights, save_weights
from metrics.errors import MethodError, RecordError

PROTOCOL = Protocol(dataset="discs", size=32, horizon=9, metrics=("fvd", "psnr", "ssim"), min_clips=2, samples=2)
SPECS = ("copy-last-frame", "noisy-truth:sigma=0.1")
SUITE = Suite(name="discs", title="Discs", protocol=PROTOCOL, methods=SPECS)
DISCS = DriftingDiscs(clips=6, length=11)


def fake_logits(video, **_):
    """Twelve numbers of a video, in place of the network."""
    weights = torch.linspace(-1, 1, 12 * 300, dtype=torch.float64).reshape(300, 12)
    return (torch.sin(video.double().flatten(1)[:, :300]) @ weights).float()


def source(dataset=DISCS, present=True):
    return DataSource("discs", lambda: Status(present, "ask"), lambda settings, progress: dataset)


def patched(patch):
    """The discs are a registered data set with a suite, and features take no time."""
    patch.setattr(sys.modules["metrics.fvd"], "i3d_logits", fake_logits)  # the package names its function so too
    patch.setattr("bench.evaluation.scoring.ReferenceCache", Unkept)
    patch.setitem(DATASETS._loaded, "discs", source())
    patch.setattr("bench.verify.tables.suite_names", lambda: ["discs"])
    patch.setattr("bench.verify.tables.load_suite", lambda name: SUITE)


@pytest.fixture(autouse=True)
def world(monkeypatch):
    patched(monkeypatch)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A folder of results in which nothing is wrong."""
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patched(patch)
        records = evaluate([build_method(spec) for spec in SPECS], DISCS, PROTOCOL, Store(folder / "records"))
    write_table(build_table(SUITE.title, records), folder / "tables", "discs")
    return folder


@pytest.fixture
def results(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "results")


def faults(folder, **settings):
    return [line for line, passed in verify_results(folder, Settings(**{"cells": 0, **settings})) if not passed]


def record_of(results, method):
    [path] = (results / "records").glob(f"*/{method}*/record.json")
    return path


def edit(path, change):
    content = json.loads(path.read_text())
    content.pop("checksum", None)  # as of a record that states none: what is wrong with it is to be found all the same
    change(content)
    path.write_text(json.dumps(content))


def rewritten(results, method, change):
    """Changes the arrays of a record and makes its checksum right again."""
    path = record_of(results, method)
    [rows] = path.parent.glob("rows-*")
    arrays = load_file(rows)
    change(arrays)
    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    digest = sha256(content).hexdigest()
    rows.unlink()
    file = path.parent / f"rows-{digest[:12]}.safetensors"
    file.write_bytes(content)
    edit(path, lambda c: c.update(arrays={"file": file.name, "sha256": digest}))


def test_sound_results_have_no_fault_and_every_cell_can_be_computed_again(results):
    found = list(verify_results(results, Settings(cells=6, clips=4)))
    lines = [line for line, _ in found]
    assert all(passed for _, passed in found), lines
    assert lines[0] == "ok   records: 2 records: checksums, schema, rows; 2 of 2 set values from their features"
    columns = 2 + 2 * 2  # FVD and its bias-corrected value; PSNR and SSIM, best and mean of 2
    assert lines[1] == f"ok   tables: 1 tables, {2 * columns} cells as their records give them"
    again = [line for line in lines if "compared" in line]
    assert len(again) == 6
    assert sum("frame/psnr [4, 1, 9]" in line for line in again) == 1  # copy-last-frame
    assert sum("frame/psnr [4, 2, 9]" in line for line in again) == 1  # noisy-truth
    assert sum("features/i3d/pred [4, 12]" in line for line in again) == 2
    assert all("tolerance 1e-05 relative, largest difference" in line for line in again)


def test_the_seed_decides_which_cells(results):
    def drawn(seed):
        return [line for line, _ in verify_results(results, Settings(cells=1, seed=seed, clips=2))][-1]

    assert drawn(3) == drawn(3)
    assert len({drawn(seed) for seed in range(6)}) > 1


def test_a_changed_row_is_found_by_its_checksum_and_the_table_that_needs_it(results):
    path = record_of(results, "copy-last-frame")
    [rows] = path.parent.glob("rows-*")
    content = bytearray(rows.read_bytes())
    content[-1] ^= 1
    rows.write_bytes(content)
    found = faults(results)
    assert len(found) == 2
    assert "expected sha256" in found[0]
    assert "no records of the suite's protocol" in found[1]


def test_better_rows_under_a_right_checksum_are_found_by_the_table_and_by_recomputing(results):
    def better(arrays):
        arrays["frame/psnr"] += 1

    rewritten(results, "copy-last-frame", better)
    found = faults(results, cells=6, clips=3)
    assert any("discs.csv: Copy last frame / psnr" in line and "value: the table has" in line for line in found)
    assert any("discs.md: 1 of" in line and "lines differ" in line for line in found)
    [again] = [line for line in found if "compared" in line]
    assert "Copy last frame / PSNR" in again


def test_features_that_do_not_give_the_stated_value_are_found(results):
    def moved(arrays):
        arrays["features/i3d/pred"][:, 0] += 1

    rewritten(results, "copy-last-frame", moved)
    found = faults(results)
    assert any("fvd: the record states value" in line and "its features give" in line for line in found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("frame/ssim"), "ssim: the rows frame/ssim are missing"),
        (lambda a: a.pop("features/i3d/pred"), "fvd: the features features/i3d/pred are missing"),
        (
            lambda a: a.update({"frame/psnr": a["frame/psnr"][..., :4]}),
            r"float64 rows \[6, 1, 9\], found .*\[6, 1, 4\]",
        ),
        (lambda a: a.update({"frame/psnr": a["frame/psnr"][:3]}), r"frame/psnr: expected 6 rows.*found \[3, 1, 9\]"),
        (lambda a: a.update({"frame/ssim": a["frame/ssim"] * np.nan}), "ssim: 54 rows are not numbers"),
    ],
)
def test_rows_that_do_not_fit_the_record_are_found(results, change, message):
    rewritten(results, "copy-last-frame", change)
    shutil.rmtree(results / "tables")
    assert any(re.search(message, line) for line in faults(results)), faults(results)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(schema_version=99), "schema version 99 is newer than 2"),
        (lambda c: c.update(samples="many"), "not a valid record"),
        (lambda c: c.update(samples=2), "samples: expected 1, found 2"),
        (lambda c: c.update(protocol_hash="0" * 12), "protocol hash: expected"),
        (lambda c: c["provenance"].update(seed=4), "seed: the protocol has 0, the provenance 4"),
        (lambda c: c["clip_ids"].reverse(), "clip ids: expected each once, in order"),
        (lambda c: c["sources"].pop(), "sources: expected 6, one a clip, found 5"),
        (lambda c: c["metrics"].pop("ssim"), "metrics: expected fvd, psnr, ssim, found fvd, psnr"),
        (lambda c: c["set_results"].pop("fvd"), "fvd: there is neither a value nor a reason"),
        (lambda c: c["set_results"]["fvd"].update(value=1.0), "fvd: the record states value 1.0"),
        (lambda c: c["method"].update(revision="2"), "and belongs in .*copy-last-frame-r2"),
    ],
)
def test_what_does_not_agree_within_a_record_is_found(results, change, message):
    edit(record_of(results, "copy-last-frame"), change)
    shutil.rmtree(results / "tables")
    assert any(re.search(message, line) for line in faults(results)), faults(results)


def test_strange_files_and_folders_are_found(results):
    path = record_of(results, "copy-last-frame")
    (path.parent / "rows-old.safetensors").write_bytes(b"x")
    (path.parent.parent / "empty").mkdir()
    found = faults(results)
    assert any("rows-old.safetensors belongs to no record" in line for line in found)
    assert any("empty: there is no record.json" in line for line in found)


# Tables


def test_a_changed_cell_is_found_and_named(results):
    path = results / "tables" / "discs.csv"
    table = pd.read_csv(path)
    row = table.index[table.metric == "ssim"][0]
    value = float(table.loc[row, "value"])
    table.loc[row, "value"] = 0.999
    table.to_csv(path, index=False)
    [fault] = faults(results)
    assert fault.startswith("FAIL tables/discs.csv: Copy last frame / ssim")
    assert f"value: the table has 0.999, its records give {value!r}" in fault


def test_a_changed_digit_of_the_markdown_is_found(results):
    path = results / "tables" / "discs.md"
    lines = path.read_text().splitlines(keepends=True)
    number = next(n for n, line in enumerate(lines) if line.startswith("| Copy"))
    lines[number] = lines[number].replace("0.", "1.", 1)
    path.write_text("".join(lines))
    [fault] = faults(results)
    assert f"discs.md: 1 of {len(lines)} lines differ from what its records give; line {number + 1} is" in fault


@pytest.mark.parametrize("column", ["value", "reduction", "standard_error"])
def test_a_missing_column_is_found(results, column):
    path = results / "tables" / "discs.csv"
    pd.read_csv(path).drop(columns=column).to_csv(path, index=False)
    assert faults(results) == [f"FAIL tables/discs.csv: the column {column} is missing; write it again"]


def test_missing_and_added_cells_are_found(results):
    path = results / "tables" / "discs.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], lines[-1].replace(",ssim,", ",lpips,")]) + "\n")
    found = faults(results)
    assert any("/ ssim" in line and "the table lacks this cell" in line for line in found)
    assert any("/ lpips" in line and "the records have no such cell" in line for line in found)


def test_a_row_without_a_record_and_a_table_without_a_suite_are_found(results):
    shutil.rmtree(record_of(results, "noisy-truth").parent)
    for ending in ("md", "csv", "tex"):
        shutil.copy(results / "tables" / f"discs.{ending}", results / "tables" / f"plates.{ending}")
    found = faults(results)
    assert any("have all its rows (Copy last frame, Truth + noise (0.1)); found: Copy last" in line for line in found)
    assert any("there is no suite 'plates'" in line for line in found)
    (results / "tables" / "discs.tex").unlink()
    assert any("discs.tex is missing" in line for line in faults(results))


# Checkpoints


class Config(BaseModel):
    width: int = 3


FACTS = {
    "recipe": "small", "plan": "p", "steps": 12, "steps_before": 0, "seconds": 1.5, "commit": "c0ffee",
    "dataset": "discs", "data": "d" * 64, "batch_size": 2, "precision": "fp32", "seed": 0,
    "hardware": {"device": "cpu"}, "command": "bench train tiny",
}  # fmt: skip


@pytest.fixture
def published(results):
    """Results with a checkpoint and its card."""
    folder = results / "checkpoints"
    folder.mkdir()
    save_weights(folder / "tiny.safetensors", {"a": torch.ones(2, 3), "b": torch.zeros(4)}, "tiny", Config(), FACTS)
    write_card(make_card(folder / "tiny.safetensors"), folder)
    return results


def test_a_card_says_what_is_in_the_file(published):
    card = load_card(published / "checkpoints" / "tiny.json")
    assert (card.parameters, card.stored, card.steps, card.config) == (10, "float32", 12, {"width": 3})
    assert card.command == "bench train tiny"
    assert faults(published) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(sha256="0" * 64), "the card states sha256 0000"),
        (lambda c: c.update(steps=13), "steps: the card states 13, tiny.safetensors holds 12"),
        (lambda c: c.update(parameters=11), "parameters: the card states 11, tiny.safetensors holds 10"),
        (lambda c: c.update(config={}), "config: the card states {}"),
        (lambda c: c.pop("command"), "not a checkpoint's card: command"),
        (lambda c: c.update(file="other.safetensors"), "it names other.safetensors, which is not there"),
        (lambda c: c.update(file="../tiny.safetensors"), "not a checkpoint's card: file"),
        (lambda c: c.update(colour="red"), "not a checkpoint's card: colour"),
    ],
)
def test_a_card_that_does_not_agree_is_found(published, change, message):
    edit(published / "checkpoints" / "tiny.json", change)
    assert any(message in line for line in faults(published)), faults(published)


def test_a_changed_weight_and_a_file_without_a_card_are_found(published):
    folder = published / "checkpoints"
    content = bytearray((folder / "tiny.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "tiny.safetensors").write_bytes(content)
    shutil.copy(folder / "tiny.safetensors", folder / "stray.safetensors")
    found = faults(published)
    assert len(found) == 2
    assert "checkpoints/tiny.json: tiny.safetensors: the card states sha256" in found[0]
    assert "checkpoints/stray.safetensors: no card names it" in found[1]


def test_a_card_needs_what_the_training_wrote_down(tmp_path):
    save_weights(tmp_path / "a.safetensors", {"a": torch.ones(1)}, "tiny", Config(), {"steps": 3})
    with pytest.raises(MethodError, match=r"card cannot be made.*recipe: Field required.*seconds"):
        make_card(tmp_path / "a.safetensors", "bench train tiny")


# Cells


@pytest.mark.parametrize(
    ("name", "change", "passed"),
    [("clip/leakage", 0.01, True), ("clip/leakage", 0.05, False), ("poke/location", 0.01, False)],
)
def test_measured_motion_has_a_tolerance_of_its_own(name, change, passed):
    stored = {"clip/leakage": np.ones((4, 1)), "poke/location": np.ones((4, 2), np.float32)}
    found = {**stored, name: stored[name] + change}
    result = _compared("cell", found, stored, TOLERANCE, MOTION_TOLERANCE)
    assert result.passed == passed
    assert result.difference == pytest.approx(change, rel=1e-4)
    assert "tolerance 1e-05 and 0.02 relative" in result.compared
    assert [_by_motion(metric) for metric in ("leakage", "psnr", "moving_psnr", "dose_slope")] == [1, 0, 0, 1]


def test_what_cannot_be_computed_here_is_said_and_no_fault(results, monkeypatch):
    monkeypatch.setitem(DATASETS._loaded, "discs", source(present=False))
    found = list(verify_results(results, Settings(cells=2)))
    assert all(passed for _, passed in found)
    assert sum("not recomputed, the data discs are not here (ask)" in line for line, _ in found) == 6
    assert found[-1][0] == "--   0 of 2 cells could be recomputed on this machine"


def test_another_revision_of_the_method_is_not_compared(results):
    edit(record_of(results, "copy-last-frame"), lambda c: c["method"].update(revision="0"))
    lines = [line for line, _ in verify_results(results, Settings(cells=6, clips=2))]
    assert sum("the revision of the method is 1 here, and 0 in the record" in line for line in lines) == 3


class Weighted:
    """A method whose prediction is one number of its checkpoint."""

    def __init__(self, checkpoint: Path) -> None:
        file = load_weights(checkpoint, "tiny")
        self.level = float(file.tensors["a"].mean()) / 2
        self.card = MethodCard(name="tiny-small", title="Tiny", revision="1", weights={"model": file.sha256})

    def prepare(self, device):
        pass

    def predict(self, conditioning, samples, seed):
        x0 = conditioning.x0[:, None, None]
        return torch.full_like(x0, self.level).repeat(1, 1, conditioning.horizon, 1, 1, 1)


def test_a_method_with_weights_is_built_from_the_checkpoint_that_has_them(published, monkeypatch):
    monkeypatch.setitem(METHODS._loaded, "tiny", Weighted)
    method = Weighted(published / "checkpoints" / "tiny.safetensors")
    evaluate([method], DISCS, PROTOCOL, Store(published / "records"))
    found = list(verify_results(published, Settings(cells=9, clips=2)))
    assert sum(line.startswith("ok   Tiny / ") and "compared" in line for line, _ in found) == 3
    for path in (published / "checkpoints").iterdir():
        path.unlink()
    lines = [line for line, _ in verify_results(published, Settings(cells=9, clips=2))]
    assert sum("tiny-small cannot be built: no checkpoint here has its weights" in line for line in lines) == 3


def test_of_two_rows_with_one_title_a_suite_has_that_of_its_own_weights(published, monkeypatch):
    monkeypatch.setitem(METHODS._loaded, "tiny", Weighted)
    files = [published / "checkpoints" / f"{name}.safetensors" for name in ("tiny", "other")]
    save_weights(files[1], {"a": torch.zeros(2, 3), "b": torch.zeros(4)}, "tiny", Config(), FACTS)
    write_card(make_card(files[1]), published / "checkpoints")
    store = Store(published / "records")
    [mine], [other] = (evaluate([Weighted(file)], DISCS, PROTOCOL, store) for file in files)
    suite = SUITE.model_copy(update={"methods": (f"tiny:checkpoint={files[0]}",)})
    monkeypatch.setattr("bench.verify.tables.load_suite", lambda name: suite)
    write_table(build_table(suite.title, [mine]), published / "tables", "discs")
    assert not faults(published)  # though the other is newer
    write_table(build_table(suite.title, [other]), published / "tables", "discs")
    assert any(line.startswith("FAIL tables/discs.csv: Tiny / psnr") for line in faults(published))


def test_other_data_under_the_same_name_are_a_fault(results, monkeypatch):
    other = DriftingDiscs(clips=7, length=11)
    monkeypatch.setitem(DATASETS._loaded, "discs", source(other))
    [fault] = faults(results, cells=1)
    assert f"have the content {other.content_hash[:12]} here, and {DISCS.content_hash[:12]} in the record" in fault


def test_a_failure_of_the_method_is_a_fault(results, monkeypatch):
    def broken(self, conditioning, samples, seed):
        raise MethodError("no longer")

    monkeypatch.setattr("methods.baselines.CopyLastFrame.predict", broken)
    found = faults(results, cells=6, clips=2)
    assert len(found) == 3
    assert all("it failed (" in line and "no longer" in line for line in found)


def test_differences_are_relative_to_the_row_or_the_mean_size():
    stored = np.array([[1.0, 3.0, 0.0, 4.0]])
    assert largest_difference(stored + np.array([[0, 0, 1e-3, 0]]), stored, by_row=False) == pytest.approx(1e-3 / 2)
    assert largest_difference(stored + np.array([[0, 0, 0, 1e-3]]), stored, by_row=False) == pytest.approx(1e-3 / 4)
    assert largest_difference(np.array([[3.0, 4.1]]), np.array([[3.0, 4.0]]), by_row=True) == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("found", "stored", "same"),
    [
        ([np.inf, 1], [np.inf, 1], True),
        ([np.nan, 1], [np.nan, 1], True),
        ([5, 1], [np.inf, 1], False),
        ([np.inf, 1], [np.nan, 1], False),
        ([np.nan, 1], [2, 1], False),
        ([np.inf, np.inf], [np.inf, np.inf], True),
    ],
)
def test_what_is_not_a_number_is_compared_as_it_is(found, stored, same):
    difference = largest_difference(np.array(found), np.array(stored), by_row=False)
    assert difference == 0 if same else np.isnan(difference)


@pytest.mark.parametrize(("broken", "status"), [(False, 0), (True, 1)])
def test_the_command_lists_every_fault_and_exits_1(results, monkeypatch, capsys, broken, status):
    if broken:
        edit(record_of(results, "copy-last-frame"), lambda c: c["provenance"].update(seed=4))
        edit(record_of(results, "noisy-truth"), lambda c: c["provenance"].update(seed=5))
    monkeypatch.setattr(sys, "argv", ["bench", "verify", str(results), "--cells", "1", "--clips", "2"])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert (exit_.value.code or 0) == status
    out = capsys.readouterr().out
    assert out.count("FAIL") == 2 * broken
    assert out.splitlines()[-1] == ("2 FAULTS" if broken else "nothing is wrong")
    assert "compared" in out


def test_a_folder_without_results_is_one_clear_error(tmp_path):
    with pytest.raises(RecordError, match="expected a folder with records, tables or checkpoints"):
        list(verify_results(tmp_path))
