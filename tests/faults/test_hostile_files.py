"""One file that runs code when it is unpickled, given to everything that reads files; and archives that lead astray."""

from __future__ import annotations

import ast
import io
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.checkpoint_card import load_card
from bench.data.archives import unpack_tar
from bench.data.zip_files import unpack_zip
from bench.flow.raft import _raft_weights
from bench.flow.store import read_flow
from bench.heatmap.file import read_heatmaps
from bench.store import load_record
from bench.training.plan import make_plan
from methods.hao.official import read_official as read_hao
from methods.ivrnn.official import read_official as read_ivrnn
from methods.poking.official import load_discriminator, read_generator
from methods.predictions import read_entry
from methods.registry import build_method
from methods.savp.official import read_official as read_savp
from methods.srvp.official import load_official as read_srvp
from methods.weights_file import foreign_state, load_weights, read_weights
from metrics import weights as weights_module
from metrics.errors import DataError, PokeBenchError
from metrics.weights import weights

ROOT = Path(__file__).parents[2]
PICKLING = {"metrics/weights.py"}
"""The one module that imports pickle: it admits three numpy globals, after the sha256 matched."""


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.marker,)


def forms(folder: Path) -> dict[str, Path]:
    """The same object in every form in which it could come."""
    thing = Hostile(folder / "marker")
    plain = pickle.dumps({"model": thing})
    torch.save({"model": thing, "w": torch.zeros(1)}, folder / "zip.pt")
    torch.save({"model": thing, "w": torch.zeros(1)}, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    np.savez(folder / "object.npz", video=np.array([thing], dtype=object), facts=np.array([thing], dtype=object))
    np.save(folder / "object.npy", np.array([thing], dtype=object))
    for name in ("plain.pkl", "plain.ckpt", "plain.safetensors", "plain.pth", "model.index", "record.json", "0.flow"):
        (folder / name).write_bytes(plain)
    (folder / "model.data-00000-of-00001").write_bytes(plain)
    head = b'{"__metadata__":{"pokebench":"%s"},"x":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}'
    head %= (plain.hex().encode(), len(plain), len(plain))
    (folder / "inside.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + plain)
    return {path.name: path for path in sorted(folder.iterdir())}


LOADERS: dict[str, Callable[[Path], object]] = {
    "foreign checkpoint": foreign_state,
    "hao": read_hao,
    "ivrnn": read_ivrnn,
    "srvp": read_srvp,
    "savp": read_savp,
    "poking generator": read_generator,
    "poking discriminator": lambda path: load_discriminator(path, "patch"),
    "weights of a method": lambda path: load_weights(path, "poking"),
    "weights of any method": read_weights,
    "poking:checkpoint": lambda path: build_method(f"poking:checkpoint={path}"),
    "poking:official": lambda path: build_method(f"poking:official={path}"),
    "hao:checkpoint": lambda path: build_method(f"hao:checkpoint={path}"),
    "savp:official": lambda path: build_method(f"savp:official={path}"),
    "start of a training": lambda path: make_plan("poking", None, [], start=path),
    "card": load_card,
    "record": load_record,
    "prediction": read_entry,
    "heatmap": read_heatmaps,
}


@pytest.mark.parametrize("loader", LOADERS)
def test_nothing_is_executed_and_everything_refused(loader: str, tmp_path: Path) -> None:
    for name, path in forms(tmp_path).items():
        if (loader, name) == ("foreign checkpoint", "inside.safetensors"):
            assert [value.dtype for value in foreign_state(path).values()] == [torch.uint8]  # the bytes, as numbers
            assert not (tmp_path / "marker").exists()
            continue
        with pytest.raises(PokeBenchError) as found:
            LOADERS[loader](path)
        assert path.name in str(found.value) or path.stem in str(found.value), name
        assert not (tmp_path / "marker").exists(), name


def test_what_is_no_error_is_passed_over(tmp_path: Path) -> None:
    for path in forms(tmp_path).values():
        assert read_flow(path, ["a"]) is None
    assert not (tmp_path / "marker").exists()


def test_weights_of_metrics_and_flow_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    found = forms(tmp_path)
    hostile = found["plain.ckpt"]
    hostile.rename(tmp_path / "alexnet.ckpt")
    with pytest.raises(PokeBenchError, match="expected sha256"):
        weights("lpips-alexnet", tmp_path)
    with pytest.raises(PokeBenchError, match="only numpy arrays are admitted"):
        weights_module._unpickle(tmp_path / "alexnet.ckpt")  # as if its sha256 had matched
    (own_cache / "weights").mkdir(exist_ok=True)
    (own_cache / "weights" / "lpips-alexnet.safetensors").write_bytes((tmp_path / "alexnet.ckpt").read_bytes())
    with pytest.raises(PokeBenchError, match="expected sha256"):
        weights("lpips-alexnet", tmp_path)
    monkeypatch.setenv("POKEBENCH_WEIGHTS", str(tmp_path))
    content = found["zip.pt"].read_bytes()
    import hashlib

    name = f"raft-{hashlib.sha256(content).hexdigest()[:8]}.pth"  # as if its sha256 had matched
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PokeBenchError, match="cannot be read as tensors"):
        _raft_weights(f"https://example.invalid/{name}")
    assert not (tmp_path / "marker").exists()


def test_the_hostile_object_is_hostile(tmp_path: Path) -> None:
    pickle.loads(forms(tmp_path)["plain.pkl"].read_bytes())  # noqa: S301 - it is what this file is about
    assert (tmp_path / "marker").exists()


def modules() -> list[tuple[str, ast.Module]]:
    paths = sorted(path for floor in ("metrics", "methods", "bench") for path in (ROOT / floor).rglob("*.py"))
    assert len(paths) > 100
    return [(path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


def test_no_call_admits_code() -> None:
    """Every torch.load and np.load says so, and pickle is imported in one module alone."""
    faults, seen = [], set()
    for name, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                imported = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                unsafe = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "_pickle"}
                if unsafe & {one.partition(".")[0] for one in imported}:
                    seen.add(name)
                    if name not in PICKLING:
                        faults.append(f"{name}:{node.lineno} imports {imported}")
            if not isinstance(node, ast.Call):
                continue
            words = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            called = ast.unparse(node.func)
            if called in ("torch.load", "torch.hub.load_state_dict_from_url") and words.get("weights_only") != "True":
                faults.append(f"{name}:{node.lineno} {called} without weights_only=True")
            if called in ("np.load", "numpy.load") and words.get("allow_pickle") != "False":
                faults.append(f"{name}:{node.lineno} {called} without allow_pickle=False")
            if called in ("eval", "exec", "torch.jit.load", "yaml.load", "pickle.load", "pickle.loads", "os.system"):
                faults.append(f"{name}:{node.lineno} calls {called}")
            if words.get("shell") == "True":
                faults.append(f"{name}:{node.lineno} starts a shell")
    assert faults == []
    assert seen == PICKLING


# Archives

ASTRAY = ["../out.mp4", "a/../../out.mp4", "/out.mp4", "C:\\out.mp4", "c:out.mp4", "..\\out.mp4", "\\\\host\\out.mp4"]


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("name", ASTRAY)
def test_a_zip_file_writes_nothing_outside_of_its_folder(name: str, tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("good.mp4", b"good")
        made.writestr(zipfile.ZipInfo(name), b"evil")
    with pytest.raises(DataError, match="outside of its folder"):
        unpack_zip([archive], tmp_path / "inner" / "target", lambda _: True)
    assert tree(tmp_path) <= {"a.zip", "inner/target/good.mp4"}


def test_a_name_with_nul_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("goodX.mp4", b"evil")
    archive.write_bytes(archive.read_bytes().replace(b"goodX", b"good\0"))
    with pytest.raises(DataError, match="outside of its folder"):
        unpack_zip([archive], tmp_path / "target", lambda _: True)


def _tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as made:
        for info, content in members:
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return path


def _info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_a_tar_file_writes_plain_files_under_bare_names_alone(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("mine")
    archive = _tar(
        tmp_path / "a.tgz",
        (_info("../../evil.mp4"), b"one"),
        (_info("/abs.mp4"), b"two"),
        (_info("link.mp4", tarfile.SYMTYPE, str(secret)), b""),
        (_info("hard.mp4", tarfile.LNKTYPE, "../secret"), b""),
        (_info("device.mp4", tarfile.CHRTYPE), b""),
        (_info("pipe.mp4", tarfile.FIFOTYPE), b""),
    )
    unpack_tar(archive, tmp_path / "inner" / "target", lambda name: name.endswith(".mp4"))
    assert tree(tmp_path) == {"secret", "a.tgz", "inner/target/evil.mp4", "inner/target/abs.mp4"}
    assert secret.read_text() == "mine"


def test_a_tar_file_that_writes_through_its_own_link_reaches_nothing(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = _tar(tmp_path / "a.tgz", (_info("d", tarfile.SYMTYPE, str(outside)), b""), (_info("d/evil.mp4"), b"evil"))
    unpack_tar(archive, tmp_path / "target", lambda _: True)
    assert tree(outside) == set()


@pytest.mark.parametrize("name", ["a\0b.mp4", ".."])
def test_a_tar_file_with_an_impossible_name_is_refused(name: str, tmp_path: Path) -> None:
    info = tarfile.TarInfo("plain.mp4")
    info.pax_headers = {"path": name}
    archive = _tar(tmp_path / "a.tgz", (info, b"x"))
    with pytest.raises(DataError, match="outside of its folder"):
        unpack_tar(archive, tmp_path / "target", lambda _: True)
    assert tree(tmp_path) == {"a.tgz"}


def bomb(path: Path, stated: int, packed: bytes, checksum: int) -> Path:
    """A zip file with one deflated member that states `stated` bytes."""
    name = b"bomb.mp4"
    sizes = struct.pack("<III", checksum, len(packed), stated)
    local = struct.pack("<4sHHHHH", b"PK\x03\x04", 20, 0, 8, 0, 0) + sizes + struct.pack("<HH", len(name), 0) + name
    central = struct.pack("<4sHHHHHH", b"PK\x01\x02", 20, 20, 0, 8, 0, 0) + sizes
    central += struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, 0) + name
    start = len(local) + len(packed)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, len(central), start, 0)
    path.write_bytes(local + packed + central + end)
    return path


def test_zip_bombs_are_refused_before_they_fill_the_disk(tmp_path: Path) -> None:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = bytes(1 << 20)
    packed = b"".join(deflate.compress(zeros) for _ in range(256)) + deflate.flush()
    more = bomb(tmp_path / "more.zip", 1000, packed, zlib.crc32(bytes(1000)))
    with pytest.raises(DataError, match=r"bomb.mp4 holds more than the 1000 bytes that it states"):
        unpack_zip([more], tmp_path / "target", lambda _: True)
    honest = bomb(tmp_path / "honest.zip", 256 << 20, packed, 0)
    with pytest.raises(DataError, match=r"bomb.mp4 states 268435456 bytes, packed into \d+"):
        unpack_zip([honest], tmp_path / "target", lambda _: True)
    assert tree(tmp_path) == {"more.zip", "honest.zip"}


def test_tar_bombs_and_sparse_files_are_refused(tmp_path: Path) -> None:
    archive = tmp_path / "a.tgz"
    with tarfile.open(archive, "w:gz") as made:
        info = tarfile.TarInfo("bomb.mp4")
        info.size = 1 << 40
        made.addfile(info)  # states a terabyte, and ends there
    with pytest.raises(DataError, match="more than 200 times its size"):
        unpack_tar(archive, tmp_path / "target", lambda _: True)
    assert tree(tmp_path) == {"a.tgz"}


@pytest.mark.parametrize("seed", range(3))
def test_damaged_archives_are_refused_or_whole(seed: int, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(500)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("v.mp4", content)
    _tar(tmp_path / "a.tgz", (_info("v.mp4"), content))
    drawn = np.random.default_rng(seed)
    refused = 0
    for name, unpack in (("a.zip", lambda p, t: unpack_zip([p], t, lambda _: True)), ("a.tgz", _untar)):
        sound = (tmp_path / name).read_bytes()
        for number in range(60):
            damaged = bytearray(sound)
            damaged[drawn.integers(len(sound))] ^= 1 << int(drawn.integers(8))
            if number % 6 == 0:
                damaged = damaged[: drawn.integers(len(sound))]
            path = tmp_path / f"{number}{Path(name).suffix}"
            path.write_bytes(damaged)
            target = tmp_path / f"{name}-{number}"
            try:
                unpack(path, target)
            except DataError:
                refused += 1
            written = [file for file in target.rglob("*") if file.is_file()]
            assert all(file.read_bytes() == content for file in written if file.name == "v.mp4")
    assert refused > 50


def _untar(path: Path, target: Path) -> None:
    unpack_tar(path, target, lambda _: True)
