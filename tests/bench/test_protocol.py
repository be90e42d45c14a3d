import pytest

from bench.pokes import PokeRule
from bench.protocol import Protocol
from bench.suite import open_suite_data, parse_overrides
from bench.suite_file import load_suite, suite_names
from bench.tracks import TrackRule
from bench.training.feed import TrainingData
from bench.training.plan import DataPlan
from metrics.base import METRICS
from metrics.errors import ProtocolError, RegistryError


def test_every_field_changes_the_hash():
    base = Protocol(dataset="a")
    changed = {
        "dataset": "b", "size": 128, "context": 1, "horizon": 12, "frame_rate": 5.0, "clips": 3, "clips_per_source": 2,
        "samples": 4, "quantise": "round", "metrics": ("psnr",), "mode": "fast", "min_clips": 20, "seed": 1,
        "poke": PokeRule(), "tracks": TrackRule(), "flow": "farneback", "tracker": "dis", "anchored": True,
    }  # fmt: skip
    assert set(changed) == set(Protocol.model_fields)
    hashes = {base.hash, *(base.model_copy(update={key: value}).hash for key, value in changed.items())}
    assert len(hashes) == len(changed) + 1


def test_the_hash_is_the_same_in_another_order_and_process():
    assert Protocol(dataset="a", size=64, seed=2).hash == Protocol(seed=2, size=64, dataset="a").hash
    assert Protocol(dataset="a", metrics=("psnr",)).hash == "4cf0520c8099"


def test_a_metric_version_changes_the_hash(monkeypatch):
    from dataclasses import replace

    before = Protocol(dataset="a", metrics=("psnr",)).hash
    metric = METRICS.get("psnr")
    monkeypatch.setattr(metric, "card", replace(metric.card, version=metric.card.version + 1))
    assert Protocol(dataset="a", metrics=("psnr",)).hash != before


def test_an_unknown_metric_is_refused_with_near_matches():
    with pytest.raises(RegistryError, match="did you mean 'psnr'"):
        Protocol(dataset="a", metrics=("psnrr",))


@pytest.mark.parametrize(
    ("pair", "expected"),
    [("size=128", {"size": 128}), ("quantise=round", {"quantise": "round"}), ("frame_rate=none", {"frame_rate": None}),
     ('metrics=["psnr"]', {"metrics": ["psnr"]}), ("quantise=none", {"quantise": "none"})],
)  # fmt: skip
def test_overrides(pair, expected):
    assert parse_overrides([pair]) == expected


@pytest.mark.parametrize("pair", ["size", "sizes=3", ""])
def test_bad_overrides(pair):
    with pytest.raises(ProtocolError, match="FIELD=VALUE"):
        parse_overrides([pair])


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_is_valid(name):
    from methods.registry import build_method

    suite = load_suite(name)
    assert suite.methods
    for spec in suite.methods:
        if "=out/train/" not in spec:  # what a suite trains is there once it is trained
            assert build_method(spec).card.title


def test_an_unknown_suite_lists_what_there_is():
    with pytest.raises(ProtocolError, match="reference"):
        load_suite("referense")


def test_a_broken_suite_file_is_refused(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("title = ")
    with pytest.raises(ProtocolError, match="not valid TOML"):
        load_suite(str(file))
    file.write_text('title = "t"\nmethods = ["copy-last-frame"]\n[protocol]\ndataset = "x"\nsize = 3\nwidth = 4\n')
    with pytest.raises(ProtocolError, match=r"protocol\.size.*protocol\.width"):
        load_suite(str(file))


def test_a_suite_upon_a_built_in_one_finds_its_weights_from_anywhere(tmp_path, monkeypatch):
    file = tmp_path / "mine.toml"
    file.write_text('base = "table1"\n[protocol]\nclips = 4\n')
    monkeypatch.chdir(tmp_path)
    assert load_suite("mine.toml").methods == load_suite("table1").methods
    assert load_suite("mine.toml").training == load_suite("table1").training
    own = 'methods = ["savp:checkpoint=results/checkpoints/mine.safetensors"]'
    file.write_text(f'base = "table1"\n{own}\n[protocol]\nclips = 4\n')
    assert load_suite("mine.toml").methods == ("savp:checkpoint=results/checkpoints/mine.safetensors",)


def test_several_pokes_a_clip_are_refused():
    with pytest.raises(ValueError, match="one poke a clip, found count = 2"):
        Protocol(dataset="discs", poke={"count": 2})


def test_a_folder_in_place_of_the_data_is_named_without_its_path(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr("bench.suite.open_dataset", lambda where, **options: seen.update(where=where, **options))
    folder = tmp_path / "my clips"
    folder.mkdir()
    suite, _ = open_suite_data("reference", str(folder), ["copy-last-frame"], ["size=32"])
    assert suite.protocol.dataset == "folder:my clips"
    assert suite.methods == ("copy-last-frame",)
    assert seen["where"] == str(folder)
    assert (seen["size"], seen["length"]) == (32, 12)


def test_validation_takes_the_clips_that_trainings_hold_out(monkeypatch):
    plans = []

    def opened(plan, progress, skip_unreadable):
        plans.append(plan)
        return TrainingData("learned from", "held out")

    monkeypatch.setattr("bench.suite.open_training_data", opened)
    pairs = ["size=128", "horizon=9", "seed=3"]
    _, data = open_suite_data("table1", methods=["copy-last-frame"], pairs=pairs, split="validation")
    assert data == "held out"
    assert plans == [DataPlan(dataset="sim-plants", size=128, context=2, horizon=9, seed=3)]


def test_training_and_validation_clips_need_a_training_split(tmp_path):
    with pytest.raises(ProtocolError, match="expected a data set with a training split"):
        open_suite_data("reference", str(tmp_path), split="validation")
    with pytest.raises(ProtocolError, match="found humans-real-mini"):
        open_suite_data("reference-real", split="train")
    with pytest.raises(ProtocolError, match="expected one of test, validation, train, found 'valid'"):
        open_suite_data("table1", split="valid")


@pytest.mark.parametrize(("split", "opened"), [("test", None), ("train", "train")])
def test_other_splits_are_opened_as_the_protocol_says(split, opened, monkeypatch):
    seen = {}
    monkeypatch.setattr("bench.suite.open_dataset", lambda where, **options: seen.update(where=where, **options))
    open_suite_data("table1", pairs=["clips=130", "seed=1"], split=split)
    assert (seen["where"], seen["split"], seen["max_clips"], seen["seed"]) == ("sim-plants", opened, 130, 1)
