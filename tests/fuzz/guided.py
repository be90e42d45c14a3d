"""Fuzzes one property of `test_fuzz_media.py`, guided by what it covers: python guided.py NAME RUNS."""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["bench", "methods", "metrics"]):
    import test_fuzz_media as media

from metrics.errors import PokeBenchError

SEEDS = 12


def main(name: str, runs: str) -> None:
    use, values = media.properties()[name]
    corpus = Path(tempfile.mkdtemp(prefix="pokebench-corpus-"))
    warnings.simplefilter("ignore")
    logging.disable()
    (corpus / "whole").write_bytes(values.content)
    for number in range(SEEDS):
        (corpus / f"{number}").write_bytes(values.example())

    def once(content: bytes) -> None:
        try:
            use(content)
        except PokeBenchError as error:
            if not str(error).strip():
                raise AssertionError("an error without a message") from error

    limits = (f"-runs={runs}", "-seed=1", "-max_len=65536", "-timeout=20", "-rss_limit_mb=4096", "-print_final_stats=1")
    atheris.Setup([sys.argv[0], str(corpus), *limits], once)
    atheris.Fuzz()


main(*sys.argv[1:])
