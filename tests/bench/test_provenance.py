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


def test_the_commit_of_another_project_around_the_tree_is_not_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = tmp_path / "vendor" / "pokebench"
    source.mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(source / "bench" / "provenance.py"))
    monkeypatch.setenv(COMMIT_VARIABLE, "1cf45bb")
    identity = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
    for root in (tmp_path, source):
        subprocess.run(["git", "init", "--quiet", root], check=True)
        commits = ["git", *identity, "-C", root, "commit", "--quiet", "--allow-empty", "--message", "m"]
        subprocess.run(commits, check=True)
        assert (commit() == "1cf45bb") == (root == tmp_path)


def test_the_commit_of_a_tree_without_its_history_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_history(root: Path, *arguments: str) -> str:
        raise subprocess.CalledProcessError(128, arguments)

    monkeypatch.setattr(provenance, "_git", no_history)
    monkeypatch.delenv(COMMIT_VARIABLE, raising=False)
    assert commit() == ""
    monkeypatch.setenv(COMMIT_VARIABLE, "1cf45bb")
    assert commit() == "1cf45bb"
