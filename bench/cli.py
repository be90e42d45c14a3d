"""The command line."""

from __future__ import annotations

import logging
import shlex
import sys

import typer

from bench.commands import data, methods, pictures, results, training
from bench.interrupts import interruption
from metrics.errors import PokeBenchError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Benchmark for video prediction."
)
for commands in (results, training, pictures, methods):
    app.add_typer(commands.app)
app.add_typer(data.app, name="data")


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


if __name__ == "__main__":
    main()
