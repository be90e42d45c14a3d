"""Options that several commands share, and what they make of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.progress import data_bar

if TYPE_CHECKING:
    from bench.data.interface import DataSet
    from bench.distributed import World
    from bench.suite_file import Suite

SuiteArgument = Annotated[str, typer.Argument(help="Name of a suite, or a .toml file of your own.")]
DataOption = Annotated[str | None, typer.Option(help="A data set or folder of videos in place of the suite's.")]
StoreOption = Annotated[Path, typer.Option(help="Folder of result records.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Protocol field to replace: FIELD=VALUE.")]
SkipOption = Annotated[bool, typer.Option(help="Leave out files that cannot be read, and list them.")]
SkipAsEvaluateOption = Annotated[bool, typer.Option(help="As given to `bench evaluate`.")]
SplitOption = Annotated[str, typer.Option(help='"test", "train", or "validation": what trainings hold out of "train".')]
DeviceOption = Annotated[str | None, typer.Option(help='"cpu" or "cuda"; default: a GPU when there is one.')]
MethodsOption = Annotated[list[str] | None, typer.Option("--method", help="Methods in place of the suite's.")]

DEFAULT_STORE = Path("out/records")


def open_suite(
    name: str,
    data: str | None,
    method: list[str] | None,
    pairs: list[str] | None,
    skip_unreadable: bool,
    fetch: bool = False,
    split: str = "test",
    world: World | None = None,
) -> tuple[Suite, DataSet]:
    """A suite with what the user replaces, and its data, opened; see `bench.suite.open_suite_data`."""
    from bench.suite import open_suite_data

    with data_bar() as bar:
        return open_suite_data(
            name,
            data,
            method or [],
            pairs or [],
            skip_unreadable=skip_unreadable,
            fetch=fetch,
            split=split,
            world=world,
            progress=bar,
        )


def print_list(entries: dict[str, str]) -> None:
    """Prints a line for each name and its summary."""
    width = max(map(len, entries))
    for name, summary in entries.items():
        typer.echo(f"{name:<{width}}  {summary}")
