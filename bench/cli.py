"""The command line: thin commands, no logic."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.interrupts import interruption
from bench.progress import clip_bar, data_bar, line_a_minute, progress_bar
from metrics.errors import PokeBenchError

if TYPE_CHECKING:
    from bench.data.interface import DataSet
    from bench.distributed import World
    from bench.suite_file import Suite

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Benchmark for video prediction."
)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: what is there, and how to get the rest.")
app.add_typer(data_app, name="data")

SuiteArgument = Annotated[str, typer.Argument(help="Name of a suite, or a .toml file of your own.")]
DataOption = Annotated[str | None, typer.Option(help="A data set or folder of videos in place of the suite's.")]
StoreOption = Annotated[Path, typer.Option(help="Folder of result records.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Protocol field to replace: FIELD=VALUE.")]
SkipOption = Annotated[bool, typer.Option(help="Leave out files that cannot be read, and list them.")]
SkipAsEvaluateOption = Annotated[bool, typer.Option(help="As given to `bench evaluate`.")]
SplitOption = Annotated[str, typer.Option(help='"test", "train", or "validation": what trainings hold out of "train".')]
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
    skip_unreadable: SkipOption = False,
    fetch: Annotated[bool, typer.Option(help="Download the data set first when it is not there.")] = False,
    split: SplitOption = "test",
) -> None:
    """Evaluate the methods of a suite; what is there already is not computed again."""
    from bench.distributed import choose_device, world
    from bench.evaluate import evaluate as run
    from bench.store import Store
    from methods.registry import build_method

    with world() as peers, clip_bar("evaluate", peers.first) as bar:
        chosen, opened = _suite(suite, data, method, set_, skip_unreadable, fetch, split, peers)
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
def plan(
    suite: SuiteArgument,
    data: DataOption = None,
    method: MethodsOption = None,
    set_: SetOption = None,
    gpus: Annotated[int, typer.Option(min=1, help="Processes, each with a GPU (or, on a CPU, cores) of its own.")] = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="As given to `bench evaluate`.")] = 8,
    device: Annotated[str | None, typer.Option(help='"cpu" or "cuda"; default: a GPU when there is one.')] = None,
    clips: Annotated[int | None, typer.Option(min=1, help="Number of clips, where the data are not there yet.")] = None,
    skip_unreadable: SkipAsEvaluateOption = False,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Measure here, on a few generated clips.")] = False,
    store: Annotated[
        list[Path] | None, typer.Option(help="Folders of records whose seconds are used; default: results, out.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Predict hours, memory and disk of a suite; says which figures are measured and which extrapolated."""
    from bench.distributed import choose_device
    from bench.planning.run import make_plan

    with clip_bar("calibrate", calibrate) as bar:
        found = make_plan(
            suite,
            data=data,
            methods=method or [],
            pairs=set_ or [],
            stores=store or [Path("results/records"), DEFAULT_STORE],
            clips=clips,
            skip_unreadable=skip_unreadable,
            processes=gpus,
            device=choose_device(device),
            batch_size=batch_size,
            calibrated=calibrate,
            progress=bar,
        )
    typer.echo(found.json() if json else found.text())


@app.command()
def tables(
    suite: SuiteArgument,
    data: DataOption = None,
    method: MethodsOption = None,
    set_: SetOption = None,
    store: StoreOption = DEFAULT_STORE,
    out: Annotated[Path, typer.Option(help="Folder for the .md, .tex and .csv files.")] = Path("out/tables"),
    skip_unreadable: SkipAsEvaluateOption = False,
    split: SplitOption = "test",
) -> None:
    """Print the table of a suite from its records, and write it as markdown, LaTeX and CSV."""
    from bench.output import check_writable
    from bench.suite import suite_table, write_table

    chosen, opened = _suite(suite, data, method, set_, skip_unreadable, split=split)
    check_writable(out / f"{chosen.name}.md")
    table = suite_table(chosen, opened, store)
    write_table(table, out, chosen.name)
    typer.echo(table.markdown())
    typer.echo(f"written to {out}/{chosen.name}.md, .tex and .csv", err=True)


