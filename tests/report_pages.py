"""A small report that the tests of its HTML and of its behaviour in a browser share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from conftest import DriftingDiscs

from bench.evaluate import evaluate
from bench.protocol import Protocol
from bench.report.collect import SuiteReport, collect
from bench.report.page import render
from bench.store import Store
from bench.suite_file import Suite
from methods.registry import build_method

HOSTILE = "<img src=x onerror=hacked=1></script><script>hacked=1</script>\"'&{{ 7*7 }}"
"""What a method may call itself, and must be shown as it is."""

METHOD = '''
import torch
from methods.interface import MethodCard

class Mine:
    """x0, darkened, with noise."""

    def __init__(self):
        self.card = MethodCard(name="mine", title=TITLE, revision="1", stochastic=True, notes=TITLE,
                               weights={"w": "0" * 64})

    def prepare(self, device):
        PREPARE

    def predict(self, conditioning, samples, seed):
        shape = (samples, conditioning.horizon, *conditioning.x0.shape[1:])
        noise = torch.stack([torch.rand(shape, generator=g) for g in conditioning.generators(seed)])
        return FACTOR * conditioning.x0[:, None, None] + 0.2 * noise
'''


def write_method(folder: Path, *, factor: float = 0.7, prepare: str = "pass") -> str:
    """A method with a hostile title in a file; its specification."""
    path = folder / "mine.py"
    text = METHOD.replace("TITLE", repr(HOSTILE)).replace("FACTOR", str(factor)).replace("PREPARE", prepare)
    path.write_text(text)
    return f"{path}:Mine"


@dataclass(frozen=True)
class Page:
    """A report and what it was made from: pokes, two samples and PSNR and SSIM; and a shorter one without FVD."""

    html: str
    folder: Path
    data: tuple[DriftingDiscs, DriftingDiscs]
    suites: tuple[Suite, Suite]
    reports: tuple[SuiteReport, SuiteReport]

    @property
    def store(self) -> Path:
        return self.folder / "store"


def make_page(folder: Path) -> Page:
    data = DriftingDiscs(), DriftingDiscs(clips=16, length=7, name="short")
    long = Protocol(dataset="discs", size=32, metrics=("psnr", "ssim"), samples=2, poke={}, flow="dis")
    short = Protocol(dataset="short", size=32, context=1, horizon=6, metrics=("fvd", "ssim"))
    mine = write_method(folder)
    suites = (
        Suite(name="long", title="Long", protocol=long, methods=("copy-last-frame", "noisy-truth:sigma=0.05", mine)),
        Suite(name="short", title="Short", protocol=short, methods=("copy-last-frame", "context-mean")),
    )
    reports = []
    for suite, dataset in zip(suites, data, strict=True):
        methods = [build_method(spec) for spec in suite.methods]
        evaluate(methods, dataset, suite.protocol, Store(folder / "store"))
        reports.append(collect(suite, dataset, folder / "store"))
    return Page(render(reports), folder, data, suites, tuple(reports))
