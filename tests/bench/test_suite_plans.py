"""The trainings of suites, and a dry run of each of the paper's on stand-ins of its data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import stand_ins
import torch

from bench.data.registry import prepare_dataset
from bench.evaluate import evaluate
from bench.store import Store
from bench.suite import open_protocol_data
from bench.suite_file import ROOT, load_suite, suite_names
from bench.train import FINAL, make_fabric, train
from bench.training.suite_plans import TRAINED, chosen_plans
from methods.registry import build_method
from metrics.errors import ProtocolError, TrainingError

MAKERS = {
    "poking-plants": partial(stand_ins.plants, frames=80),
    "iper": stand_ins.iper,
    "taichi": stand_ins.taichi,
    "human36m": stand_ins.human36m,
}
PAPER = [name for name in suite_names() if name.startswith("paper/")]
DRY = ("loop.steps=2", "loop.batch_size=2", "loop.validate_every=0", "data.validation_clips=0")
NARROWER = {
    "poking": (
        "model.width=64",
        "model.min_side=32",
        "model.perceptual=vgg16",
        "model.perceptual_layers=1",
        "model.gan_start=0",
    ),
    "ivrnn": ("model.widths=[16, 16, 16, 16, 16, 32]",),
    "hao": ("model.width=4",),
    "savp": ("model.generator_width=6", "model.encoder_width=8"),
    "srvp": ("model.filters=8",),
}
"""What a dry run replaces: widths alone, and weights that come with no package."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], None]]:
    """Prepares the stand-in of a suite's data in a user cache of this module."""
    done = set()

    def prepare(suite: str) -> None:
        protocol = load_suite(suite).protocol
        name, size = protocol.dataset, protocol.size
        if (name, size) not in done:
            prepare_dataset(name, MAKERS[name](tmp_path_factory.mktemp(name)), size=size, workers=1, allow_partial=True)
            done.add((name, size))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POKEBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield prepare


@pytest.mark.parametrize("name", suite_names())
def test_a_suite_evaluates_what_it_trains(name: str) -> None:
    suite = load_suite(name)
    plans = chosen_plans(name) if suite.training else []
    assert len(plans) == sum(len(entry.seeds) for entry in suite.training)
    trained = {f"{plan.method}:checkpoint={folder}/{FINAL}" for plan, folder in plans}
    assert len(trained) == len(plans)
    if name in PAPER:
        assert trained == {spec for spec in suite.methods if f"={TRAINED}/" in spec}
    else:  # it evaluates what is published
        published = {spec.partition("=results")[0].partition(":")[0] for spec in suite.methods}
        assert {entry.method for entry in suite.training} <= published
    assert all(plan.data.dataset == suite.protocol.dataset for plan, _ in plans)


def test_the_papers_tables_are_there() -> None:
    found = {(s.protocol.dataset, s.protocol.size) for s in map(load_suite, PAPER)}
    assert found == {(data, size) for data in ("poking-plants", "iper", "taichi", "human36m") for size in (64, 128)}
    assert all(load_suite(name).protocol.horizon == 10 for name in PAPER)


def test_a_suite_gives_the_data_and_the_user_has_the_last_word() -> None:
    [(plan, folder)] = chosen_plans("paper/iper", "poking", "official", ["loop.steps=7", "data.clips=9"])
    assert folder == Path("out/train/paper/iper/poking-official")
    assert (plan.data.dataset, plan.data.size, plan.model["size"], plan.data.flow) == ("iper", 128, 128, "dis")
    assert (plan.data.poke.foreground, plan.data.poke.background) == ("grabcut", 0.125)
    assert (plan.loop.steps, plan.data.clips) == (7, 9)
    [(other, _)] = chosen_plans("paper/iper", "hao", data="taichi", out=Path("mine"))
    assert other.data.dataset == "taichi"


