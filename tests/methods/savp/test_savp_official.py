"""The authors' TensorFlow checkpoints, read without TensorFlow; one test compares with TensorFlow's reader."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peers.savp_golden import CONFIG, FOLDER, frames, golden, places, shapes, variable
from peers.tf_bundle import write_bundle

from methods.interface import Conditioning
from methods.savp.adapter import Savp
from methods.savp.bundle import Bundle
from methods.savp.config import RECIPES, SavpConfig
from methods.savp.discriminator import discriminators
from methods.savp.network import Generator
from methods.savp.official import (
    CELL,
    OLD_CELL,
    discriminator_places,
    generator_places,
    is_bookkeeping,
    read_official,
)
from metrics.errors import MethodError

BOOKKEEPING = (
    "beta1_power",
    "beta2_power",
    "generator/encoder/z_mu/dense/bias/Adam",
    "generator/encoder/z_mu/dense/bias/Adam_1",
    "global_step",
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prefix of the unpacked golden checkpoint."""
    folder = tmp_path_factory.mktemp("savp")
    with tarfile.open(FOLDER / "savp_tf1_checkpoint.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "savp_tf1_checkpoint" / "model-300000"


def tiny_variables(config: SavpConfig, which: tuple[str, ...] = ()) -> dict[str, NDArray[Any]]:
    """Random variables of a small model under the authors' names, in TensorFlow's layout."""
    generator = np.random.default_rng(0)
    with torch.device("meta"):
        judges = discriminators(config)
        states = {"generator": Generator(config).state_dict()}
        states |= {name: judge.state_dict() for name, judge in (judges.items() if judges else ())}
    tables = {"generator": generator_places(config)}
    tables |= {name: discriminator_places(name, config.discriminator_width) for name in which}
    found = {}
    for network, table in tables.items():
        for name, place in table.items():
            shape = tuple(states[network][place.key].shape)
            if len(shape) > 1 and not place.key.endswith(".u"):
                shape = (*shape[2:], shape[1], shape[0])
            found[name] = generator.standard_normal(shape).astype(np.float32)
    return found


TINY = SavpConfig(generator_width=2, encoder_width=3, discriminator_width=2, latent=4)


def test_every_tensor_of_the_golden_checkpoint(checkpoint: Path) -> None:
    found = read_official(checkpoint)
    assert found.skipped == BOOKKEEPING
    assert found.config == CONFIG.model_copy(update={"recipe": "official"})
    assert found.discriminators == {}
    expected = generator_places(CONFIG)
    assert len(expected) == 79
    assert {place.key for place in expected.values()} == found.generator.keys() == Generator(CONFIG).state_dict().keys()
    for name, place in expected.items():
        assert np.array_equal(found.generator[place.key].numpy(), place.layout(variable(name))), name


def test_all_variables_of_the_graph_have_a_place() -> None:
    assert sorted(places()) == golden()["names"].tolist()
    assert shapes()["discriminator/video/sn_fc4/dense/kernel"] == (65536, 1)
    assert shapes()[f"{CELL}cdna_kernels/dense/kernel"] == (8192, 100)
    assert shapes()[f"{CELL}lstm_z/basic_lstm_cell/kernel"] == (16, 32)


def test_the_official_method(checkpoint: Path) -> None:
    """The first prior step after the context, of the golden file, from the checkpoint itself."""
    method = Savp(official=checkpoint.parent)
    assert method.card.name == "savp-official"
    assert method.card.parameters == 7_349_993
    assert set(method.card.weights) == {"model-300000.index", "model-300000.data-00000-of-00001"}
    context = frames()[:1, :2]
    method.prepare(torch.device("cpu"))
    found = method.predict(Conditioning(context, ["a"], 1), 1, 0)
    assert found.shape == (1, 1, 1, 3, 64, 64)
    # Other latents than the golden ones: near its first free prediction, and not equal to it.
    difference = np.abs(found[0, 0, 0].permute(1, 2, 0).numpy()[1::4, 2::4] - golden()["test/prior/sub4"][0, 1])
    assert 1e-4 < difference.mean() < 0.1


def test_discriminators_and_old_names(tmp_path: Path) -> None:
    variables = tiny_variables(TINY, ("prior", "posterior"))
    variables = {name.replace(CELL, OLD_CELL): value for name, value in variables.items()}
    variables["discriminator_opt/beta1_power"] = np.float32(0.5).reshape(())
    variables["global_step"] = np.int64(7).reshape(())
    write_bundle(tmp_path / "model-7", variables, entries_per_block=9)
    found = read_official(tmp_path / "model-7.index")
    assert found.config == TINY.model_copy(update={"recipe": "official"})
    assert found.skipped == ("discriminator_opt/beta1_power", "global_step")
    made = discriminators(TINY)
    assert made is not None
    for which, state in found.discriminators.items():
        made[which].load_state_dict(state)
    Generator(found.config).load_state_dict(found.generator)
    # The dense layer: row (t, h, w, c) of the kernel belongs to feature c at (t, h, w).
    kernel = variables["discriminator/video/sn_fc4/dense/kernel"].reshape(4, 8, 8, 16)
    own = found.discriminators["prior"]["dense.weight"].view(16, 4, 8, 8)
    assert np.array_equal(own.numpy(), kernel.transpose(3, 0, 1, 2))


@pytest.mark.parametrize(("which", "latent", "variant"), [(("prior",), 4, "gan-only"), ((), 0, "deterministic")])
def test_variants_are_recognised(which: tuple[str, ...], latent: int, variant: str, tmp_path: Path) -> None:
    base = RECIPES[f"paper-{variant}"].model.model_dump()
    config = SavpConfig(
        **{**base, "latent": latent, "generator_width": 2, "encoder_width": 3, "discriminator_width": 2}
    )
    write_bundle(tmp_path / "model-1", tiny_variables(config, which))
    found = read_official(tmp_path)
    assert found.config.variant == variant
    assert found.config.latent == latent
    assert tuple(found.discriminators) == which


def test_what_cannot_be_placed_is_named(tmp_path: Path) -> None:
    variables = tiny_variables(TINY)
    write_bundle(tmp_path / "model-1", {**variables, "generator/extra/kernel": np.zeros((2, 2), np.float32)})
    with pytest.raises(MethodError, match=r"none missing, 1 \(generator/extra/kernel\) without a place"):
        read_official(tmp_path)
    name = f"{CELL}h3/InstanceNorm/beta"
    write_bundle(tmp_path / "model-1", {key: value for key, value in variables.items() if key != name})
    with pytest.raises(MethodError, match=rf"1 \({name}\) missing, none without a place"):
        read_official(tmp_path)


def test_models_that_do_not_fit_are_named(tmp_path: Path) -> None:
    variables = tiny_variables(TINY)
    grey = {**variables, f"{CELL}scratch_image/conv2d/kernel": np.zeros((3, 3, 2, 1), np.float32)}
    write_bundle(tmp_path / "model-1", grey)
    with pytest.raises(MethodError, match=r"RGB frames \(3 channels\), found 1 channel"):
        read_official(tmp_path)
    wide = {**variables, f"{CELL}cdna_kernels/dense/kernel": np.zeros((4 * 2 * 16 * 16, 100), np.float32)}
    write_bundle(tmp_path / "model-1", wide)
    with pytest.raises(MethodError, match="expected a model of 64 x 64 px, found 128 x 128 px"):
        read_official(tmp_path)
    write_bundle(tmp_path / "model-1", {"w": np.zeros(3, np.float32)})
    with pytest.raises(MethodError, match=r"is not a checkpoint of SAVP: .*begin with 1 \(w\)"):
        read_official(tmp_path)


def test_bookkeeping() -> None:
    assert all(map(is_bookkeeping, BOOKKEEPING))
    assert not is_bookkeeping("generator/encoder/z_mu/dense/bias")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="expected one checkpoint in the folder, found none"):
        Bundle(tmp_path)
    with pytest.raises(MethodError, match=r"there is no checkpoint .*model-1: expected model-1\.index"):
        Bundle(tmp_path / "model-1")
    tensors = {"a": np.arange(6, dtype=np.float64).reshape(2, 3), "a/b": np.arange(4), "c": np.zeros(2, np.uint8)}
    prefix = tmp_path / "model-1"
    write_bundle(prefix, tensors, entries_per_block=2)
    bundle = Bundle(tmp_path)
    assert np.array_equal(bundle.read("a"), tensors["a"])
    assert np.array_equal(bundle.read("a/b"), tensors["a/b"])
    with pytest.raises(MethodError, match="c has the TensorFlow type number 4"):
        bundle.read("c")
    data = Path(f"{prefix}.data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:50])
    with pytest.raises(MethodError, match="is too short for a/b"):
        bundle.read("a/b")
    data.unlink()
    with pytest.raises(MethodError, match=r"the data file .* is missing"):
        bundle.read("a")
    index = Path(f"{prefix}.index")
    whole = index.read_bytes()
    for damaged in (b"", whole[:-1], whole[:20] + whole[-48:], whole[:-48] + bytes(40) + whole[-8:]):
        index.write_bytes(damaged)
        with pytest.raises(MethodError, match="is not the index of a TensorFlow checkpoint, or damaged"):
            Bundle(prefix)


TENSORFLOW = """
import sys
import numpy as np
import tensorflow as tf

reader = tf.train.load_checkpoint(sys.argv[1])
names = list(reader.get_variable_to_shape_map())
np.savez(sys.argv[2], **{name.replace("/", "|"): reader.get_tensor(name) for name in names})
made = {"b/kernel": np.arange(12, dtype=np.float32).reshape(3, 4), "b/bias": np.ones(4), "n": np.array(5)}
tf.raw_ops.SaveV2(prefix=sys.argv[3], tensor_names=list(made), shape_and_slices=[""] * 3, tensors=list(made.values()))
"""


@pytest.mark.tf
def test_the_reader_agrees_with_tensorflow(checkpoint: Path, tmp_path: Path) -> None:
    """Both ways: TensorFlow reads the golden checkpoint to the same values, and ours reads what it writes."""
    python = os.environ.get("POKEBENCH_TF_PYTHON") or sys.executable
    command = [python, "-c", TENSORFLOW, str(checkpoint), str(tmp_path / "theirs.npz"), str(tmp_path / "made")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    ours = Bundle(checkpoint)
    with np.load(tmp_path / "theirs.npz") as theirs:
        assert {name.replace("|", "/") for name in theirs.files} == ours.entries.keys()
        for name in ours.entries:
            expected = theirs[name.replace("/", "|")]
            assert ours.read(name).dtype == expected.dtype
            assert np.array_equal(ours.read(name), expected)
    made = Bundle(tmp_path / "made")
    assert np.array_equal(made.read("b/kernel"), np.arange(12).reshape(3, 4))
    assert made.read("n") == 5
    assert made.read("b/bias").dtype == np.float64
