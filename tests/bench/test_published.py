"""The paper's numbers, as they are printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.published import TITLES, published, published_grid, published_markdown
from metrics.errors import RecordError


def test_the_tables_have_the_papers_shape() -> None:
    counts = {table: sum(one.table == table for one in published()) for table in TITLES}
    assert counts == {1: 4 * 4, 2: 2 * 4 * 4, 3: 4 * 2 * 3}


def test_what_two_tables_print_of_one_thing_is_one_number() -> None:
    for dataset in ("PokingPlants", "iPER"):
        first, third = (
            [
                one.value
                for one in published()
                if (one.table, one.dataset, one.method, one.metric) == (table, dataset, "Poking", "FVD")
            ]
            for table in (1, 3)
        )
        assert first == third


def test_a_table_is_printed_with_directions_and_a_caution() -> None:
    header, rows = published_grid(2)
    assert header[:2] == ["method", "PokingPlants, FVD ↓"]
    assert [row[0] for row in rows] == ["Poking", "Hao et al."]
    text = published_markdown(2)
    assert "| 174.18" in text
    assert "Not comparable" in text


def test_bad_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="the paper has tables 1, 2, 3, found 4"):
        published_grid(4)
    with pytest.raises(RecordError, match="restore the file"):
        published(tmp_path / "none.csv")
    (tmp_path / "odd.csv").write_text("table,dataset,method,metric,value\n1,iPER,Poking,FVD,-3\n")
    with pytest.raises(RecordError, match="not positive"):
        published(tmp_path / "odd.csv")
