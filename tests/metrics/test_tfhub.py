"""The TF-Hub backend: its errors, the exchange with its process, and the original module itself."""

from __future__ import annotations

import os
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from peers.clips import closed_form_pair, noise

from metrics import fvd, i3d_logits
from metrics.errors import PokeBenchError, VideoError, WeightsError
from metrics.fvd import BiasWarning
from metrics.resize import resize_video
from metrics.tfhub import PYTHON_VARIABLE, tfhub_logits

MODULE_VARIABLE = "POKEBENCH_I3D_MODULE"

STAND_IN_TENSORFLOW = """
    import numpy as np

    def reshape(array, shape):
        return np.reshape(array, shape)

    class compat:
        class v1:
            class image:
                @staticmethod
                def resize_bilinear(frames, size):
                    n, h, w, c = frames.shape
                    def axis(length, out):
                        at = np.arange(out) * length / out
                        low = np.floor(at).astype(int)
                        return low, np.minimum(low + 1, length - 1), at - low
                    (y0, y1, fy), (x0, x1, fx) = axis(h, size[0]), axis(w, size[1])
                    fy, fx = fy[None, :, None, None], fx[None, None, :, None]
                    rows = frames[:, y0] * (1 - fy) + frames[:, y1] * fy
                    return (rows[:, :, x0] * (1 - fx) + rows[:, :, x1] * fx).astype(np.float32)
"""

STAND_IN_HUB = """
    import numpy as np

    class Values:
        def __init__(self, array): self.array = array
        def numpy(self): return self.array

    class Loaded:
        @staticmethod
        def default(rgb_input):
            assert rgb_input.shape[2:] == (224, 224, 3), rgb_input.shape
            if len(rgb_input) > 2: raise SystemExit("batch too large")
            return {"default": Values(rgb_input.mean((2, 3)).reshape(len(rgb_input), -1).astype(np.float32))}
        signatures = {"default": default}

    def load(module):
        return Loaded
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    (tmp_path / "module").mkdir()
    (tmp_path / "module" / "saved_model.pb").touch()
    return tmp_path / "module"


def use_packages(folder: Path, monkeypatch: pytest.MonkeyPatch, **sources: str) -> None:
    """Puts packages of these names and sources in front of the child's path."""
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv(PYTHON_VARIABLE, sys.executable)


def test_module_is_asked_for() -> None:
    with pytest.raises(WeightsError, match="folder of the TF-Hub module"):
        tfhub_logits(noise(0, 1, 9, 8, 8), None)


def test_folder_without_a_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"saved_model\.pb.*found none in"):
        tfhub_logits(noise(0, 1, 9, 8, 8), tmp_path)


def test_too_few_frames_are_refused(module: Path) -> None:
    with pytest.raises(VideoError, match="at least 9 frames"):
        tfhub_logits(noise(0, 1, 8, 8, 8), module)


@pytest.mark.parametrize("missing", ["tensorflow", "tensorflow_hub", "pkg_resources"])
def test_a_missing_package_names_the_extra(
    missing: str, module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = f"raise ModuleNotFoundError(\"No module named '{missing}'\", name='{missing}')"
    sources = {"tensorflow": STAND_IN_TENSORFLOW, "tensorflow_hub": STAND_IN_HUB}
    sources["tensorflow" if missing == "tensorflow" else "tensorflow_hub"] = absent
    use_packages(tmp_path, monkeypatch, **sources)
    with pytest.raises(PokeBenchError, match=rf"needs the package {missing}.*pokebench\[tf\].*{PYTHON_VARIABLE}"):
        tfhub_logits(noise(0, 1, 9, 8, 8), module)


def test_an_interpreter_that_does_not_exist_is_named(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, "/nowhere/python")
    with pytest.raises(PokeBenchError, match=r"/nowhere/python cannot be started"):
        tfhub_logits(noise(0, 1, 9, 8, 8), module)


def test_a_failing_process_shows_its_last_words(module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_packages(
        tmp_path, monkeypatch, tensorflow=STAND_IN_TENSORFLOW, tensorflow_hub="def load(m): raise OSError('cut short')"
    )
    with pytest.raises(PokeBenchError, match=r"process failed \(1\):(.|\n)*cut short"):
        tfhub_logits(noise(0, 1, 9, 8, 8), module)


def test_videos_and_logits_pass_through_the_process(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With stand-ins for both packages: the network is a mean, so the preprocessing shows. Batches of two."""
    use_packages(tmp_path, monkeypatch, tensorflow=STAND_IN_TENSORFLOW, tensorflow_hub=STAND_IN_HUB)
    video = noise(1, 5, 9, 20, 28)
    found = tfhub_logits(video, module, batch_size=2)
    expected = (2 * resize_video(video, 224) - 1).mean((3, 4)).flatten(1)
    assert found.dtype == torch.float32
    assert found.numpy() == pytest.approx(expected.numpy(), abs=1e-5)


def test_the_child_imports_no_module_of_this_folder_by_accident(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`import cache` in some package must not find the file beside the worker; torch must stay out."""
    check = """
    import sys
    try:
        import cache
    except ModuleNotFoundError:
        pass
    else:
        raise SystemExit("the folder of the worker is on the path")
    assert "torch" not in sys.modules and "metrics" not in sys.modules
    """
    use_packages(tmp_path, monkeypatch, tensorflow=check + STAND_IN_TENSORFLOW, tensorflow_hub=STAND_IN_HUB)
    assert tfhub_logits(noise(2, 1, 9, 8, 8), module).shape == (1, 27)


@pytest.mark.tf
class TestOriginalModule:
    @pytest.fixture
    def original(self) -> str:
        folder = os.environ.get(MODULE_VARIABLE)
        if not folder:
            pytest.skip(f"set {MODULE_VARIABLE} to the folder of the TF-Hub module i3d-kinetics-400")
        return folder

    def test_logits_agree(self, original: str) -> None:
        video = torch.cat([*closed_form_pair(), noise(3, 1, 10, 64, 64)])
        theirs, ours = tfhub_logits(video, original), i3d_logits(video)
        assert theirs[0, :4].tolist() == pytest.approx([5.50112, 1.93749, 1.18126, 2.01728], abs=2e-4)
        assert (theirs - ours).abs().max() < 2e-4
        assert ((theirs - ours).norm(dim=1) / theirs.norm(dim=1)).max() < 1e-5

    def test_fvd_agrees(self, original: str) -> None:
        small = torch.nn.functional.interpolate(noise(4, 16, 10, 8, 8).flatten(0, 1), size=(48, 64), mode="bilinear")
        target = small.unflatten(0, (16, 10))
        pred = torch.lerp(target, noise(5, 16, 10, 48, 64), 0.3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BiasWarning)
            ours, theirs = fvd(pred, target), fvd(pred, target, backend="tfhub", module=original)
        assert theirs.value == pytest.approx(ours.value, rel=1e-5)
        assert theirs.standard_error == pytest.approx(ours.standard_error, rel=1e-4)
        assert np.isfinite(theirs.bias_corrected)
