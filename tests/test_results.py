"""What is committed under results/ must be readable, whole, and agree with itself."""

from pathlib import Path

import pandas as pd
import pytest

from bench.checkpoint_card import load_card
from bench.checkpoint_table import budgets_markdown
from bench.evaluation.prediction import told_apart
from bench.record import MethodFacts
from bench.store import Store
from bench.suite_file import load_suite, suite_names
from bench.training.suite_plans import chosen_plans
from bench.verify.results import Settings, verify_results
from methods.registry import build_method

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
BEHIND = {"table3": ["small", "small-plus-levels-1"]}
"""By suite, the recipes of the poking model with a training that is not ahead of copying; see results/README.md."""


@pytest.fixture(scope="module")
def records():
    return list(Store(RESULTS / "records").records())


def test_records_tables_and_checkpoints_agree_with_each_other():
    lines = list(verify_results(RESULTS, Settings(cells=0)))
    assert lines
    assert not [line for line, sound in lines if not sound]


@pytest.mark.slow
def test_cells_are_computed_again_on_this_machine():
    lines = list(verify_results(RESULTS, Settings(cells=3, clips=8)))
    assert sum("largest difference" in line for line, _ in lines) >= 3
    assert not [line for line, sound in lines if not sound]


@pytest.mark.parametrize("name", [name for name in suite_names() if (RESULTS / "tables" / f"{name}.csv").is_file()])
def test_a_committed_table_has_a_record_for_each_method_of_its_suite(records, name):
    suite = load_suite(name)
    methods = told_apart([build_method(spec) for spec in suite.methods])  # as one evaluation of them all would
    cards = [MethodFacts.of(method.card) for method in methods.values()]
    found = [record.facts.method for record in records if record.facts.protocol == suite.protocol]
    assert all(found.count(card) == 1 for card in cards)
    assert len({card.title for card in cards}) == len(cards)


def test_every_record_is_a_row_of_a_committed_table(records):
    suites = [load_suite(path.stem) for path in (RESULTS / "tables").glob("*.csv")]
    rows = [(suite.protocol, MethodFacts.of(build_method(spec).card)) for suite in suites for spec in suite.methods]
    assert all((record.facts.protocol, record.facts.method) in rows for record in records)


@pytest.mark.parametrize("name", suite_names())
def test_the_checkpoints_that_a_suite_names_are_there(name):
    files = [Path(spec.partition("checkpoint=")[2]) for spec in load_suite(name).methods if "=out/train/" not in spec]
    files = [path for path in files if path.suffix]
    assert all(path.parent == RESULTS / "checkpoints" and path.is_file() for path in files)
    assert all(path.with_suffix(".json").is_file() and path.stat().st_size < 8e6 for path in files)


@pytest.mark.parametrize("name", ["table3", "equal-clips", "equal-compute"])
def test_what_was_trained_to_a_budget_was_trained_as_its_suite_says(name):
    """The last of several stretches may have other rates; their steps count together."""
    files = [Path(spec.partition("checkpoint=")[2]) for spec in load_suite(name).methods if "checkpoint=" in spec]
    cards = [load_card(path.with_suffix(".json")) for path in files]
    plans = [plan for plan, _ in chosen_plans(name)]
    assert len(cards) == len(plans)
    for card, plan in zip(cards, plans, strict=True):
        assert (card.method, card.recipe) == (plan.method, plan.recipe)
        wanted = plan.config()
        found = type(wanted)(**card.config)  # fields that are younger than a card have defaults
        rates = {key for key in card.config if key.startswith(("learning_rate", "rate_"))} if card.steps_before else ()
        assert found.model_copy(update={key: getattr(wanted, key) for key in rates}) == wanted
        assert (card.steps + card.steps_before, card.seed) == (plan.loop.steps, plan.loop.seed)
        assert (card.batch_size, card.precision) == (plan.loop.batch_size, plan.loop.precision)


def test_the_budgets_of_the_checkpoints_are_those_of_their_cards():
    text = (RESULTS / "checkpoints" / "README.md").read_text(encoding="utf-8")
    assert budgets_markdown(RESULTS / "checkpoints") in text


@pytest.mark.parametrize("name", [name for name in suite_names() if (RESULTS / "tables" / f"{name}.csv").is_file()])
def test_each_trained_method_is_ahead_of_copying(name):
    """In FVD and in the moving region, where a table has them."""
    table = pd.read_csv(RESULTS / "tables" / f"{name}.csv")
    values = table[table.reduction.isna()].set_index(["method", "metric"]).value
    titles = [build_method(spec).card.title for spec in load_suite(name).methods if "checkpoint=" in spec]
    metrics = sorted({"fvd", "moving_lpips"} & set(table.metric))
    behind = [t for t in titles if any(values[t, metric] >= values["Copy last frame", metric] for metric in metrics)]
    assert behind == [f"Poking ({recipe})" for recipe in BEHIND.get(name, [])]


def test_every_record_says_where_it_comes_from(records):
    assert records
    for record in records:
        provenance = record.facts.provenance
        assert len(provenance.commits) == 1
        assert not provenance.commits[0].endswith("+changes")
        assert provenance.hardware
        assert provenance.packages["torch"]
        assert provenance.command.startswith("bench evaluate")
