"""Optical flow of prepared data, estimated ahead of time.

Flow belongs to clips, not to videos: it leads from x0 to the last frame, so that its lag follows from the length, the
context and the stride of a protocol. It is therefore kept where `bench.flow.source.FlowSource` looks for it, for one
length and context, and not beside the frames. At 64 px a clip takes 33 kB.

The release stores flow for fixed lags, estimated at up to 1024 px and resized (FlowNet2); here it is estimated at the
size of the frames, by the estimator that is named.
"""

from __future__ import annotations

from pathlib import Path

import torch

from bench.data.interface import Progress
from bench.data.manifest import SPLITS
from bench.data.registry import open_dataset
from bench.flow.registry import DEFAULT
from bench.flow.source import FlowSource


def prepare_flow(
    name_or_folder: str | Path,
    estimator: str = DEFAULT,
    *,
    size: int,
    length: int = 11,
    context: int = 1,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> int:
    """Estimates the flow of all clips of both splits; returns the number of clips.

    An interrupted run goes on where it was.

    Args:
        name_or_folder: a data set that was prepared, or a folder that was.
        estimator: a name of `bench.flow.registry.FLOWS`.
        size, length, context: of the protocol: side in px, frames in a clip, frames up to x0.
        device: where estimators that use a GPU work.
        progress: called with clips done, all clips of the split, and what is done.

    Raises:
        DataError: the data are not prepared, or a setting does not suit them.
        RegistryError: no such data set or estimator.
    """
    done = 0
    for split in SPLITS:
        data = open_dataset(name_or_folder, size=size, length=length, split=split)
        FlowSource(data, estimator, context=context, device=device).prepare(progress)
        done += len(data.clips())
    return done
