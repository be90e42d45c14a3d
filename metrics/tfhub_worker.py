"""Runs a TF-Hub video module on clips: the program that `metrics/tfhub.py` starts in a process of its own.

    python tfhub_worker.py MODULE VIDEO_NPY LOGITS_NPY BATCH_SIZE

VIDEO_NPY holds float32 `[N, T, 3, H, W]` in [0, 1]; LOGITS_NPY gets float32 `[N, 400]`. The steps are those of
the original FVD program: frames in 0..255, `resize_bilinear` of TensorFlow 1 with its defaults to 224 x 224,
2 x / 255 - 1, the module's default signature.

Nothing of this project is imported here, so that the two ways to the logits have no code in common, and
PyTorch and TensorFlow never share a process.
"""

from __future__ import annotations

import os
import sys

SIZE = 224
MISSING_PACKAGE = 3


def main(module: str, video_file: str, logits_file: str, batch_size: int) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import numpy as np
        import tensorflow as tf
        import tensorflow_hub
    except ImportError as error:
        sys.stderr.write(f"{error.name}")
        sys.exit(MISSING_PACKAGE)

    network = tensorflow_hub.load(module).signatures["default"]
    videos = np.load(video_file, mmap_mode="r", allow_pickle=False)
    parts = []
    for start in range(0, len(videos), batch_size):
        batch = videos[start : start + batch_size].transpose(0, 1, 3, 4, 2) * np.float32(255)
        frames = tf.compat.v1.image.resize_bilinear(batch.reshape(-1, *batch.shape[2:]), [SIZE, SIZE])
        inputs = tf.reshape(2 * frames / 255 - 1, [*batch.shape[:2], SIZE, SIZE, 3])
        parts.append(network(rgb_input=inputs)["default"].numpy())
    np.save(logits_file, np.concatenate(parts))


if __name__ == "__main__":
    # Python put this folder first on the path; modules beside this file must not hide packages of their name.
    sys.path.pop(0)
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
