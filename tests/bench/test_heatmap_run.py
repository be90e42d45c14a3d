"""The heatmap command: an image file, a clip of a data set, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bench.data.registry import open_dataset
from bench.heatmap.file import read_heatmaps
from bench.heatmap.places import places_of
from bench.heatmap.run import run_heatmap
from methods.training import TRAININGS
from methods.weights_file import save_weights
from metrics.errors import DataError, MethodError

OPTIONS: dict[str, Any] = {
    "forms": None,
    "size": None,
    "pokes": 3,
    "lengths": "random",
    "longest": None,
    "shared_scale": False,
    "half": False,
    "insets": False,
    "device": torch.device("cpu"),
}


@pytest.fixture(scope="module")
def poking(tmp_path_factory: pytest.TempPathFactory) -> str:
    training = TRAININGS.get("poking")
    recipe = training.recipes["small-plus"]
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    state = training(recipe.model, seed=0).networks["predictor"].state_dict()
    save_weights(path, state, "poking", recipe.model)
    return f"poking:checkpoint={path}"


def picture(path: Path, width: int = 64, height: int = 64) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((width, height)).save(path)
    return path


def test_an_image_file(tmp_path: Path, poking: str) -> None:
    image = picture(tmp_path / "plant.png")
    lines = run_heatmap([poking], str(image), ["20,31", "40,8"], tmp_path / "out" / "map", **OPTIONS)
    assert lines == [f"{tmp_path}/out/map-poking-small-plus.npz", f"{tmp_path}/out/map.png and .pdf"]
    written = np.load(tmp_path / "out" / "map-poking-small-plus.npz")
    assert written["1/map/complex"].shape == (64, 64)
    assert written["0/location"].tolist() == [20, 31]
    assert (tmp_path / "out" / "map.png").exists()


def test_half_precision_is_near_and_written_down(tmp_path: Path) -> None:
    """In bfloat16, which has 3 bits fewer than the float16 of a GPU."""
    trained = Path(__file__).parents[2] / "results" / "checkpoints" / "poking-small-warp.safetensors"
    written = []
    for half in (False, True):
        out = tmp_path / f"half-{half}" / "map"
        options = {**OPTIONS, "pokes": 8, "half": half}
        run_heatmap([f"poking:checkpoint={trained}"], "sim-pokes:sim-pokes-00000-ficus@000", [], out, **options)
        [path] = out.parent.glob("*.npz")
        _, found, facts = read_heatmaps(path)
        assert facts["half"] is half
        written.append([one.maps["complex"] for one in found])
    for plain, narrow in zip(*written, strict=True):
        assert 0 < float((narrow - plain).abs().mean()) < 0.02
        assert float(torch.corrcoef(torch.stack([plain.flatten(), narrow.flatten()]))[0, 1]) > 0.98


@pytest.mark.parametrize("size", [None, 64])
def test_an_image_of_any_size_goes_with_its_places_to_that_of_the_method(
    tmp_path: Path, poking: str, size: int | None
) -> None:
    """Pixel 95 of 160 has its middle at 95.5 * 64 / 160 = 38.2, which is 37.7 in pixels; corners stay inside."""
    image = picture(tmp_path / "plant.png", 160, 160)
    options = {**OPTIONS, "forms": ["complex"], "size": size}
    lines = run_heatmap([poking], str(image), ["95,20", "0,159"], tmp_path / "map", **options)
    assert lines[0] == f"{image}: resized from 160 to 64 px, where the places are (37.7, 7.7), (0, 63)"
    written = np.load(tmp_path / "map-poking-small-plus.npz")
    assert written["image"].shape == (3, 64, 64)
    assert written["0/location"].tolist() == [37.7, 7.7]


@pytest.mark.slow
def test_a_clip_of_a_data_set_is_scored_by_its_parts(tmp_path: Path, poking: str) -> None:
    image = "sim-pokes:sim-pokes-00008-orchid@000"
    lines = run_heatmap([poking], image, ["34,20"], tmp_path / "map", **{**OPTIONS, "forms": ["complex"]})
    assert "poking-small-plus at (34, 20): paper auc 0." in lines[1]


def test_true_physics_stands_beside_a_model_under_the_same_pokes(tmp_path: Path, poking: str) -> None:
    """Of the places chosen the first is that of the clip's poke; one more is beside the object."""
    image = "sim-pokes:sim-pokes-00008-orchid@000"
    options = {**OPTIONS, "forms": ["complex"]}
    lines = run_heatmap([poking, "oracle"], image, ["34,20", "2,2"], tmp_path / "map", **options)
    assert lines[0].endswith("map-oracle.npz")
    assert "oracle at (2, 2): beside the object: nothing moves, the map is empty" in lines
    truth, model = (np.load(tmp_path / f"map-{name}.npz") for name in ("oracle", "poking-small-plus"))
    assert (bool(truth["0/exact"]), bool(model["0/exact"])) == (True, False)
    np.testing.assert_array_equal(truth["0/displacements"], model["0/displacements"])
    assert truth["0/map/complex"][20, 34] > 0.999


def test_places_are_chosen_on_different_parts() -> None:
    clip = open_dataset("sim-pokes", size=64, length=11).load("sim-pokes-00001-human@000")
    assert clip.parts is not None
    assert clip.poke is not None
    found = places_of(clip, 4)
    assert len(found) == 4
    assert found[0] == tuple(clip.poke.location[0].tolist())
    assert len({int(clip.parts[int(y), int(x)]) for x, y in found}) == 4
    assert 0 not in {int(clip.parts[int(y), int(x)]) for x, y in found}
    assert found == places_of(clip, 4)
    assert found[1:] != places_of(clip, 4, seed=1)[1:]
    with pytest.raises(DataError, match="knows no parts and flow"):
        places_of(replace(clip, parts=None), 4)


@pytest.mark.parametrize(
    ("changes", "at", "message"),
    [
        ({}, "20;3", "expected x,y in px"),
        ({}, "20,64", r"--at 20,64: expected a place in .*plant.png, 0 <= x, y <= 63; give px of the file"),
        ({"forms": ["papers"]}, "2,3", "expected forms of paper, wrapped, complex"),
        ({"lengths": "long"}, "2,3", "lengths random or fixed, found 'long'"),
        ({}, None, "nothing says which places to poke"),
    ],
)
def test_bad_options(tmp_path: Path, poking: str, changes: dict[str, Any], at: str | None, message: str) -> None:
    image = picture(tmp_path / "plant.png")
    with pytest.raises(DataError, match=message):
        run_heatmap([poking], str(image), [at] if at else [], tmp_path / "map", **{**OPTIONS, **changes})


def test_bad_images_and_methods(tmp_path: Path, poking: str) -> None:
    with pytest.raises(DataError, match="there is no image file"):
        run_heatmap([poking], "nowhere.png", ["1,1"], tmp_path / "map", **OPTIONS)
    with pytest.raises(DataError, match="expected a square image, found 80 x 64 px"):
        run_heatmap([poking], str(picture(tmp_path / "a.png", 80)), ["1,1"], tmp_path / "map", **OPTIONS)
    image, options = str(picture(tmp_path / "b.png", 80, 80)), {**OPTIONS, "size": 80}
    with pytest.raises(MethodError, match="a heatmap needs methods that predict frames of 80 px: poking-small-plus "):
        run_heatmap([poking], image, ["1,1"], tmp_path / "map", **options)
    with pytest.raises(MethodError, match="copy-last-frame takes no pokes"):
        run_heatmap(["copy-last-frame"], str(picture(tmp_path / "c.png")), ["1,1"], tmp_path / "map", **OPTIONS)
