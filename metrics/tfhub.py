"""I3D logits from the original TF-Hub module, run by TensorFlow in a process of its own; for checking."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metrics import tfhub_worker
from metrics.errors import PokeBenchError, WeightsError
from metrics.features.i3d import MIN_FRAMES
from metrics.video import check_video

PYTHON_VARIABLE = "POKEBENCH_TF_PYTHON"


def tfhub_logits(video: Tensor, module: str | Path | None, *, batch_size: int = 8) -> Tensor:
    """Logits of a TF-Hub I3D module, the features of the original FVD program.

    TensorFlow is imported by the interpreter `$POKEBENCH_TF_PYTHON` names, by default the running one. Videos
    and logits pass through files in a temporary folder.

    Args:
        video: float `[B, T, 3, H, W]`, RGB, in [0, 1], T at least 9; any device.
        module: folder of the module (with `saved_model.pb`), or a handle that tensorflow_hub resolves.
        batch_size: clips in one pass.

    Returns:
        float32 `[B, 400]` on the CPU.

    Raises:
        VideoError: as `check_video`.
        WeightsError: `module` is missing, or a folder that holds no module.
        PokeBenchError: TensorFlow or a package that it needs is missing, or the process failed.
    """
    check_video(video, min_frames=MIN_FRAMES)
    module = _checked_module(module)
    python = os.environ.get(PYTHON_VARIABLE) or sys.executable
    with tempfile.TemporaryDirectory(prefix="pokebench-tfhub-") as folder:
        source, target = Path(folder, "video.npy"), Path(folder, "logits.npy")
        np.save(source, video.detach().to("cpu", torch.float32).numpy())
        command = [python, tfhub_worker.__file__, module, str(source), str(target), str(batch_size)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise PokeBenchError(
                f"the interpreter {python} cannot be started ({error.strerror}). Set {PYTHON_VARIABLE} to a "
                "Python that has TensorFlow, or unset it."
            ) from error
        if done.returncode == tfhub_worker.MISSING_PACKAGE:
            raise PokeBenchError(
                f"the TF-Hub backend needs the package {done.stderr.split()[-1]}, which {python} lacks. Install the "
                f'extra tf, pip install "pokebench[tf]" (pkg_resources comes with setuptools below 81), or set '
                f"{PYTHON_VARIABLE} to a Python that has it."
            )
        if done.returncode != 0:
            raise PokeBenchError(f"the TF-Hub process failed ({done.returncode}):\n{done.stderr[-2000:]}")
        return torch.from_numpy(np.load(target, allow_pickle=False))


def _checked_module(module: str | Path | None) -> str:
    if module is None:
        raise WeightsError(
            'backend="tfhub" needs module: the folder of the TF-Hub module i3d-kinetics-400, or its handle'
        )
    if "://" in str(module):
        return str(module)
    folder = Path(module).expanduser().resolve()
    if not (folder / "saved_model.pb").is_file():
        raise WeightsError(f"expected a TF-Hub module (a folder with saved_model.pb), found none in {folder}")
    return str(folder)
