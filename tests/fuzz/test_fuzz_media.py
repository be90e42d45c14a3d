"""Videos, images, arrays, checkpoints and archives, changed at random: frames or one clear error, in bounded memory."""

from __future__ import annotations

import io
import json
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzz.running import LONG, QUICK, fuzz, mutated, mutated_bytes
from hypothesis import strategies as st
from peers.tf_bundle import write_bundle
from PIL import Image

from bench.data.archives import unpack_tar
from bench.data.folder import open_folder
from bench.data.interface import Settings
from bench.data.zip_files import unpack_zip
from bench.heatmap.file import read_heatmaps
from bench.poke_page.scenes import uploaded_scene
from methods.hao.official import network_state
from methods.image_io import decode_image, read_image
from methods.ivrnn.official import config_of
from methods.poking.official import infer_config
from methods.predictions import Predictions, read_entry
from methods.savp.bundle import Bundle
from methods.srvp.official import load_official, renamed
from methods.video_io import is_lossless, video_frame_rate, video_frames
from methods.weights_file import foreign_state, read_weights
from metrics.errors import PokeBenchError

ROOT = Path(__file__).parents[2]
FOLDER = Path(tempfile.mkdtemp(prefix="pokebench-media-"))
DRAWN = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
CODECS = {
    ".mp4": ("libx264", "yuv420p"),
    ".mkv": ("ffv1", "bgr0"),
    ".webm": ("libvpx-vp9", "yuv420p"),
    ".gif": ("gif", "rgb8"),
    ".avi": ("mpeg4", "yuv420p"),
}
Property = tuple[Callable[[Any], Any], st.SearchStrategy[Any]]


def video(suffix: str) -> bytes:
    import av

    path = FOLDER / f"made{suffix}"
    codec, pixels = CODECS[suffix]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = *DRAWN.shape[1:3], pixels
        for frame in DRAWN:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


def picture(form: str, mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(DRAWN[0]).convert(mode).save(stream, form, **options)
    return stream.getvalue()


def arrays(**named: Any) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **named)
    return stream.getvalue()


def in_file(name: str, use: Callable[[Path], Any]) -> Callable[[bytes], Any]:
    def used(content: bytes) -> None:
        path = FOLDER / name
        path.write_bytes(content)
        use(path)

    return used


def _video(path: Path) -> None:
    shapes = {frame.shape for frame in video_frames(path)}
    assert len(shapes) == 1
    assert all(len(shape) == 3 and shape[2] == 3 for shape in shapes)
    rate = video_frame_rate(path)
    assert rate is None or rate > 0
    is_lossless(path)


def _image(path: Path) -> None:
    found = read_image(path)
    assert found.dtype == np.uint8
    assert found.ndim == 3
    assert np.array_equal(decode_image(path.read_bytes(), "bytes", most_pixels=1 << 20), found)


def _entry(path: Path) -> None:
    assert isinstance(read_entry(path), np.ndarray)


def _state(tensors: dict[str, torch.Tensor]) -> st.SearchStrategy[dict[str, torch.Tensor]]:
    """A state dict with names and shapes changed."""
    names = st.sampled_from(sorted(tensors))
    shapes = st.lists(st.integers(0, 5), max_size=5)

    @st.composite
    def strategy(draw: st.DrawFn) -> dict[str, torch.Tensor]:
        found = dict(tensors)
        for _ in range(draw(st.integers(1, 4))):
            name = draw(names)
            what = draw(st.sampled_from(["delete", "shape", "rename", "none"]))
            if what == "shape":
                found[name] = torch.zeros(draw(shapes))
            elif what == "none":
                found[name] = draw(st.sampled_from([None, 3, "x", [], {}]))  # type: ignore[assignment]
            else:
                found.pop(name, None)
                if what == "rename":
                    found[draw(st.text(max_size=10))] = torch.zeros(1)
        return found

    return strategy()


