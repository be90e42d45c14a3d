"""Commands that draw, and the page on which pictures are poked."""

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
    StoreOption,
    SuiteArgument,
    open_suite,
)
from bench.progress import clip_bar, data_bar

app = typer.Typer()


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
    half: Annotated[bool, typer.Option(help="Predict in half precision, faster on a GPU.")] = False,
    insets: Annotated[bool, typer.Option(help="Enlarge what is around each place.")] = False,
    device: Annotated[str | None, typer.Option(help='"cpu" or "cuda".')] = None,
) -> None:
    """Draw motion-correlation heatmaps: what follows when a place is pulled. Writes .png, .pdf and .npz."""
    from bench.distributed import choose_device
    from bench.heatmap.run import run_heatmap

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
            half=half,
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
    from bench.heatmap.maps import Settings
    from bench.heatmap.scores import Study, markdown, score_methods, summary, write_scores
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
    device: DeviceOption = None,
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

    chosen, opened = open_suite(suite, data, method, set_, skip_unreadable)
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
