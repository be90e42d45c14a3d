"""Writes context frames for predictors that run outside the suite."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.data.interface import DataSet
from bench.output import output_path
from bench.protocol import Protocol


def export_context(dataset: DataSet, protocol: Protocol, folder: Path) -> int:
    """Writes one `CLIP_ID.npz` a clip and returns how many.

    Each file holds `context`, uint8 [C, H, W, 3], RGB; `horizon`, the number of frames to predict; `frame_rate`. The
    frames to be predicted are not in it.

    Raises:
        DataError: a clip cannot be read.
        OutputError: a file cannot be written.
    """
    refs = dataset.clips()
    for ref in refs:
        clip = dataset.load(ref.clip_id)
        context = clip.frames[: protocol.context].permute(0, 2, 3, 1).contiguous().numpy()
        with output_path(folder / f"{ref.clip_id}.npz") as temporary:
            np.savez_compressed(temporary, context=context, horizon=protocol.horizon, frame_rate=clip.frame_rate)
    return len(refs)