def _tensors(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What the readers let through to those that look at shapes."""
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}


def _saved(use: Callable[[Path], Any]) -> Callable[[Any], Any]:
    def used(state: Any) -> None:
        path = FOLDER / "state.pt"
        torch.save(state, path)
        use(path)

    return used


def _bundle(path: Path) -> None:
    bundle = Bundle(path.with_suffix(""))
    for name in bundle.entries:
        bundle.read(name)


ODD = ["0.png", "00.png", "frame2.png", "frame10.png", "é.png", "a b.png", "-.png", "x.PNG", ".png", "1.jpg", "n\n.png"]
PICTURES = [
    ("PNG", "RGB"),
    ("PNG", "L"),
    ("PNG", "P"),
    ("PNG", "RGBA"),
    ("PNG", "I;16"),
    ("PNG", "1"),
    ("JPEG", "CMYK"),
]


def _folder_of_frames(frames: list[tuple[str, tuple[str, str], tuple[int, int]]]) -> None:
    folder = FOLDER / "frames"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "video").mkdir(parents=True)
    for name, (form, mode), size in frames:
        image = Image.new("RGB", size, (200, 30, 90))
        image = Image.fromarray(np.full(size[::-1], 40_000, np.uint16)) if mode == "I;16" else image.convert(mode)
        image.save(folder / "video" / name, form)
    found = open_folder(folder, Settings(size=16, length=2))
    assert all(found.load(ref.clip_id).frames.shape == (2, 3, 16, 16) for ref in found.clips())
    Predictions(folder)


FRAMES = st.lists(
    st.tuples(st.sampled_from(ODD), st.sampled_from(PICTURES), st.sampled_from([(16, 16), (16, 16), (1, 1), (40, 20)])),
    max_size=4,
)


def properties() -> dict[str, Property]:
    """Each property: what is done, and with which values."""
    found: dict[str, Property] = {
        f"video {suffix}": (in_file(f"v{suffix}", _video), mutated_bytes(video(suffix))) for suffix in CODECS
    }
    animated = picture("PNG", save_all=True, append_images=[Image.fromarray(DRAWN[1])])
    images = [picture("PNG"), picture("JPEG"), picture("PNG", "P"), animated, picture("PNG", "L")]
    exif = picture("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0")
    changed = st.sampled_from([*images, exif]).flatmap(mutated_bytes)
    heat = {"image": np.zeros((3, 4, 4)), "facts": np.array(json.dumps({"method": "m"})), "0/location": np.zeros(2)}
    heat |= {f"0/{name}": np.zeros((4, 4)) for name in ("displacements", "foreground", "mean_length", "map/paper")}
    heat |= {"0/exact": np.array(True), "0/empty": np.array(False), "0/note": np.array("")}
    write_bundle(FOLDER / "b", {f"layer_{n}/kernel": np.zeros((3, n), np.float32) for n in range(1, 5)})
    torch.save({"a": torch.zeros(3), "b": {"c": torch.ones(2, 2)}}, FOLDER / "zip.pt")
    torch.save({"a": torch.zeros(3)}, FOLDER / "legacy.pt", _use_new_zipfile_serialization=False)
    first = {"fusion_block.cells.0.reset_gate.weight": torch.zeros(4, 4, 3, 3), "dec.blocks.0.w": torch.zeros(1)}
    hao = {f"warp_cnn.{name}": torch.zeros(64, 9, 3, 3) for name in ("enc_net.c11.weight", "x")}
    ivrnn = {"render_net.12.model.weight": torch.zeros(1, 1, 1, 1), "emb_net.0.weight": torch.zeros(4, 3, 3, 3)}
    ivrnn |= {f"emb_net.{n}.conv_1.0.weight": torch.zeros(4, 1, 1, 1) for n in (1, 4, 7, 10, 13, 16)}
    ivrnn |= {
        "det_init_nets.layer_16.0.main.0.weight": torch.zeros(4, 8, 1, 1),
        "prior_branches.layer_16.3.model.weight": torch.zeros(4, 1, 1, 1),
    }
    srvp = {
        "encoder.conv.0.0.weight": torch.zeros(4, 3, 4, 4),
        "q_y.module.0.0.weight": torch.zeros(4, 4),
        "w_proj.0.weight": torch.zeros(2, 2),
    }
    published = (ROOT / "results" / "checkpoints" / "savp-small.safetensors").read_bytes()
    found |= {
        "image": (in_file("i.png", _image), changed),
        "upload": (lambda data: uploaded_scene(data, 16, crop=True), changed),
        "prediction": (in_file("p.npz", _entry), mutated_bytes(arrays(video=DRAWN))),
        "prediction, shapes": (
            lambda shape: in_file("p.npz", lambda p: Predictions(p.parent / "one"))(
                arrays(video=np.zeros(shape, np.uint8))
            ),
            st.lists(st.integers(0, 3), max_size=6),
        ),
        "heatmap": (in_file("h.npz", read_heatmaps), mutated_bytes(arrays(**heat))),
        "heatmap, arrays": (
            lambda kept: in_file("h.npz", read_heatmaps)(arrays(**kept)),
            mutated({name: array.tolist() for name, array in heat.items()})
            .filter(lambda v: isinstance(v, dict))
            .map(_arrays),
        ),
        "frames": (_folder_of_frames, FRAMES),
        "checkpoint": (in_file("c.pt", foreign_state), mutated_bytes((FOLDER / "zip.pt").read_bytes())),
        "old checkpoint": (in_file("c.pt", foreign_state), mutated_bytes((FOLDER / "legacy.pt").read_bytes())),
        "weights": (
            in_file("w.safetensors", read_weights),
            mutated_bytes(published[:20_000]) | mutated_bytes(published),
        ),
        "TensorFlow bundle": (in_file("b.index", _bundle), mutated_bytes((FOLDER / "b.index").read_bytes())),
        "poking": (lambda state: infer_config(_tensors(state), "state"), _state(first)),
        "hao": (lambda state: network_state(state, "state"), _state(hao)),
        "ivrnn": (lambda state: config_of(_tensors(state), "state"), _state(ivrnn)),
        "srvp": (lambda state: renamed(state, "state"), _state(srvp)),
        "srvp, file": (_saved(load_official), _state(srvp)),
        "zip": (
            in_file("a.zip", lambda p: unpack_zip([p], FOLDER / "zip", lambda _: True)),
            mutated_bytes(arrays(v=DRAWN[:1])),
        ),
        "tar": (in_file("a.tgz", lambda p: unpack_tar(p, FOLDER / "tar", lambda _: True)), mutated_bytes(_tar())),
    }
    return found


def _arrays(kept: dict[str, Any]) -> dict[str, Any]:
    """What numpy can store of changed values, without objects."""
    found = {}
    for name, value in kept.items():
        try:
            array = np.array(value)
        except (ValueError, OverflowError):
            continue
        if array.dtype.kind in "biufU" and name.isprintable() and name[:1] != "/" and name.isascii() and name:
            found[name] = array
    return found


def _tar() -> bytes:
    import tarfile

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as made:
        info = tarfile.TarInfo("v.mp4")
        info.size = DRAWN[0].nbytes
        made.addfile(info, io.BytesIO(DRAWN[0].tobytes()))
    return stream.getvalue()


@pytest.fixture(scope="module", autouse=True)
def _cleared() -> Iterator[None]:
    yield
    shutil.rmtree(FOLDER)


@pytest.fixture(scope="module")
def known() -> dict[str, Property]:
    return properties()


NAMES = [
    *(f"video {suffix}" for suffix in CODECS),
    *("image", "upload", "prediction", "prediction, shapes", "heatmap", "heatmap, arrays", "frames", "checkpoint"),
    *("old checkpoint", "weights", "TensorFlow bundle", "poking", "hao", "ivrnn", "srvp", "srvp, file", "zip", "tar"),
]


@pytest.mark.usefixtures("own_cache")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_frames_or_one_error(name: str, known: dict[str, Property]) -> None:
    assert set(NAMES) == set(known)
    use, values = known[name]
    assert sum(fuzz(use, values, QUICK // 2)) > 0


@pytest.mark.slow
@pytest.mark.usefixtures("own_cache")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_frames_or_one_error_at_length(name: str, known: dict[str, Property]) -> None:
    use, values = known[name]
    assert sum(fuzz(use, values, LONG)) > QUICK


# Files that claim to be gigantic

SPARE = 1 << 30
"""Bytes of address space that a child may take beyond what the program itself needs."""


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _npz(shape: tuple[int, ...]) -> bytes:
    import zipfile

    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("video.npy", b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head)
    return stream.getvalue()


def bombs() -> dict[str, bytes]:
    gif = bytearray(video(".gif"))
    gif[6:10] = b"\xff\xff\xff\xff"
    return {
        "large.png": _png(60_000, 60_000),
        "wide.png": _png(2**31 - 1, 1),
        "below-limit-of-pillow.png": _png(12_000, 12_000),
        "claims.npz": _npz((10**6, 10**6, 3)),
        "overflows.npz": _npz((2**40, 2**40)),
        "canvas.gif": bytes(gif),
    }


CHILD = """
import resource, sys
from methods.predictions import read_entry
from methods.image_io import read_image
from metrics.errors import PokeBenchError
from pathlib import Path
import av, PIL.Image, numpy
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]),) * 2)
for name in sys.argv[2:]:
    path = Path(name)
    try:
        (read_image if path.suffix == ".png" else read_entry)(path)
    except PokeBenchError as error:
        print(path.name, "refused:", error)
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "MiB")
"""


def test_what_claims_to_be_gigantic_is_refused_in_little_memory(tmp_path: Path) -> None:
    assert resource.getpagesize() > 0
    paths = []
    for name, content in bombs().items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(content)
    command = [sys.executable, "-c", CHILD, str(SPARE), *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    refused = [line.partition(" ")[0] for line in done.stdout.splitlines() if " refused: " in line]
    assert refused == [path.name for path in paths]
    assert "MemoryError" not in done.stdout


def test_a_video_that_unfolds_without_end_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("methods.video_io.MOST_BYTES", 3 * DRAWN[0].nbytes)
    path = tmp_path / "v.mp4"
    path.write_bytes(video(".mp4"))
    with pytest.raises(PokeBenchError, match="more than 0 MiB of frames"):
        read_entry(path)
