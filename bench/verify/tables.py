"""Whether committed tables are what their records give: numbers compared cell by cell, texts byte by byte."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.record import LoadedRecord
from bench.suite_file import Suite, load_suite, suite_names
from bench.tables import Table, build_table, told_title
from bench.verify.records import Fault
from methods.registry import build_method
from metrics.errors import MethodError, PokeBenchError, ProtocolError

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = ("value", "low", "high", "standard_error")
NUMBER_TOLERANCE = 1e-9
"""Relative; sums in another order on another machine."""

KEYS = ("method", "metric", "reduction")
ENDINGS = ("csv", "md", "tex")


def table_faults(folder: Path, records: Sequence[LoadedRecord]) -> tuple[list[Fault], int]:
    """What is wrong with the tables of a folder, and how many numbers agreed.

    A table NAME.csv belongs to the suite NAME. Its rows are looked for by their titles among the records of the suite's
    protocol. Of several records with one title that of the weights which the suite names counts; where there is none
    of these, the newest.
    """
    faults, agreed = [], 0
    names = sorted({path.stem for ending in ENDINGS for path in folder.glob(f"*.{ending}")})
    for name in names:
        try:
            found, count = _table_faults(folder, name, records)
        except PokeBenchError as error:
            found, count = [Fault(f"{name}", str(error))], 0
        faults += found
        agreed += count
    return faults, agreed


def _table_faults(folder: Path, name: str, records: Sequence[LoadedRecord]) -> tuple[list[Fault], int]:
    import pandas as pd

    missing = [f"{name}.{ending}" for ending in ENDINGS if not (folder / f"{name}.{ending}").is_file()]
    if missing:
        return [Fault(name, f"{', '.join(missing)} is missing; write all three with `bench tables {name}`")], 0
    if name not in suite_names():
        raise ProtocolError(
            f"there is no suite {name!r} whose table this could be (there are: {', '.join(suite_names())})"
        )
    try:
        committed = pd.read_csv(folder / f"{name}.csv", keep_default_na=True)
    except (ValueError, UnicodeDecodeError) as error:
        return [
            Fault(f"{name}.csv", f"it cannot be read as CSV ({error}); write it again with `bench tables {name}`")
        ], 0
    lacking = [column for column in (*KEYS, *NUMBERS) if column not in committed.columns]
    if lacking:
        return [Fault(f"{name}.csv", f"the column {' and '.join(lacking)} is missing; write it again")], 0
    table = _made_again(load_suite(name), list(dict.fromkeys(committed.method)), records)
    faults = list(_cell_faults(f"{name}.csv", table.frame(), committed))
    agreed = len(table.rows) * len(table.columns) - len({fault.where for fault in faults})
    for ending, text in (("md", table.markdown()), ("tex", table.latex())):
        fault = _text_fault((folder / f"{name}.{ending}").read_text(encoding="utf-8"), text)
        faults += [Fault(f"{name}.{ending}", fault)] if fault else []
    return faults, agreed


def _made_again(suite: Suite, titles: Sequence[str], records: Sequence[LoadedRecord]) -> Table:
    """The table with the rows `titles`.

    Raises:
        ProtocolError: a row has no record under the suite's protocol.
    """
    here = [record for record in records if record.facts.protocol == suite.protocol]
    groups: dict[tuple[str, str], dict[str, list[LoadedRecord]]] = {}
    for record in sorted(here, key=lambda record: record.facts.provenance.finished):
        group = record.facts.protocol_hash, record.facts.data.content_hash
        for title in (record.facts.method.title, told_title(record)):
            groups.setdefault(group, {}).setdefault(title, []).append(record)
    whole = [group for group in groups.values() if set(titles) <= group.keys()]
    if not whole:
        have = "; ".join(", ".join(group) for group in groups.values()) or "none"
        raise ProtocolError(
            f"no records of the suite's protocol {suite.protocol.hash} on one data set have all its rows "
            f"({', '.join(titles)}); found: {have}. Restore them, or write the table again."
        )
    newest = max(whole, key=lambda group: max(group[title][-1].facts.provenance.finished for title in titles))
    doubtful = any(len(newest[title]) > 1 for title in titles)
    named = list(_weights_of(suite)) if doubtful else []
    chosen = [max(newest[title][::-1], key=lambda record: record.facts.method.weights in named) for title in titles]
    return build_table(suite.title, chosen)


def _weights_of(suite: Suite) -> Iterator[dict[str, str]]:
    """The hashes of the weights that a suite names, of each method; but for those that are not on this machine."""
    for spec in suite.methods:
        try:
            yield dict(build_method(spec).card.weights)
        except MethodError:
            continue


def _cell_faults(name: str, expected: pd.DataFrame, found: pd.DataFrame) -> Iterator[Fault]:
    cells, there = _by_cell(expected), _by_cell(found)
    if len(there) != len(found):
        yield Fault(name, "a cell stands in it twice; write it again")
    for key in dict.fromkeys([*cells, *there]):
        where = f"{name}: {' / '.join(part for part in key if part)}"
        if key not in there:
            yield Fault(where, "the table lacks this cell; write it again")
        elif key not in cells:
            yield Fault(where, "the records have no such cell; write the table again")
        else:
            for column in expected.columns:
                mine, theirs = cells[key][column], there[key].get(column, "no such column")
                if not _same(mine, theirs):
                    yield Fault(where, f"{column}: the table has {_shown(theirs)}, its records give {_shown(mine)}")


def _by_cell(frame: pd.DataFrame) -> dict[tuple[str, ...], dict[str, Any]]:
    lines = frame.astype(object).where(frame.notna(), "").to_dict("records")
    return {tuple(str(line[key]) for key in KEYS): {str(key): value for key, value in line.items()} for line in lines}


def _same(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, float) and isinstance(theirs, Real):
        return math.isclose(mine, theirs, rel_tol=NUMBER_TOLERANCE, abs_tol=1e-12)
    return bool(mine == theirs)


def _shown(value: Any) -> str:
    return "nothing" if value == "" else repr(value)


def _text_fault(found: str, expected: str) -> str:
    """How a text differs from what it is to be; "" when it does not."""
    if found == expected:
        return ""
    mine, theirs = expected.splitlines(), found.splitlines()
    longest = max(len(mine), len(theirs))
    lines = [[*part, *[""] * (longest - len(part))] for part in (mine, theirs)]
    different = [number for number, (a, b) in enumerate(zip(*lines, strict=True), 1) if a != b]
    if not different:
        return "it differs from what its records give in its line ends; write it again"
    first = different[0]
    return (
        f"{len(different)} of {longest} lines differ from what its records give; line {first} is "
        f"{lines[1][first - 1]!r}, and ought to be {lines[0][first - 1]!r}"
    )
