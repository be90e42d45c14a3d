"""Small generated folders that imitate how the real data sets are handed out: same names, same layout, few frames."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CODECS = {".mp4": ("libx264", "yuv420p", {"preset": "ultrafast"}), ".mkv": ("ffv1", "bgr0", {})}


def picture(frames: int, height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """uint8 `[frames, height, width, 3]`: coarse random blocks that move by 4 px a frame."""
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    still = blocks.repeat(16, 0).repeat(16, 1)[:height, :width]
    return np.stack([np.roll(still, 4 * frame, axis=1) for frame in range(frames)])


def write(path: Path, frames: int, *, rate: int = 30, height: int = 256, width: int = 256, seed: int = 0) -> Path:
    """A video of `picture`; lossless if it ends in .mkv."""
    import av

    codec, pixels, options = CODECS[path.suffix]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt, stream.options = height, width, pixels, options
        for frame in picture(frames, height, width, seed):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def plants(folder: Path, names: tuple[str, ...] = ("VID_0_0", "VID_0_1", "VID_12_0"), frames: int = 40) -> Path:
    """Poking-Plants, unpacked: .mkv, wider than high."""
    for seed, name in enumerate(names):
        write(folder / f"{name}.mkv", frames + 10 * seed, height=256, width=384, seed=seed)
    return folder


def zipped(source: Path, target: Path, inner: str = "") -> Path:
    """All files of a folder in one zip file, stored and deflated in turn."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for index, path in enumerate(sorted(source.iterdir())):
            method = (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)[index % 2]
            archive.write(path, f"{inner}{path.name}", compress_type=method)
    return target


def cut(path: Path, pieces: int) -> list[Path]:
    """Cuts a file into NAME.001, NAME.002, ... and removes it."""
    data = path.read_bytes()
    step = -(-len(data) // pieces)
    parts = [path.with_name(f"{path.name}.{index + 1:03d}") for index in range(pieces)]
    for index, part in enumerate(parts):
        part.write_bytes(data[index * step : (index + 1) * step])
    path.unlink()
    return parts


def iper(folder: Path, *, packed: bool = False) -> Path:
    """iPER: videos (or their zip) and the two lists. 001_1_10 has the name of a training video as its beginning."""
    names = ("001_1_1", "001_1_2", "001_1_10", "002_1_1", "003_4_2")
    videos = folder / "iPER_1024_video_release"
    for seed, name in enumerate(names):
        write(videos / f"{name}.mp4", 30, height=320, width=320, seed=seed)
    (folder / "train.txt").write_text("001/1/1\n001/1/2\n002/1/1\n", encoding="utf-8")
    (folder / "val.txt").write_text("001/1/10\n003/4/2\n", encoding="utf-8")
    if packed:
        zipped(videos, folder / "iPER_1024_video_release.zip", "iPER_1024_video_release/")
        for path in videos.iterdir():
            path.unlink()
        videos.rmdir()
    return folder


def taichi(folder: Path) -> Path:
    """Tai-Chi-HD: pieces of two videos to train on, and of one to test."""
    for seed, name in enumerate(
        ("train/aB-1_x#000003#000150", "train/aB-1_x#000200#000300", "train/Cd2#000000#000128")
    ):
        write(folder / f"{name}.mp4", 40, rate=25, seed=seed)
    write(folder / "test" / "Ef3#000010#000140.mp4", 50, rate=25, seed=9)
    return folder


H36M_ACTORS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
H36M_NAMES = ("Directions 1.54138969", "Directions 1.60457274", "WalkDog.55011271")


def human36m(folder: Path, *, packed: bool = False, rate: int = 50, frames: int = 130) -> Path:
    """Human3.6M: folders of the actors, or their archives with the list of md5 sums."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, actor in enumerate(H36M_ACTORS):
        names = H36M_NAMES if actor in ("S1", "S11") else H36M_NAMES[:1]
        for seed, name in enumerate((*names, "_ALL.54138969")):
            write(folder / actor / "Videos" / f"{name}.mp4", frames, rate=rate, height=258, seed=10 * index + seed)
    if packed:
        lines = []
        for actor in H36M_ACTORS:
            archive = folder / f"Videos_{actor}.tgz"
            _pack(folder / actor, archive)
            lines.append(f"{hashlib.md5(archive.read_bytes()).hexdigest()}  archives/{archive.name}\n")
        (folder / "checksums.txt").write_text("".join(lines), encoding="utf-8")
    return folder


def _pack(folder: Path, archive: Path) -> None:
    """Moves a folder into a gzipped tar file."""
    with tarfile.open(archive, "w:gz", compresslevel=1) as members:
        for path in sorted(folder.rglob("*.mp4")):
            data = path.read_bytes()
            member = tarfile.TarInfo(path.relative_to(folder.parent).as_posix())
            member.size = len(data)
            members.addfile(member, io.BytesIO(data))
            path.unlink()
    for inner in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        inner.rmdir()
    folder.rmdir()
