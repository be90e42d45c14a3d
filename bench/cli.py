"""The command line: thin commands, no logic."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.progress import clip_bar, data_bar, line_a_minute, progress_bar
from metrics.errors import PokeBenchError

if TYPE_CHECKING:
    from bench.data.interface import DataSet
    from bench.distributed import World
    from bench.suite import Suite

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Benchmark for video prediction."
)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: what is there, and how to get the rest.")
app.add_typer(data_app, name="data")

SuiteArgument = Annotated[str, typer.Argument(help="Name of a suite, or a .toml file of your own.")]
DataOption = Annotated[str | None, typer.Option(help="A data set or folder of videos in place of the suite's.")]
StoreOption = Annotated[Path, typer.Option(help="Folder of result records.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Protocol field to replace: FIELD=VALUE.")]
MethodsOption = Annotated[list[str] | None, typer.Option("--method", help="Methods in place of the suite's.")]

DEFAULT_STORE = Path("out/records")


@app.command()
def evaluate(
    suite: SuiteArgument,
    data: DataOption = None,
    method: MethodsOption = None,
    set_: SetOption = None,
    store: StoreOption = DEFAULT_STORE,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips predicted at once; results do not depend on it.")] = 8,
    device: Annotated[str | None, typer.Option(help='"cpu" or "cuda"; default: a GPU when there is one.')] = None,
    skip_unreadable: Annotated[bool, typer.Option(help="Leave out files that cannot be read, and list them.")] = False,
    fetch: Annotated[bool, typer.Option(help="Download the data set first when it is not there.")] = False,
) -> None:
    """Evaluate the methods of a suite; what is there already is not computed again."""
    from bench.distributed import choose_device, world
    from bench.evaluate import evaluate as run
    from bench.store import Store
    from methods.registry import build_method

    with world() as peers, clip_bar("evaluate", peers.first) as bar:
        chosen, opened = _suite(suite, data, method, set_, skip_unreadable, fetch, peers)
        run(
            [build_method(spec) for spec in chosen.methods],
            opened,
            chosen.protocol,
            Store(store),
            device=choose_device(device),
            batch_size=batch_size,
            world=peers,
            progress=bar,
        )
        if peers.first:
            typer.echo(f"{len(chosen.methods)} records of {suite} on {opened.describe()} in {store}", err=True)


@app.command()
def tables(
    suite: SuiteArgument,
    data: DataOption = None,
    method: MethodsOption = None,
    set_: SetOption = None,
    store: StoreOption = DEFAULT_STORE,
    out: Annotated[Path, typer.Option(help="Folder for the .md, .tex and .csv files.")] = Path("out/tables"),
    skip_unreadable: Annotated[bool, typer.Option(help="As given to `bench evaluate`.")] = False,
) -> None:
    """Print the table of a suite from its records, and write it as markdown, LaTeX and CSV."""
    from bench.suite import suite_table, write_table

    chosen, opened = _suite(suite, data, method, set_, skip_unreadable)
    table = suite_table(chosen, opened, store)
    write_table(table, out, chosen.name)
    typer.echo(table.markdown())
    typer.echo(f"written to {out}/{chosen.name}.md, .tex and .csv", err=True)


@app.command()
def train(
    method: Annotated[str, typer.Argument(help="A trainable method; see `bench trainings`.")],
    recipe: Annotated[str | None, typer.Option(help='Named configuration; default: "small".')] = None,
    data: Annotated[str | None, typer.Option(help="Data set or folder in place of the recipe's.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="What to replace: model.FIELD=VALUE, data.FIELD= or loop.FIELD=.")
    ] = None,
    start: Annotated[Path | None, typer.Option(help="Weights file of the method to begin from.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of this training; default: out/train/METHOD-RECIPE.")] = None,
    device: Annotated[str | None, typer.Option(help='"cpu" or "cuda"; default: a GPU when there is one.')] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read ahead.")] = 0,
) -> None:
    """Train a method, or go on from its newest checkpoint. Under torchrun: on all its processes."""
    from bench.train import make_fabric
    from bench.train import train as run
    from bench.training.plan import make_plan

    plan = make_plan(method, recipe, set_ or [], data, start)
    folder = out or Path("out/train") / f"{method}-{plan.recipe}"
    fabric = make_fabric(plan.loop.precision, device)
    first = fabric.global_rank == 0
    with progress_bar("train", "steps", first) as bar:
        done = run(plan, folder, fabric=fabric, workers=workers, report=bar or line_a_minute(), data_progress=bar)
    if first:
        values = ", ".join(f"{name} {value:.4g}" for name, value in done.values.items())
        typer.echo(f"{done.model}{': ' if values else ''}{values}")


@app.command()
def weights(
    source: Annotated[Path, typer.Argument(help="A model.safetensors file of a training.")],
    target: Annotated[Path, typer.Argument(help="The file to write.")],
) -> None:
    """Copy trained weights in half precision, for publication: a quarter of the bytes of a checkpoint or less."""
    from methods.weights_file import halved

    typer.echo(f"{target}: {halved(source, target)} numbers")


@app.command()
def trainings() -> None:
    """List the trainable methods and their recipes."""
    from methods.training import TRAININGS

    for name in TRAININGS:
        typer.echo(f"{name}: {TRAININGS.summary(name)}")
        recipes = TRAININGS.get(name).recipes
        width = max(map(len, recipes))
        for recipe, chosen in recipes.items():
            typer.echo(f"  {recipe:<{width}}  {chosen.summary}")


@app.command()
def heatmap(
    method: Annotated[str, typer.Argument(help="A method that takes pokes, as NAME or NAME:option=value.")],
    image: Annotated[str, typer.Argument(help="A square PNG or JPEG file, or DATASET:CLIP.")],
    at: Annotated[list[str], typer.Option(help="A place to poke, as x,y in px; give several for several maps.")],
    out: Annotated[Path, typer.Option(help="The figure, without its ending.")] = Path("out/heatmap"),
    form: Annotated[list[str] | None, typer.Option(help="paper, wrapped, complex; default: all.")] = None,
    beside: Annotated[list[str] | None, typer.Option(help="Further methods, such as oracle, one row each.")] = None,
    size: Annotated[int | None, typer.Option(min=16, help="Resize the image file to this side, px.")] = None,
    pokes: Annotated[int, typer.Option(min=2, help="Pokes at each place.")] = 100,
    lengths: Annotated[str, typer.Option(help="random, or fixed.")] = "random",
    longest: Annotated[float | None, typer.Option(help="Longest poke, px; default: a fifth of the side.")] = None,
    shared_scale: Annotated[bool, typer.Option(help="One scale for all places.")] = False,
    insets: Annotated[bool, typer.Option(help="Enlarge what is around each place.")] = False,
    device: Annotated[str | None, typer.Option(help='"cpu" or "cuda".')] = None,
) -> None:
    """Draw motion-correlation heatmaps: what follows when a place is pulled. Writes .png, .pdf and .npz."""
    from bench.distributed import choose_device
    from bench.heatmap_run import run_heatmap

    for line in run_heatmap(
        [method, *(beside or [])],
        image,
        at,
        out,
        forms=form,
        size=size,
        pokes=pokes,
        lengths=lengths,
        longest=longest,
        shared_scale=shared_scale,
        insets=insets,
        device=choose_device(device),
    ):
        typer.echo(line)


@app.command()
def methods() -> None:
    """List the methods."""
    from methods.registry import METHODS

    _list({name: METHODS.summary(name) for name in METHODS})


@app.command()
def metrics() -> None:
    """List the metrics and their conventions."""
    from metrics.base import METRICS

    _list({name: METRICS.summary(name) for name in METRICS})


@app.command()
def datasets() -> None:
    """List the data sets."""
    from bench.data.registry import DATASETS

    _list({name: f"{DATASETS.summary(name)}; {DATASETS.get(name).status().detail}" for name in DATASETS})


@app.command()
def verify(
    module: Annotated[
        Path | None, typer.Option(help="Folder of the TF-Hub I3D module; adds the comparison with the original graph.")
    ] = None,
    quick: Annotated[bool, typer.Option(help="Leave out the lengths of clip beyond 16 frames.")] = False,
) -> None:
    """Compare every sanity value with what is measured here; exit 1 if one is outside its budget."""
    from bench.verify import all_checks, run_checks

    passed = True
    for result in run_checks(all_checks(module=module, quick=quick)):
        typer.echo(result.line())
        passed &= result.passed
    typer.echo("all within their budgets" if passed else "NOT all within their budgets")
    if not passed:
        raise typer.Exit(1)


@data_app.command("list")
def data_list() -> None:
    """List the data sets: present, or how to get them."""
    datasets()


@data_app.command("fetch")
def data_fetch(name: Annotated[str, typer.Argument(help="Name of a data set that can be downloaded.")]) -> None:
    """Download a data set into the user cache, checked by hash."""
    from bench.data.registry import fetch_dataset

    with data_bar() as bar:
        typer.echo(f"{name} is in {fetch_dataset(name, bar)}")


@data_app.command("prepare")
def data_prepare(
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


@data_app.command("show")
def data_show(
    name: Annotated[str, typer.Argument(help="A data set, or a folder of videos.")],
    out: Annotated[Path | None, typer.Option(help="The PNG file; default: out/NAME.png.")] = None,
    size: Annotated[int, typer.Option(min=16, help="Side of the frames, px.")] = 64,
    clips: Annotated[int, typer.Option(min=1, help="Number of clips, spread over the data set.")] = 8,
) -> None:
    """Draw a contact sheet: frames, poke, flow, parts."""
    from bench.data.registry import open_dataset
    from bench.data.show import contact_sheet

    path = out or Path("out") / f"{Path(name).name}.png"
    with data_bar() as bar:
        dataset = open_dataset(name, size=size, max_clips=clips, progress=bar)
    contact_sheet(dataset, clips, path)
    typer.echo(f"{dataset.describe()}: {path}")


@data_app.command("flow-error")
def data_flow_error(
    name: Annotated[str, typer.Argument(help="A data set that carries exact flow.")] = "sim-plants",
    size: Annotated[int, typer.Option(min=16, help="Side of the frames, px.")] = 64,
    clips: Annotated[int, typer.Option(min=1, help="Number of clips.")] = 64,
    estimator: Annotated[list[str] | None, typer.Option(help="Estimators; default: all that need no weights.")] = None,
) -> None:
    """Measure the end-point error of the flow estimators against exact flow."""
    from bench.data.registry import open_dataset
    from bench.flow_quality import flow_error_table

    with data_bar() as bar:
        dataset = open_dataset(name, size=size, max_clips=clips, progress=bar)
        table = flow_error_table(dataset, estimator, progress=bar)
    typer.echo(f"{dataset.describe()}\n\n{table.to_markdown(floatfmt='.3f')}")


@data_app.command("track-error")
def data_track_error(
    name: Annotated[str, typer.Argument(help="A simulated set of natural motion.")] = "sim-plants",
    size: Annotated[int, typer.Option(min=16, help="Side of the frames, px.")] = 64,
    clips: Annotated[int, typer.Option(min=1, help="Number of clips.")] = 64,
) -> None:
    """Measure how far followed points are from where they truly are at the last frame."""
    from bench.track_quality import track_error_table

    with data_bar() as bar:
        table = track_error_table(name, size=size, clips=clips, progress=bar)
    typer.echo(f"{clips} clips of {name}, {size} px, 5 points each; error at the last frame, px\n")
    typer.echo(table.to_markdown(floatfmt=".3f"))


@data_app.command("export")
def data_export(
    suite: SuiteArgument,
    out: Annotated[Path, typer.Argument(help="Folder to write to.")],
    data: DataOption = None,
    set_: SetOption = None,
    skip_unreadable: Annotated[bool, typer.Option(help="As given to `bench evaluate`.")] = False,
) -> None:
    """Write the context frames of a suite, one .npz a clip, for a predictor that runs outside."""
    from bench.data.export import export_context

    chosen, opened = _suite(suite, data, None, set_, skip_unreadable)
    count = export_context(opened, chosen.protocol, out)
    typer.echo(f"{count} clips in {out}; predict each, and score with --method predictions:folder=YOURS")


def main() -> None:
    """Runs the program; errors that a user can cause are printed without a traceback."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        app()
    except PokeBenchError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("stopped; run the same command again to go on from here", err=True)
        sys.exit(130)


def _suite(
    name: str,
    data: str | None,
    method: list[str] | None,
    pairs: list[str] | None,
    skip_unreadable: bool,
    fetch: bool = False,
    world: World | None = None,
) -> tuple[Suite, DataSet]:
    from bench.suite import open_suite_data

    with data_bar() as bar:
        return open_suite_data(
            name,
            data,
            method or [],
            pairs or [],
            skip_unreadable=skip_unreadable,
            fetch=fetch,
            world=world,
            progress=bar,
        )


def _list(entries: dict[str, str]) -> None:
    width = max(map(len, entries))
    for name, summary in entries.items():
        typer.echo(f"{name:<{width}}  {summary}")


if __name__ == "__main__":
    main()
