"""`bench check`: the conformance kit on a method by name, on generated clips or on those of a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from bench.data.interface import Progress
from bench.data.registry import open_dataset
from methods.conformance import CHECKS, check_method, summary
from methods.conformance.clips import CLIPS, ClipSource, generated_clips
from methods.interface import Clip
from methods.registry import build_method


def run_check(
    spec: str,
    say: Callable[[str], None],
    *,
    device: torch.device,
    size: int | None = None,
    data: str | None = None,
    skip_unreadable: bool = False,
    progress: Progress | None = None,
) -> bool:
    """Runs the kit on a method and says a line for each item, and one for all.

    Args:
        spec: the method, as `build_method` reads it.
        say: called with each line.
        size: side of the frames, px; None: 64, or the admitted side that is nearest.
        data: a data set or folder in place of generated clips, for methods that know its clips alone.
        skip_unreadable: leave out files of it that cannot be read.

    Returns:
        Whether no item failed.

    Raises:
        MethodError, RegistryError: there is no such method, or it does not know the clips.
        DataError: the data cannot be opened, or have no poke or tracks for a method that takes them.
    """
    source = generated_clips if data is None else data_source(data, skip_unreadable, progress)
    width, results = max(len(check.name) for check in CHECKS), []
    for result in check_method(partial(build_method, spec), device=device, size=size, source=source):
        results.append(result)
        say(result.line(width))
    say(f"{spec}: {summary(results)}")
    return not any(result.verdict == "failed" for result in results)


def data_source(data: str, skip_unreadable: bool = False, progress: Progress | None = None) -> ClipSource:
    """The first clips of a data set or folder, as `open_dataset` opens it."""

    def clips(size: int, context: int, horizon: int) -> Sequence[Clip]:
        opened = open_dataset(
            data,
            size=size,
            length=context + horizon,
            max_clips=CLIPS,
            skip_unreadable=skip_unreadable,
            progress=progress,
        )
        return [opened.load(ref.clip_id) for ref in opened.clips()]

    return clips