@app.command()
def trace(
    suite: SuiteArgument,
    row: Annotated[str, typer.Argument(help="Title, name or record folder of a method.")],
    column: Annotated[str, typer.Argument(help='Header of a column, such as "PSNR" or "FVD, bias-corrected".')],
    data: DataOption = None,
    set_: SetOption = None,
    store: StoreOption = Path("results/records"),
    json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Show what one cell of a table was made of: rows, protocol, commit, seeds, hashes, versions, hardware."""
    from bench.suite import chosen_suite
    from bench.trace import trace as run

    found = run(chosen_suite(suite, data, (), set_ or [])[0], row, column, store)
    typer.echo(found.json() if json else found.text())


@app.command()
def audit(
    pred: Annotated[Path, typer.Argument(help="Folder of predictions: NAME.npz, NAME/ with PNG frames, or videos.")],
    target: Annotated[Path, typer.Argument(help="Folder of the true videos, with the same names.")],
    published: Annotated[
        list[str] | None, typer.Option(help="A published number with its digits, METRIC=VALUE, such as fvd=241.5.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Allowed besides its rounding, as a share: 0.01 is 1 %.")
    ] = 0.0,
) -> None:
    """Compute every metric in every published way, and say which of them gives a published number."""
    from bench.audit import run_audit

    with progress_bar("audit", "conventions", True) as bar:
        said = run_audit(pred, target, published or [], tolerance, bar)
    typer.echo(said)


@app.command()
def report(
    suite: Annotated[list[str], typer.Argument(help="Names of suites, or .toml files of your own.")],
    data: DataOption = None,
    method: MethodsOption = None,
    set_: SetOption = None,
    store: StoreOption = DEFAULT_STORE,
    out: Annotated[Path, typer.Option(help="The HTML file.")] = Path("out/report.html"),
    clips_by: Annotated[list[str] | None, typer.Option(help="Metrics by which clips are chosen; default: all.")] = None,
    clips_of: Annotated[str | None, typer.Option(help="Method by whose values clips are ranked; default: all.")] = None,
    heatmap: Annotated[list[Path] | None, typer.Option(help="A .png or .npz of `bench heatmap` to show.")] = None,
    limit_mb: Annotated[float, typer.Option(min=0.1, help="Largest size of the file, in 10^6 bytes.")] = 25.0,
    skip_unreadable: SkipAsEvaluateOption = False,
    device: Annotated[str | None, typer.Option(help='"cpu" or "cuda", to predict the clips shown.')] = None,
) -> None:
    """Write one HTML file from the records of suites: tables, videos, and where each number came from."""
    from bench.distributed import choose_device
    from bench.report.run import run_report

    with data_bar() as bar:
        said = run_report(
            suite,
            data,
            method or [],
            set_ or [],
            store,
            out,
            clips_by=clips_by or [],
            clips_of=clips_of,
            heatmaps=heatmap or [],
            limit_mb=limit_mb,
            skip_unreadable=skip_unreadable,
            device=choose_device(device),
            progress=bar,
        )
    typer.echo(said)


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
    device: Annotated[str | None, typer.Option(help='"cpu" or "cuda"; default: a GPU when there is one.')] = None,
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
def suites() -> None:
    """List the suites: what each evaluates, on what data, and what it trains."""
    from bench.suite_file import load_suite, suite_names

    for name in suite_names():
        suite = load_suite(name)
        shown = f"{suite.protocol.dataset}, {suite.protocol.size} px, {len(suite.methods)} methods"
        trained = ", ".join(f"{entry.method} ({entry.recipe})" for entry in suite.training)
        typer.echo(f"{name}: {suite.title} ({shown}){f'; trains {trained}' if trained else ''}")


@app.command()
def published(
    table: Annotated[list[int] | None, typer.Argument(help="1, 2 or 3; default: all.")] = None,
) -> None:
    """Print the tables of the paper, which are not comparable with what is measured here."""
    from bench.published import TITLES, published_markdown

    typer.echo("\n".join(published_markdown(number) for number in table or TITLES))


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


@app.command()
def heatmap(
    method: Annotated[str, typer.Argument(help="A method that takes pokes, as NAME or NAME:option=value.")],
    image: Annotated[
        str | None, typer.Argument(help="A square PNG or JPEG file, or DATASET:CLIP; default: four simulated scenes.")
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(help="A place to poke, x,y in px of the file as given; several: several maps. Default: chosen."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The figure, without its ending.")] = Path("out/heatmap"),
    form: Annotated[list[str] | None, typer.Option(help="paper, wrapped, complex; default: all.")] = None,
    beside: Annotated[list[str] | None, typer.Option(help="Further methods, such as oracle, one row each.")] = None,
    size: Annotated[int | None, typer.Option(min=16, help="Side of the picture, px; default: the methods'.")] = None,
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

    with clip_bar("heatmap", True) as bar:
        lines = run_heatmap(
            [method, *(beside or [])],
            image,
            at or [],
            out,
            forms=form,
            size=size,
            pokes=pokes,
            lengths=lengths,
            longest=longest,
            shared_scale=shared_scale,
            insets=insets,
            device=choose_device(device),
            progress=bar,
        )
    for line in lines:
        typer.echo(line)


@app.command("heatmap-scores")
def heatmap_scores(
    method: Annotated[list[str] | None, typer.Argument(help="Methods that take pokes; default: true physics.")] = None,
    data: Annotated[str, typer.Option(help="A simulated set of true pokes.")] = "sim-pokes",
    size: Annotated[int, typer.Option(min=16, help="Side of the frames, px.")] = 64,
    clips: Annotated[int, typer.Option(min=2, help="Number of scenes.")] = 24,
    places: Annotated[int, typer.Option(min=1, help="Places in each scene, on different parts.")] = 2,
    pokes: Annotated[int, typer.Option(min=2, help="Pokes at each place.")] = 50,
    out: Annotated[Path, typer.Option(help="The table, without its ending.")] = Path("out/heatmap-scores"),
    device: Annotated[str | None, typer.Option(help='"cpu" or "cuda".')] = None,
) -> None:
    """Measure how well heatmaps show the poked part, over scenes of the simulated world, beside true physics."""
    from bench.distributed import choose_device
    from bench.heatmap import Settings
    from bench.heatmap_scores import Study, markdown, score_methods, summary, write_scores
    from bench.output import check_writable

    check_writable(out.with_name(f"{out.name}.md"))
    study, on = Study(data, size, clips, places, Settings(pokes=pokes)), choose_device(device)
    with clip_bar("heatmap-scores", True) as bar:
        scores = score_methods(method or [], study, on, bar)
    text = markdown(summary(scores), study, on)
    write_scores(scores, text, out)
    typer.echo(f"{text}\n{out}.md and .csv")


@app.command()
def poke(
    method: Annotated[
        list[str] | None, typer.Argument(help="Methods that take pokes, as NAME or NAME:option=value; oracle is added.")
    ] = None,
    image: Annotated[
        list[str] | None, typer.Option(help="A square PNG or JPEG file, or DATASET:CLIP, in place of simulated scenes.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 8008,
    host: Annotated[str, typer.Option(help="Address to serve on; others than this machine's own are open to all.")] = (
        "127.0.0.1"
    ),
    size: Annotated[int | None, typer.Option(min=16, help="Side of the frames, px; default: the methods'.")] = None,
    device: Annotated[str | None, typer.Option(help='"cpu" or "cuda"; default: a GPU when there is one.')] = None,
) -> None:
    """Serve a local page on which pictures are poked by hand and methods answer."""
    from bench.distributed import choose_device
    from bench.poke_page.server import serve
    from bench.poke_page.session import open_session

    with data_bar() as bar:
        session = open_session(method or [], image or [], size=size, device=choose_device(device), progress=bar)
    serve(session, host, port, lambda line: typer.echo(line, err=True))


@app.command()
def figures(
    suite: SuiteArgument,
    kind: Annotated[
        list[str] | None, typer.Option(help="time, fvd, best-of-k, dose, strips, training; default: all that suit.")
    ] = None,
    train: Annotated[list[Path] | None, typer.Option(help="Folder of a training; several: in one figure.")] = None,
    data: DataOption = None,
    method: MethodsOption = None,
    set_: SetOption = None,
    store: StoreOption = DEFAULT_STORE,
    out: Annotated[Path, typer.Option(help="Folder for the .png and .pdf files.")] = Path("out/figures"),
    clips: Annotated[int, typer.Option(min=2, help="Clips that are poked again for dose responses.")] = 16,
    skip_unreadable: SkipAsEvaluateOption = False,
    device: Annotated[str | None, typer.Option(help='"cpu" or "cuda".')] = None,
) -> None:
    """Draw the figures of a suite: from its records, and strips and dose responses, for which methods predict again."""
    from bench.distributed import choose_device
    from bench.figures.run import make_figures

    chosen, opened = _suite(suite, data, method, set_, skip_unreadable)
    for line in make_figures(
        chosen,
        opened,
        store,
        out,
        kinds=kind or [],
        trainings=train or [],
        clips=clips,
        device=choose_device(device),
    ):
        typer.echo(line)


@app.command()
def check(
    method: Annotated[str, typer.Argument(help="A method, as NAME or FILE.py:CLASS, with :option=value,option=value.")],
    size: Annotated[int | None, typer.Option(min=1, help="Side of the frames, px; default: 64 where admitted.")] = None,
    data: Annotated[str | None, typer.Option(help="For methods that know certain clips: a data set or folder.")] = None,
    skip_unreadable: SkipOption = False,
    device: Annotated[str | None, typer.Option(help='"cpu" or "cuda"; default: a GPU when there is one.')] = None,
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

    _list({name: METHODS.summary(name) for name in METHODS})


@app.command()
def metrics(
    name: Annotated[str | None, typer.Argument(help="A metric, to show everything of it; default: list all.")] = None,
) -> None:
    """List the metrics, or show the convention of one, its limits, and the program that it is tested against."""
    from metrics.base import METRICS

    if name is not None:
        typer.echo(METRICS.get(name).card.text())
        return
    _list({name: METRICS.summary(name) for name in METRICS})


@app.command()
def datasets() -> None:
    """List the data sets."""
    from bench.data.registry import DATASETS

    _list({name: f"{DATASETS.summary(name)}; {DATASETS.get(name).status().detail}" for name in DATASETS})


@app.command()
def verify(
    results: Annotated[
        Path | None, typer.Argument(help="Folder of stored results to verify; none: the sanity values.")
    ] = None,
    module: Annotated[
        Path | None, typer.Option(help="Folder of the TF-Hub I3D module; adds the comparison with the original graph.")
    ] = None,
    quick: Annotated[bool, typer.Option(help="Leave out the lengths of clip beyond 16 frames.")] = False,
    cells: Annotated[int, typer.Option(min=0, help="Of stored results: cells computed again.")] = 1,
    clips: Annotated[int, typer.Option(min=1, help="Most clips of each of these cells.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="By which cells and clips are drawn.")] = 0,
    tolerance: Annotated[float, typer.Option(min=0, help="Largest relative difference of a row.")] = 1e-5,
    device: Annotated[
        str | None, typer.Option(help='"cpu" or "cuda", to compute cells again; default: as the record.')
    ] = None,
) -> None:
    """Compare every sanity value, or every stored result, with what is found here; exit 1 if something is wrong."""
    from bench.distributed import choose_device
    from bench.verify import sanity_lines
    from bench.verify_results import Settings, verify_results

    faults = 0
    with data_bar() as bar:
        if results is None:
            lines = sanity_lines(module, quick)
        else:
            where = None if device is None else choose_device(device)
            lines = verify_results(results, Settings(cells, seed, clips, tolerance, where), bar)
        for line, sound in lines:
            typer.echo(line)
            faults += not sound
    typer.echo("nothing is wrong" if not faults else f"{faults} FAULTS")
    if faults:
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
    skip_unreadable: SkipAsEvaluateOption = False,
) -> None:
    """Write the context frames of a suite, one .npz a clip, for a predictor that runs outside."""
    from bench.data.export import export_context

    chosen, opened = _suite(suite, data, None, set_, skip_unreadable)
    count = export_context(opened, chosen.protocol, out)
    typer.echo(f"{count} clips in {out}; predict each, and score with --method predictions:folder=YOURS")


def main() -> None:
    """Runs the program; errors that a user can cause are printed without a traceback, interruptions with the cure."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        app()
    except PokeBenchError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except (KeyboardInterrupt, SystemExit) as end:
        stop = interruption(end)  # which typer turns into an exit
        if stop is None:
            raise
        said = f"stopped: {stop}, and kept; go on from here with" if str(stop) else "stopped; run it again with"
        typer.echo(f"{said}: {shlex.join(['bench', *sys.argv[1:]])}", err=True)
        sys.exit(130)


def _suite(
    name: str,
    data: str | None,
    method: list[str] | None,
    pairs: list[str] | None,
    skip_unreadable: bool,
    fetch: bool = False,
    split: str = "test",
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
            split=split,
            world=world,
            progress=bar,
        )


def _list(entries: dict[str, str]) -> None:
    width = max(map(len, entries))
    for name, summary in entries.items():
        typer.echo(f"{name:<{width}}  {summary}")


if __name__ == "__main__":
    main()
