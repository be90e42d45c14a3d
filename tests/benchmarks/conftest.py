"""Writes what the benchmarks measured to out/benchmarks, as JSON and as a table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from peers.timing import KERNELS, REPORTED, Kernel

from bench import provenance

OUT = Path(__file__).resolve().parents[2] / "out" / "benchmarks"
HEADS = (
    "what",
    "ratio to the peer",
    "by CPU time",
    "a second",
    "peer, a second",
    "share of peak",
    "share of roofline",
    "threads",
)


def table(figures: dict[str, dict[str, float]]) -> str:
    """A row a report; markdown."""
    from tabulate import tabulate

    rows = []
    for title, found in figures.items():
        ours = next((name for name in found if name.endswith("_per_second") and not name.startswith("peer_")), "")
        unit = ours.removesuffix("_per_second")
        shares = (found.get("share_of_peak"), found.get("share_of_roofline"))
        rows.append(
            [
                title,
                f"{found['ratio']:.2f}",
                f"{found['cpu_ratio']:.2f}" if "cpu_ratio" in found else "",
                f"{found[ours]:.4g} {unit}" if ours else "",
                f"{found[f'peer_{ours}']:.4g} {unit}" if ours else "",
                *("" if share is None else f"{share:.0%}" for share in shares),
                f"{found['threads']:.0f}",
            ]
        )
    shown = [place for place in range(len(HEADS)) if any(row[place] for row in rows)]
    rows = [[row[place] for place in shown] for row in rows]
    return str(tabulate(rows, [HEADS[place] for place in shown], "github", disable_numparse=True))


ROOFLINE = [
    "Share of roofline: the least time that our operations take one after another, each by its arithmetic at that peak",
    "or by the memory that it moves at the measured bandwidth of a copy, as a share of our time.",
]
LONGEST, NAME = 12, 90
"""Kernels of a program that are listed, and letters of their names."""


def kernel_table(title: str, found: list[Kernel]) -> list[str]:
    """Lines of markdown: the longest kernels of a program, and what all take together."""
    from tabulate import tabulate

    whole = sum(row.milliseconds for row in found)
    rows = [
        [f"`{row.name[:NAME]}`", row.calls, f"{row.milliseconds:.2f}", f"{row.milliseconds / whole:.0%}"]
        for row in found[:LONGEST]
    ]
    calls = sum(row.calls for row in found)
    rows.append(["all", calls, f"{whole:.2f}", "100%"])
    return ["", f"## {title}", "", str(tabulate(rows, ("kernel", "calls", "ms", "share"), "github"))]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Nothing is written by a run without benchmarks."""
    import torch

    if not REPORTED:
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    facts = {
        "commit": provenance.commit(),
        "hardware": provenance.hardware(device),
        "packages": provenance.package_versions(),
        "finished": provenance.now(),
    }
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{device}.json").write_text(json.dumps({**facts, "figures": REPORTED}, indent=1) + "\n")
    lines = [
        f"# Speed beside the usual peers ({device})",
        "",
        table(REPORTED),
        "",
        "Ratios above 1: faster than the peer, in the same run. Share of peak: the arithmetic of the plain form over",
        "our time, as a share of a measured product of large matrices in the precision of our form (float32 unless the",
        "line names another). It exceeds 100% where our form does less arithmetic for the same values (LPIPS: features",
        "of a reference once, not with each prediction; I3D: Winograd products), and where convolutions are faster",
        "than that product: on an AMD EPYC, oneDNN's do twice as many operations a second as PyTorch's matrix product.",
        *(ROOFLINE if any("share_of_roofline" in found for found in REPORTED.values()) else ()),
        "",
        f"`make benchmark`, commit {facts['commit']}, {facts['finished']}.",
        ", ".join(f"{name} {value}" for name, value in facts["hardware"].items()) + ".",
        ", ".join(f"{name} {value}" for name, value in facts["packages"].items()) + ".",
        "",
    ]
    (OUT / f"{device}.md").write_text("\n".join(lines))
    if KERNELS:
        tables = [line for title, found in KERNELS.items() for line in kernel_table(title, found)]
        head = ["# Kernels of one turn", "", "From torch.profiler, in the run of the table of speeds beside this one."]
        (OUT / f"{device}-kernels.md").write_text("\n".join([*head, *tables, ""]))
