"""Commands about methods and metrics."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.commands.options import DeviceOption, SkipOption, print_list
from bench.progress import data_bar

app = typer.Typer()


@app.command()
def check(
    method: Annotated[str, typer.Argument(help="A method, as NAME or FILE.py:CLASS, with :option=value,option=value.")],
    size: Annotated[int | None, typer.Option(min=1, help="Side of the frames, px; default: 64 where admitted.")] = None,
    data: Annotated[str | None, typer.Option(help="For methods that know certain clips: a data set or folder.")] = None,
    skip_unreadable: SkipOption = False,
    device: DeviceOption = None,
) -> None:
    """Check that a method keeps to the contract, on small generated clips; exit 1 if an item failed."""
    from bench.check import run_check
    from bench.distributed import choose_device

    with data_bar() as bar:
        if not run_check(
            method,
            typer.echo,
            device=choose_device(device),
            size=size,
            data=data,
            skip_unreadable=skip_unreadable,
            progress=bar,
        ):
            raise typer.Exit(1)


@app.command()
def methods() -> None:
    """List the methods."""
    from methods.registry import METHODS

    print_list({name: METHODS.summary(name) for name in METHODS})


@app.command()
def metrics(
    name: Annotated[str | None, typer.Argument(help="A metric, to show everything of it; default: list all.")] = None,
) -> None:
    """List the metrics, or show the convention of one, its limits, and the program that it is tested against."""
    from metrics.base import METRICS

    if name is not None:
        typer.echo(METRICS.get(name).card.text())
        return
    print_list({name: METRICS.summary(name) for name in METRICS})
