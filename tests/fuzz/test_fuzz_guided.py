"""Readers of bytes that are written in Python, fuzzed towards code that was not reached yet (atheris)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
RUNS = 4000


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="needs the package atheris: pip install atheris")
@pytest.mark.parametrize("name", ["zip", "tar", "heatmap", "prediction", "TensorFlow bundle"])
def test_bytes_or_one_error(name: str, tmp_path: Path) -> None:
    paths = os.pathsep.join(map(str, (HERE.parents[1], HERE.parent, HERE)))
    done = subprocess.run(
        [sys.executable, str(HERE / "guided.py"), name, str(RUNS)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    found = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
    assert found is not None
    assert int(found[1]) >= RUNS
