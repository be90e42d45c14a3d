"""Small generated data and methods that several tests share."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.data.interface import ClipRef
from bench.protocol import Protocol
from methods.interface import Clip, Conditioning, MethodCard, clip_generator
from metrics.cache import hash_of


class DriftingDiscs:
    """A data set in memory: soft discs that drift over a textured ground; three clips a source."""

    skipped: Sequence[str] = ()

    def __init__(self, clips: int = 20, size: int = 32, length: int = 12, name: str = "discs") -> None:
        self.name, self.size, self.length = name, size, length
        self._refs = [ClipRef(f"source{i // 3:03d}@{i:06d}", f"source{i // 3:03d}") for i in range(clips)]
        self.loads: list[str] = []

    @property
    def content_hash(self) -> str:
        return hash_of([self.name, self.size, self.length, len(self._refs)])

    def clips(self) -> Sequence[ClipRef]:
        return list(self._refs)

    def describe(self) -> str:
        return f"drifting discs, {len(self._refs)} clips"

    def load(self, clip_id: str) -> Clip:
        self.loads.append(clip_id)
        generator = clip_generator(7, clip_id)
        ground = torch.rand(3, self.size, self.size, generator=generator)
        x, y, dx, dy = (torch.rand(4, generator=generator) * 2 - 1).tolist()
        grid = torch.arange(self.size) / self.size * 2 - 1
        frames = []
        for t in range(self.length):
            squared = (grid[None, :] - x - 0.05 * t * dx) ** 2 + (grid[:, None] - y - 0.05 * t * dy) ** 2
            disc = torch.sigmoid((0.25 - squared) * 30)
            frames.append(0.3 * ground + 0.6 * disc)
        video = (torch.stack(frames) * 255).round().to(torch.uint8)
        return Clip(frames=video, clip_id=clip_id, source=clip_id.partition("@")[0], frame_rate=10.0)


class Convolved:
    """A stochastic method with float arithmetic that depends on the batch to rounding: x0, blurred and noisy."""

    def __init__(self, name: str = "convolved") -> None:
        self.card = MethodCard(name=name, title="Convolved", revision="1", stochastic=True)
        self.calls = 0

    def prepare(self, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(3)
        self.weight = torch.rand(3, 3, 5, 5, generator=generator) / 75

    def predict(self, conditioning: Conditioning, samples: int, seed: int) -> Tensor:
        self.calls += 1
        x0 = torch.nn.functional.conv2d(conditioning.x0, self.weight, padding=2)
        noise = torch.stack(
            [
                torch.rand(samples, conditioning.horizon, *x0.shape[1:], generator=g)
                for g in conditioning.generators(seed)
            ]
        )
        return (0.9 * x0[:, None, None] + 0.1 * noise).clamp(0, 1)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the program in this process: arguments -> (exit status, standard output, standard error)."""
    from bench import cli

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bench", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium that asks no network for anything of its own accord."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs Chromium on the path")
    quiet = ("background-networking", "component-update", "sync")
    switches = ["--no-sandbox", "--disable-gpu", "--no-first-run", *(f"--disable-{name}" for name in quiet)]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=switches)
        yield opened
        opened.close()


class Unkept:
    """In place of the cache of true features, where a test replaces the network that computes them."""

    def __init__(self, *_: object) -> None:
        pass

    def features(self, video: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        return compute(video)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu are skipped, with the reason, on a machine without one."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A user cache for this session alone: tests neither use nor change what the user has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POKEBENCH_CACHE", str(tmp_path_factory.mktemp("session-cache")))
        yield


@pytest.fixture
def discs() -> DriftingDiscs:
    return DriftingDiscs()


@pytest.fixture
def protocol() -> Protocol:
    return Protocol(dataset="discs", size=32, metrics=("psnr", "ssim", "lpips_alex"), min_clips=4)


def smooth_texture(height: int, width: int, seed: int = 0, blur: float = 2.0) -> NDArray[np.float32]:
    """A random texture, float `[height, width, 3]`, that fills [0, 1]."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).random((height, width, 3))
    smooth = gaussian_filter(noise, (blur, blur, 0))
    return ((smooth - smooth.min()) / (smooth.max() - smooth.min())).astype(np.float32)


@pytest.fixture
def moving_video() -> Callable[..., NDArray[np.uint8]]:
    """Makes uint8 `[T, H, W, 3]`: a window that slides by (dx, dy) px a frame over a texture."""

    def make(
        frames: int = 30, height: int = 48, width: int = 64, dx: int = 1, dy: int = 1, seed: int = 0
    ) -> NDArray[np.uint8]:
        texture = smooth_texture(height + abs(dy) * frames, width + abs(dx) * frames, seed)
        x0, y0 = (frames - 1) * max(-dx, 0), (frames - 1) * max(-dy, 0)
        windows = [
            texture[y0 + t * dy : y0 + t * dy + height, x0 + t * dx : x0 + t * dx + width] for t in range(frames)
        ]
        return (np.stack(windows) * 255).round().astype(np.uint8)

    return make


@pytest.fixture
def write_video() -> Callable[..., Path]:
    """Writes uint8 `[T, H, W, 3]` as a video; the codec follows the suffix unless given."""
    codecs = {
        ".mp4": ("libx264", "yuv420p"),
        ".mov": ("libx264", "yuv420p"),
        ".avi": ("mpeg4", "yuv420p"),
        ".mkv": ("ffv1", "bgr0"),
        ".webm": ("libvpx-vp9", "yuv420p"),
        ".gif": ("gif", "rgb8"),
    }

    def write(
        path: Path,
        video: NDArray[np.uint8],
        rate: int = 25,
        codec: tuple[str, str] | None = None,
        options: dict[str, str] | None = None,
        container_options: dict[str, str] | None = None,
    ) -> Path:
        import av

        name, pixels = codec or codecs[path.suffix]
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w", options=container_options or {}) as container:
            stream = container.add_stream(name, rate=rate)
            stream.height, stream.width, stream.pix_fmt = *video.shape[1:3], pixels
            stream.options = options or {}
            for frame in video:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        return path

    return write


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty user cache for one test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("POKEBENCH_CACHE", str(folder))
    return folder
