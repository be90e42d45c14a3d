"""What is committed under results/ must be readable, whole, and agree with itself."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.store import Store
from bench.suite import load_suite
from bench.tables import build_table

RESULTS = Path(__file__).resolve().parents[1] / "results"


@pytest.fixture(scope="module")
def records():
    return list(Store(RESULTS / "records").records())


@pytest.mark.parametrize("name", ["reference", "reference-real"])
def test_committed_tables_are_those_of_the_committed_records(records, name):
    suite = load_suite(name)
    found = [record for record in records if record.facts.protocol == suite.protocol]
    by_name = {record.facts.method.name: record for record in found}
    assert len(by_name) == len(found) == len(suite.methods)
    committed = pd.read_csv(RESULTS / "tables" / f"{name}.csv", keep_default_na=True)
    titles = list(dict.fromkeys(committed.method))
    ordered = sorted(found, key=lambda record: titles.index(record.facts.method.title))
    table = build_table(suite.title, ordered).frame()
    assert list(table.metric) == list(committed.metric)
    for column in ("value", "low", "high", "standard_error"):
        assert np.allclose(table[column], committed[column], rtol=1e-9, equal_nan=True), column


def test_every_record_says_where_it_comes_from(records):
    assert records
    for record in records:
        provenance = record.facts.provenance
        assert len(provenance.commits) == 1
        assert not provenance.commits[0].endswith("+changes")
        assert provenance.hardware
        assert provenance.packages["torch"]
        assert provenance.command.startswith("bench evaluate")
