"""A whole evaluation against the programs that a user would otherwise put together, with equal numbers.

The peer is what the repositories of this field do: one pass over the data for each metric and method, with the `lpips`
package (one pair of videos a call), scikit-image's SSIM and PSNR (one frame a call), and a plain PyTorch I3D (one
video a call, frames resized to 224 px, features of the true videos computed anew for each method). Clips are read
from video files, by the same reader, in each pass.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from peers.official_lpips import official_lpips
from peers.plain_i3d import PlainI3D
from peers.timing import reported
from pytest_benchmark.fixture import BenchmarkFixture
from stand_ins import write
from torch import Tensor
from torch.nn import functional as F

from bench.data.interface import DataSet
from bench.data.registry import open_dataset
from bench.evaluate import evaluate
from bench.evaluation.prediction import condition, predict
from bench.protocol import Protocol
from bench.record import LoadedRecord
from bench.store import Store
from methods.registry import build_method
from metrics.cache import cache_root
from metrics.frechet import distance_of_moments, moments
from metrics.weights import weights

CLIPS = int(os.environ.get("POKEBENCH_BENCHMARK_CLIPS", "8"))
"""POKEBENCH_BENCHMARK_CLIPS=256 for the figure that counts."""
METHODS = ("copy-last-frame", "context-mean", "noisy-truth", "noisy-truth:sigma=0.1")
SIDE, CONTEXT, HORIZON = 64, 2, 10
FLOOR = 4.0
"""Smallest ratio of the peer's time to ours, with 256 clips."""
FLOOR_OF_FEW = 3.0
"""The same with fewer."""
PROTOCOL = Protocol(
    dataset="folder:videos",
    size=SIDE,
    context=CONTEXT,
    horizon=HORIZON,
    clips=CLIPS,
    metrics=("fvd", "lpips_alex", "psnr", "ssim"),
    min_clips=2,
)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """CLIPS clips of 12 frames, 4 a video."""
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(-(-CLIPS // 4)):
        write(folder / f"v{seed:03d}.mp4", 4 * (CONTEXT + HORIZON), height=SIDE, width=SIDE, seed=seed)
    dataset = open_dataset(folder, size=SIDE, length=CONTEXT + HORIZON, max_clips=CLIPS)
    assert len(dataset.clips()) == CLIPS
    return dataset


Pass = Callable[[Tensor, Tensor], None]


class Peer:
    """Three passes for each method; the results by (method, metric)."""

    def __init__(self, dataset: DataSet) -> None:
        self.dataset = dataset
        self.ids = sorted(ref.clip_id for ref in dataset.clips())
        self.lpips, self.i3d = official_lpips("alex"), PlainI3D(weights("i3d-kinetics-400"))
        self.rows: dict[tuple[str, str], np.ndarray] = {}
        self.fvd: dict[str, float] = {}

    @torch.no_grad()
    def __call__(self) -> None:
        for spec in METHODS:
            method = build_method(spec)
            method.prepare(torch.device("cpu"))
            found: dict[str, list[np.ndarray]] = {"lpips_alex": [], "ssim": [], "psnr": []}
            logits: tuple[list[Tensor], list[Tensor]] = ([], [])

            def perceptual(pred: Tensor, target: Tensor, found: dict[str, list[np.ndarray]] = found) -> None:
                found["lpips_alex"].append(self.lpips(pred, target, normalize=True).flatten().double().numpy())

            def structural(pred: Tensor, target: Tensor, found: dict[str, list[np.ndarray]] = found) -> None:
                from skimage.metrics import peak_signal_noise_ratio, structural_similarity

                pairs = list(zip(*(v.permute(0, 2, 3, 1).double().numpy() for v in (pred, target)), strict=True))
                options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": -1}
                found["ssim"].append(np.array([structural_similarity(p, t, data_range=1, **options) for p, t in pairs]))
                found["psnr"].append(np.array([peak_signal_noise_ratio(t, p, data_range=1) for p, t in pairs]))

            def features(pred: Tensor, target: Tensor, logits: tuple[list[Tensor], list[Tensor]] = logits) -> None:
                for video, kept in zip((pred, target), logits, strict=True):
                    kept.append(self.i3d(enlarged(video)))

            for scored in (perceptual, structural, features):
                self._pass(method, scored)
            for metric, values in found.items():
                self.rows[method.card.name, metric] = np.stack(values)
            pred, target = (torch.cat(rows).double() for rows in logits)
            self.fvd[method.card.name] = distance_of_moments(moments(pred), moments(target))

    def _pass(self, method: object, scored: Pass) -> None:
        """Reads, predicts and scores every clip once."""
        for clip_id in self.ids:
            shown, target = condition([self.dataset.load(clip_id)], PROTOCOL, torch.device("cpu"))
            scored(predict(method, shown, target, 1, PROTOCOL.seed)[0, 0], target[0])


def enlarged(video: Tensor) -> Tensor:
    """`[T, 3, H, W]` in [0, 1] as the network takes it, `[1, 3, T, 224, 224]` in [-1, 1], on TensorFlow 1's grid."""
    frames = F.pad(video, (0, 1, 0, 1), mode="replicate")
    frames = F.interpolate(frames, (225, 225), mode="bilinear", align_corners=True)[..., :-1, :-1]
    return (frames * 2 - 1).transpose(0, 1)[None].contiguous()


def assert_equal(peer: Peer, records: list[LoadedRecord]) -> None:
    for record in records:
        name = record.facts.method.name
        for metric, tolerance in (("lpips_alex", 1e-5), ("ssim", 1e-6), ("psnr", 1e-6)):
            wanted = peer.rows[name, metric]
            np.testing.assert_allclose(record.frame_values(metric)[:, 0], wanted, rtol=0, atol=tolerance)
        assert record.facts.set_results["fvd"].value == pytest.approx(peer.fvd[name], rel=1e-3)


def _now() -> np.ndarray:
    """Seconds by the clock, and of this process on all cores: the latter hardly feel what else a machine does."""
    return np.array([time.perf_counter(), time.process_time()])


@pytest.mark.benchmark
def test_an_evaluation_beside_the_usual_stack(benchmark: BenchmarkFixture, videos: DataSet, tmp_path: Path) -> None:
    peer = Peer(videos)
    turns = iter(range(100))

    def ours() -> list[LoadedRecord]:
        store = Store(tmp_path / f"records-{next(turns)}")
        return evaluate([build_method(spec) for spec in METHODS], videos, PROTOCOL, store)

    ours()  # networks are built, as the peer's are
    shutil.rmtree(cache_root() / "features")  # what the peer does not keep either
    spent = _now()
    peer()
    spent = _now() - spent
    taken = _now()
    records = benchmark.pedantic(ours, rounds=1)
    taken = _now() - taken
    assert_equal(peer, records)
    figures = {
        "ratio": float(spent[0] / taken[0]),
        "cpu_ratio": float(spent[1] / taken[1]),
        "clips_per_second": float(CLIPS * len(METHODS) / taken[0]),
        "peer_clips_per_second": float(CLIPS * len(METHODS) / spent[0]),
        "threads": torch.get_num_threads(),
    }
    benchmark.extra_info.update(reported(f"evaluation of {CLIPS} clips x {len(METHODS)} methods", figures))
    assert figures["ratio"] >= (FLOOR if CLIPS >= 256 else FLOOR_OF_FEW)
