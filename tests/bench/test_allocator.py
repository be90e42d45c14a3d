"""Freed memory stays with the process where it is to be used again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from pathlib import Path
from bench.training.allocator import keep_memory
import torch

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

if sys.argv[1] == "kept":
    assert keep_memory()
torch.ones(1)
before = resident()
held = torch.ones(100 * 2**18)
del held
print(resident() - before)
"""


def left(which: str) -> float:
    """MiB that a process still has after it freed 100 MiB."""
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-c", SCRIPT, which], cwd=root, capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="it is for glibc")
def test_memory_is_kept() -> None:
    assert left("kept") > 90 > 10 > left("given back")
