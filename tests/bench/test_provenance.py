"""What a record says of where it came from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench import provenance
from bench.provenance import COMMIT_VARIABLE, command, commit


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (["bench", "evaluate", "table1", "--store", "out/records"], "bench evaluate table1 --store out/records"),
        (["/opt/env/bin/bench", "evaluate", "/data/own.toml"], "bench evaluate own.toml"),
        (["bench", "evaluate", "x", "--store=/a/b/records"], "bench evaluate x --store=records"),
        (["/opt/clone/bench/cli.py", "evaluate", "x"], "bench evaluate x"),
        (["bench", "m:weights=/a/b/m.safetensors,size=64"], "bench m:weights=m.safetensors,size=64"),
        (["bench", "--data", "~/clips/mine"], "bench --data mine"),
        (["bench", "--set", "clips=24", "--video", "/"], "bench --set clips=24 --video /"),
    ],
)
def test_command_holds_no_folder_of_this_machine(monkeypatch: pytest.MonkeyPatch, typed: list[str], kept: str) -> None:
    monkeypatch.setattr(sys, "argv", typed)
    assert command() == kept


def test_the_commit_of_a_tree_without_its_history_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_history(root: Path, *arguments: str) -> str:
        raise subprocess.CalledProcessError(128, arguments)

    monkeypatch.setattr(provenance, "_git", no_history)
    monkeypatch.delenv(COMMIT_VARIABLE, raising=False)
    assert commit() == ""
    monkeypatch.setenv(COMMIT_VARIABLE, "1cf45bb")
    assert commit() == "1cf45bb"
