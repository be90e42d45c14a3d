"""From what a user names (suites, data, methods, heatmaps) to a report on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from bench.data.interface import Progress
from bench.output import check_writable
from bench.report.collect import collect
from bench.report.heatmaps import heatmap_picture
from bench.report.numbers import megabytes
from bench.report.page import render, write_report
from bench.suite import open_suite_data


def run_report(
    suites: Sequence[str],
    data: str | None,
    methods: Sequence[str],
    pairs: Sequence[str],
    store: Path,
    out: Path,
    *,
    clips_by: Sequence[str],
    clips_of: str | None,
    heatmaps: Sequence[Path],
    limit_mb: float,
    skip_unreadable: bool,
    device: torch.device,
    progress: Progress | None = None,
) -> str:
    """Makes the report of suites from their records, and says what was written.

    Args:
        data, methods, pairs: in place of the suites' own, as `bench tables` takes them; the same for all suites.
        clips_by, clips_of: as `bench.report.collect.collect`.
        heatmaps: files that `bench heatmap` wrote.
        limit_mb: largest size, in units of 10^6 bytes.

    Raises:
        PokeBenchError: a suite, its data or a file cannot be read, records are missing, or the page is too large or
            cannot be written.
    """
    check_writable(out)
    pictures = [heatmap_picture(path) for path in heatmaps]
    collected = []
    for name in suites:
        suite, dataset = open_suite_data(name, data, methods, pairs, skip_unreadable=skip_unreadable, progress=progress)
        collected.append(
            collect(suite, dataset, store, clips_by=clips_by, clips_of=clips_of, device=device, progress=progress)
        )
    size = write_report(out, render(collected, pictures), limit_mb)
    counts = {
        "suite": len(collected),
        "clip": sum(len(report.clips) for report in collected),
        "heatmap": len(pictures),
    }
    said = [f"{count} {what}{'' if count == 1 else 's'}" for what, count in counts.items()]
    return f"{out}: {megabytes(size)}; {said[0]}, {said[1]} with videos, {said[2]}"
