"""`bench check`: lines, exit status, and clips of a data set."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.check import data_source, run_check

LISTINGS = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[2] / "README.md").read_text(), re.DOTALL)


@pytest.fixture
def tutorial(tmp_path):
    [text] = [text for text in LISTINGS if "class FadeToGrey" in text]
    file = tmp_path / "my_method.py"
    file.write_text(text)
    return file


def test_the_tutorial_method_passes(tutorial, bench):
    status, out, err = bench("check", f"{tutorial}:FadeToGrey:speed=0.1", "--size", 24, "--device", "cpu")
    assert status == 0, out + err
    lines = out.splitlines()
    assert re.search(r"\d+ passed, 0 failed, 1 measured, \d+ not applicable$", lines[-1])
    assert (
        len(
            {
                line.index(word)
                for line in lines[:-1]
                for word in (" passed", " measured", " not appl")
                if word in line[:26]
            }
        )
        == 1
    )


def test_a_fault_is_exit_status_1(tutorial, bench):
    tutorial.write_text(tutorial.read_text().replace("+ weight * 0.5", "+ weight * 2"))
    status, out, _ = bench("check", f"{tutorial}:FadeToGrey:speed=0.1", "--size", 24, "--device", "cpu")
    assert status == 1
    assert re.search(
        r"^range +failed +expected values in \[0, 1\]; found \[0\.\d+, \d.*\. Use clamp", out, re.MULTILINE
    )
    assert "1 failed" in out


def test_a_method_that_does_not_exist_is_one_clear_error(bench):
    status, _, err = bench("check", "copy-lst-frame")
    assert status == 1
    assert "copy-last-frame" in err


def test_clips_of_a_folder(tmp_path):
    import cv2

    for number in range(3):
        (tmp_path / f"clip{number}").mkdir()
        texture = cv2.GaussianBlur(
            np.random.default_rng(number).integers(0, 256, (40, 80, 3)).astype(np.uint8), (0, 0), 2
        )
        for t in range(30):
            cv2.imwrite(str(tmp_path / f"clip{number}" / f"{t:04d}.png"), texture[:32, t : t + 32])
    clips = data_source(str(tmp_path))(32, 2, 10)
    assert {tuple(clip.frames.shape) for clip in clips} == {(12, 3, 32, 32)}
    said: list[str] = []
    assert run_check("flow-warp", said.append, device=torch.device("cpu"), size=32, data=str(tmp_path))
    assert "these clips have no poke" in "\n".join(said)
