"""An evaluation on two processes of which one dies: the other ends too, and what was finished is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from faults.running import ENVIRONMENT

from bench.store import Store

SCRIPT = """
import logging, os, sys
from pathlib import Path
from conftest import Convolved, DriftingDiscs
from faults.programs import protocol
from bench.distributed import world
from bench.evaluate import evaluate
from bench.store import Store
from metrics.errors import PokeBenchError

class Dies(Convolved):
    def predict(self, conditioning, samples, seed):
        if os.environ["HOW"] != "not" and os.environ["RANK"] == "1" and self.calls == 2:
            if os.environ["HOW"] == "killed":
                os.kill(os.getpid(), 9)
            raise ValueError("a fault of the method")
        return super().predict(conditioning, samples, seed)

logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
try:
    with world() as peers:
        evaluate([Dies()], DriftingDiscs(24), protocol(), Store(Path(sys.argv[1])), batch_size=2, world=peers)
except PokeBenchError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)
except KeyboardInterrupt as stop:
    print(f"stopped: {stop}", file=sys.stderr)
    sys.exit(130)
"""


def launch(tmp_path: Path, how: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*command, str(script), str(tmp_path / "store")],
        env={**os.environ, **ENVIRONMENT, "HOW": how},
        capture_output=True,
        text=True,
        timeout=280,
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "raises"])
def test_one_of_two_processes_dies(tmp_path: Path, faults: Any, how: str) -> None:
    with faults.one():
        done = launch(tmp_path, how)
        assert done.returncode != 0
        # What torchrun itself says has a traceback; what the processes say has none.
        own = done.stderr.partition("torch.distributed.elastic.multiprocessing.errors.ChildFailedError")[0]
        assert f'File "{tmp_path}' not in own, own
        if how == "raises":
            assert "error: the method convolved raised ValueError: a fault of the method" in done.stderr
        else:
            assert str(-signal.SIGKILL) in done.stderr
        store = tmp_path / "store"
        parts = [path for path in store.glob(".partial/*/*.safetensors") if path.name[0] != "."]
        assert len(parts) >= 2  # of the process that died; of the other, as many as it came to
        stamps = {path: path.stat().st_mtime_ns for path in parts}
        again = launch(tmp_path, "not")
        assert again.returncode == 0, again.stderr
        [record] = Store(store).records()
        assert len(record.facts.clip_ids) == 24
        assert not (store / ".partial").exists()
        assert stamps