def test_each_seed_is_a_training_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    entry = '[[training]]\nmethod = "hao"\nrecipe = "small-64"\nseeds = [0, 2]\n'
    file.write_text(f'base = "control"\n{entry}')
    found = chosen_plans(str(file))
    assert [plan.loop.seed for plan, _ in found] == [0, 2]
    assert [folder for _, folder in found] == [TRAINED / "mine/hao-small-64", TRAINED / "mine/hao-small-64-seed2"]
    [(alone, folder)] = chosen_plans(str(file), pairs=["loop.seed=2"])  # one of them, on a machine of its own
    assert (alone, folder) == found[1]
    with pytest.raises(TrainingError, match=r"are 2: hao \(small-64\), hao \(small-64-seed2\)"):
        chosen_plans(str(file), out=tmp_path)
    weights = ROOT / "results/checkpoints/hao-small-64.safetensors"
    file.write_text(f'base = "control"\n{entry}start = "{weights}"')
    assert all(plan.start is not None and plan.start.path == str(weights) for plan, _ in chosen_plans(str(file)))
    file.write_text(f'base = "control"\n{entry.replace("[0, 2]", "[]")}')
    with pytest.raises(ProtocolError, match="seeds"):
        chosen_plans(str(file))


def test_without_a_suite_the_recipe_says_all(tmp_path: Path) -> None:
    [(plan, folder)] = chosen_plans(None, "hao", "small-64", out=tmp_path)
    assert (plan.method, plan.recipe, folder) == ("hao", "small-64", tmp_path)
    assert chosen_plans(None, "hao", "small-64")[0][1] == TRAINED / "hao-small-64"


def test_what_cannot_be_chosen_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"say what to train, one of .*poking"):
        chosen_plans(None)
    with pytest.raises(TrainingError, match=r"does not train savp; it trains: hao \(paper-128\), poking"):
        chosen_plans("paper/iper", "savp")
    with pytest.raises(TrainingError, match="for one training, and these are 3"):
        chosen_plans("paper/iper", "poking", out=tmp_path)
    with pytest.raises(ProtocolError, match="unknown suite"):
        chosen_plans("paper/ipper")


def test_a_suite_stands_on_its_base(tmp_path: Path) -> None:
    base = load_suite("paper/plants-64")
    file = tmp_path / "mine.toml"
    file.write_text('base = "paper/plants-64"\ntitle = "Mine"\n[protocol]\nclips = 20\n')
    mine = load_suite(str(file))
    assert (mine.name, mine.title, mine.training) == ("mine", "Mine", base.training)
    assert mine.protocol == base.protocol.model_copy(update={"clips": 20})
    assert any("out/train/mine/" in spec for spec in mine.methods)
    file.write_text(f'base = "{file}"\n')
    with pytest.raises(ProtocolError, match="is its own base"):
        load_suite(str(file))
    file.write_text("base = 3\n")
    with pytest.raises(ProtocolError, match="expected the name of a suite as base, found 3"):
        load_suite(str(file))


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPER)
def test_a_dry_run_trains_and_evaluates(
    name: str, prepared: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepared(name)
    for entry in load_suite(name).training:
        for plan, folder in chosen_plans(name, entry.method, entry.recipe, (*DRY, *NARROWER[entry.method])):
            done = train(plan, folder, fabric=make_fabric("fp32", "cpu"))
            assert done.model == folder / FINAL
    suite = load_suite(name, {"metrics": ["psnr"], "tracker": None, "clips": 2})
    methods = [build_method(spec) for spec in suite.methods]
    records = evaluate(methods, open_protocol_data(suite.protocol), suite.protocol, Store(tmp_path / "records"))
    assert len(records) == len(suite.methods)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper/plants-64", "paper/plants", "paper/plants-ablation"])
def test_paper_sizes_take_a_step(name: str, prepared: Callable[[str], None], tmp_path: Path) -> None:
    for plan, folder in chosen_plans(name):
        pairs = (
            "loop.steps=1",
            "loop.batch_size=2",
            "loop.validate_every=0",
            "data.validation_clips=0",
            "loop.ema=none",
        )
        pairs += ("model.perceptual=vgg16", "model.gan_start=0") if plan.method == "poking" else ()
        [(short, _)] = chosen_plans(name, plan.method, plan.recipe, pairs)
        train(short, tmp_path / folder, fabric=make_fabric("fp32", "cpu"))
        numbers = build_method(f"{plan.method}:checkpoint={tmp_path / folder / FINAL}").card.parameters
        assert numbers > 5_000_000
    assert torch.is_grad_enabled()
