"""Commands that train, and that publish what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.options import DeviceOption, SkipOption
from bench.progress import line_a_minute, progress_bar

app = typer.Typer()


@app.command()
def train(
    method: Annotated[
        str | None, typer.Argument(help="A trainable method; see `bench trainings`. With --suite: default all of it.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Named configuration; default: the first small one.")] = None,
    suite: Annotated[
        str | None, typer.Option(help="Suite that says data, size and recipes; see `bench suites`.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Data set or folder in place of the recipe's.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="What to replace: model.FIELD=VALUE, data.FIELD= or loop.FIELD=.")
    ] = None,
    start: Annotated[Path | None, typer.Option(help="Weights file of the method to begin from.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of this training; default: out/train/METHOD-RECIPE.")] = None,
    device: DeviceOption = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read ahead.")] = 0,
    skip_unreadable: SkipOption = False,
) -> None:
    """Train a method, or go on from its newest checkpoint. Under torchrun: on all its processes."""
    from bench.train import make_fabric
    from bench.train import train as run
    from bench.training.suite_plans import chosen_plans

    for plan, folder in chosen_plans(suite, method, recipe, set_ or [], data, start, out):
        fabric = make_fabric(plan.loop.precision, device)
        first = fabric.global_rank == 0
        with progress_bar(f"train {plan.method}", "steps", first) as bar:
            done = run(
                plan,
                folder,
                fabric=fabric,
                workers=workers,
                skip_unreadable=skip_unreadable,
                report=bar or line_a_minute(),
                data_progress=bar,
            )
        if first:
            values = ", ".join(f"{name} {value:.4g}" for name, value in done.values.items())
            typer.echo(f"{done.model}{': ' if values else ''}{values}")


@app.command()
def weights(
    source: Annotated[Path, typer.Argument(help="A model.safetensors file of a training.")],
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    card: Annotated[
        bool, typer.Option("--card", help="Write the checkpoint's card, NAME.json, beside the copy.")
    ] = False,
    command: Annotated[str | None, typer.Option(help="That trained them, where the file does not say it.")] = None,
) -> None:
    """Copy trained weights in half precision, for publication: a quarter of the bytes of a checkpoint or less."""
    from bench.checkpoint_card import make_card, write_card
    from methods.weights_file import halved

    typer.echo(f"{target}: {halved(source, target)} numbers")
    if card:
        typer.echo(f"{write_card(make_card(target, command), target.parent)}")


@app.command()
def cards(
    folder: Annotated[Path, typer.Argument(help="Folder of checkpoints with their cards.")] = Path(
        "results/checkpoints"
    ),
) -> None:
    """Print what the trainings of published checkpoints cost: steps, clips, hours, hardware."""
    from bench.checkpoint_table import budgets_markdown

    typer.echo(budgets_markdown(folder))


@app.command()
def trainings(
    suite: Annotated[
        str | None, typer.Option(help="What this suite trains: numbers, steps, clips and operations, counted.")
    ] = None,
) -> None:
    """List the trainable methods and their recipes."""
    from methods.training import TRAININGS

    if suite is not None:
        from bench.training.operations import budgets_of_suite

        typer.echo(budgets_of_suite(suite))
        return
    for name in TRAININGS:
        typer.echo(f"{name}: {TRAININGS.summary(name)}")
        recipes = TRAININGS.get(name).recipes
        width = max(map(len, recipes))
        for recipe, chosen in recipes.items():
            typer.echo(f"  {recipe:<{width}}  {chosen.summary}")
