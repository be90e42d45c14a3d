"""Commands about data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.options import (
    DataOption,
    SetOption,
    SkipAsEvaluateOption,
    SkipOption,
    SuiteArgument,
    open_suite,
    print_list,
)
from bench.progress import data_bar

app = typer.Typer(no_args_is_help=True, help="Data sets: what is there, and how to get the rest.")

SizeOption = Annotated[int, typer.Option(min=16, help="Side of the frames, px.")]
ClipsOption = Annotated[int, typer.Option(min=1, help="Number of clips.")]


@app.command("list")
def list_() -> None:
    """List the data sets: present, or how to get them."""
    from bench.data.registry import DATASETS

    print_list({name: f"{DATASETS.summary(name)}; {DATASETS.get(name).status().detail}" for name in DATASETS})


@app.command("fetch")
def fetch(name: Annotated[str, typer.Argument(help="Name of a data set that can be downloaded.")]) -> None:
    """Download a data set into the user cache, checked by hash."""
    from bench.data.registry import fetch_dataset

    with data_bar() as bar:
        typer.echo(f"{name} is in {fetch_dataset(name, bar)}")


@app.command("prepare")
def prepare(
    name: Annotated[str, typer.Argument(help="Name of a data set that is prepared from raw files.")],
    raw: Annotated[Path, typer.Option(help="Folder with the files as their owners hand them out.")],
    size: Annotated[int, typer.Option(min=16, help="Side of the prepared frames, px.")] = 64,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one a core.")] = None,
    allow_partial: Annotated[bool, typer.Option(help="Accept other counts than the published ones.")] = False,
) -> None:
    """Turn raw videos into frames in the user cache; goes on where an interrupted run stopped."""
    from bench.data.manifest import report
    from bench.data.registry import prepare_dataset

    with data_bar() as bar:
        folder = prepare_dataset(name, raw, size=size, workers=workers, allow_partial=allow_partial, progress=bar)
    typer.echo(f"{report(folder)}\n{name} is in {folder}")


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A data set, or a folder of videos.")],
    out: Annotated[Path | None, typer.Option(help="The PNG file; default: out/NAME.png.")] = None,
    size: SizeOption = 64,
    clips: Annotated[int, typer.Option(min=1, help="Number of clips, spread over the data set.")] = 8,
    skip_unreadable: SkipOption = False,
) -> None:
    """Draw a contact sheet: frames, poke, flow, parts."""
    from bench.data.registry import open_dataset
    from bench.data.show import contact_sheet

    path = out or Path("out") / f"{Path(name).name}.png"
    with data_bar() as bar:
        dataset = open_dataset(name, size=size, max_clips=clips, skip_unreadable=skip_unreadable, progress=bar)
    contact_sheet(dataset, clips, path)
    typer.echo(f"{dataset.describe()}: {path}")


@app.command("flow-error")
def flow_error(
    name: Annotated[str, typer.Argument(help="A data set that carries exact flow.")] = "sim-plants",
    size: SizeOption = 64,
    clips: ClipsOption = 64,
    estimator: Annotated[list[str] | None, typer.Option(help="Estimators; default: all that need no weights.")] = None,
) -> None:
    """Measure the end-point error of the flow estimators against exact flow."""
    from bench.data.registry import open_dataset
    from bench.flow.quality import flow_error_table

    with data_bar() as bar:
        dataset = open_dataset(name, size=size, max_clips=clips, progress=bar)
        table = flow_error_table(dataset, estimator, progress=bar)
    typer.echo(f"{dataset.describe()}\n\n{table.to_markdown(floatfmt='.3f')}")


@app.command("track-error")
def track_error(
    name: Annotated[str, typer.Argument(help="A simulated set of natural motion.")] = "sim-plants",
    size: SizeOption = 64,
    clips: ClipsOption = 64,
) -> None:
    """Measure how far followed points are from where they truly are at the last frame."""
    from bench.track_quality import track_error_table

    with data_bar() as bar:
        table = track_error_table(name, size=size, clips=clips, progress=bar)
    typer.echo(f"{clips} clips of {name}, {size} px, 5 points each; error at the last frame, px\n")
    typer.echo(table.to_markdown(floatfmt=".3f"))


@app.command("export")
def export(
    suite: SuiteArgument,
    out: Annotated[Path, typer.Argument(help="Folder to write to.")],
    data: DataOption = None,
    set_: SetOption = None,
    skip_unreadable: SkipAsEvaluateOption = False,
) -> None:
    """Write the context frames of a suite, one .npz a clip, for a predictor that runs outside."""
    from bench.data.export import export_context

    chosen, opened = open_suite(suite, data, None, set_, skip_unreadable)
    count = export_context(opened, chosen.protocol, out)
    typer.echo(f"{count} clips in {out}; predict each, and score with --method predictions:folder=YOURS")
