"""Commands that measure, and that show what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.commands.options import (
    DEFAULT_STORE,
    DataOption,
    DeviceOption,
    MethodsOption,
    SetOption,
    SkipAsEvaluateOption,
    SkipOption,
    SplitOption,
    StoreOption,
    SuiteArgument,
    open_suite,
)
from bench.progress import clip_bar, data_bar, progress_bar

app = typer.Typer()


@app.command()
def evaluate(
    suite: SuiteArgument,
    data: DataOption = None,
    method: MethodsOption = None,
    set_: SetOption = None,
    store: StoreOption = DEFAULT_STORE,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips predicted at once; results do not depend on it.")] = 8,
    device: DeviceOption = None,
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
        chosen, opened = open_suite(suite, data, method, set_, skip_unreadable, fetch, split, peers)
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
    device: DeviceOption = None,
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

    chosen, opened = open_suite(suite, data, method, set_, skip_unreadable, split=split)
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
    from bench.verify.results import Settings, verify_results
    from bench.verify.sanity import sanity_lines

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
