"""The programs that faults are injected into. Run by itself, it forks a process for every program it is asked for."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import lightning.fabric  # noqa: F401 - imported before the fork, as the next
import torch
import torch.utils.tensorboard
from conftest import Convolved, DriftingDiscs
from peers.tiny_training import TinyTraining

from bench.evaluate import evaluate
from bench.flow.registry import DEFAULT
from bench.protocol import Protocol
from bench.store import Store
from bench.train import make_fabric, train
from bench.training.feed import TrainingData
from bench.training.plan import Plan, make_plan
from methods.training import TRAININGS
from metrics.errors import PokeBenchError

NAMES = ("first", "second")
PLAN = (
    f"data.flow={DEFAULT}",
    "loop.log_every=1",
    "loop.checkpoint_every=2",
    "loop.validate_every=3",
    'loop.validation_metrics=["psnr"]',
    "loop.best=psnr",
    "loop.ema=0.9",
)


class Counting(Convolved):
    """Notes which clips it was asked for.

    Args:
        calls: the file that gets a line of JSON for every call.
        seconds: spent in every call besides.
    """

    def __init__(self, name: str, calls: Path | None = None, seconds: float = 0) -> None:
        super().__init__(name)
        self._file, self._seconds = calls, seconds

    def predict(self, conditioning: Any, samples: int, seed: int) -> torch.Tensor:
        if self._file is not None:
            with self._file.open("a") as stream:
                stream.write(json.dumps([self.card.name, list(conditioning.clip_ids)]) + "\n")
        time.sleep(self._seconds)
        return super().predict(conditioning, samples, seed)


def protocol() -> Protocol:
    return Protocol(dataset="discs", size=32, metrics=("psnr", "ssim"), min_clips=4, samples=1, horizon=10)


def run_evaluation(store: str, clips: int = 36, calls: str | None = None, seconds: float = 0) -> None:
    """Evaluates two cheap methods."""
    file = None if calls is None else Path(calls)
    methods = [Counting(name, file, seconds) for name in NAMES]
    evaluate(methods, DriftingDiscs(clips), protocol(), Store(Path(store)), batch_size=4)


class SlowTraining(TinyTraining):
    """As long as a test needs it."""

    seconds = 0.0

    def step(self, parts: Any, engine: Any) -> dict[str, torch.Tensor]:
        time.sleep(self.seconds)
        return super().step(parts, engine)


def plan(*pairs: str) -> Plan:
    return make_plan("tiny", None, [*PLAN, *pairs])


def training_data() -> TrainingData:
    return TrainingData(DriftingDiscs(18, length=11), DriftingDiscs(6, length=11, name="held-out"))


def run_training(out: str, seconds: float = 0, workers: int = 0, steps: int = 12) -> None:
    """Trains a tiny model."""
    SlowTraining.seconds = seconds
    made = plan(f"loop.steps={steps}")
    train(made, Path(out), data=training_data(), fabric=make_fabric("fp32", "cpu"), workers=workers)


PROGRAMS = {"evaluate": run_evaluation, "train": run_training}


def kill_at(place: str, count: int) -> None:
    """Arranges that this process is killed when it comes to a place for the `count`-th time."""
    came = [0]

    def here(halfway: Any = None) -> None:
        came[0] += 1
        if came[0] == count:
            if halfway is not None:
                halfway()
            os.kill(os.getpid(), signal.SIGKILL)

    write_bytes, write_text, replace = Path.write_bytes, Path.write_text, Path.replace
    unlink, rename, rmtree = Path.unlink, Path.rename, shutil.rmtree

    def bytes_(path: Path, content: bytes) -> int:
        kind = "part" if ".partial" in path.parts else "rows" if path.name.startswith(".rows-") else ""
        if place == f"half of the {kind} written":
            here(lambda: write_bytes(path, content[: len(content) // 2]))
        return write_bytes(path, content)

    def text(path: Path, content: str, *arguments: Any, **keywords: Any) -> int:
        if place == "rows written, record not begun" and path.name.startswith(".record.json"):
            here()
        if place == "half of the record written" and path.name.startswith(".record.json"):
            here(lambda: write_text(path, content[: len(content) // 2]))
        if place == "half of the checkpoint written" and path.name == "state.json":
            here(lambda: write_text(path, content[: len(content) // 2]))
        if place == "half of the log rewritten" and path.name.startswith(".log.jsonl"):
            here(lambda: write_text(path, content[: len(content) // 2]))
        return write_text(path, content, *arguments, **keywords)

    def replaced(path: Path, target: Path) -> Path:
        if place == "part written, not named" and ".partial" in path.parts:
            here()
        return replace(path, target)

    def unlinked(path: Path, missing_ok: bool = False) -> None:
        if (
            place == "parts being removed"
            and ".partial" in path.parts
            and path.name[0] != "."
            and path.suffix != ".lock"
        ):
            here()
        if place == "lock being removed" and path.suffix == ".lock":
            here()
        unlink(path, missing_ok)

    def renamed(path: Path, target: Path) -> Path:
        if place == "checkpoint written, not named" and path.name.startswith(".step-"):
            here()
        if place == "best checkpoint being replaced" and path.name == ".best.new":
            here()
        return rename(path, target)

    def removed(path: Path, *arguments: Any, **keywords: Any) -> None:
        if place == "old checkpoint being removed" and path.name.startswith("step-"):
            here(lambda: unlink(path / "state.safetensors"))
        rmtree(path, *arguments, **keywords)

    def copied(*arguments: Any, **keywords: Any) -> Any:
        if place == "best checkpoint not begun":
            here()
        return copytree(*arguments, **keywords)

    copytree = shutil.copytree
    patches = {"write_bytes": bytes_, "write_text": text, "replace": replaced, "unlink": unlinked, "rename": renamed}
    for name, patched in patches.items():
        setattr(Path, name, patched)
    shutil.rmtree, shutil.copytree = removed, copied


def become(program: str, said: str, options: dict[str, Any]) -> None:
    """Runs a program in this process, with the exits of the command line, and ends."""
    handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    status = 0
    try:
        place = options.pop("kill_at", None)
        if place is not None:
            kill_at(*place)
        PROGRAMS[program](**options)
    except PokeBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt as stop:
        print(f"stopped: {stop}", file=sys.stderr)
        status = 130
    except BaseException:
        traceback.print_exc()
        status = 3
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    """Answers requests until there are no more."""
    torch.set_num_threads(1)
    TRAININGS._loaded["tiny"] = SlowTraining

    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                become(request["start"], request["said"], request["options"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    os._exit(0)  # there is nothing to tidy up, and torch takes seconds for it


if __name__ == "__main__":
    main()
