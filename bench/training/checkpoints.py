"""Checkpoints: written whole or not at all, kept by policy, and enough to go on exactly.

A checkpoint is a folder: `model.safetensors`, the weights that predict (self-describing, see
`methods/weights_file.py`), `state.safetensors`, all else that is a tensor, and `state.json`, all else, with the sha256
of both and a checksum of itself.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from bench.training.engine import Average
from bench.training.folder import writing
from bench.training.plan import PREDICTOR, Plan
from methods.training import Training
from methods.weights_file import fill, save_weights
from metrics.cache import sha256_of
from metrics.errors import TrainingError
from metrics.parsing import read_json, sealed, unsealed

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
PLACED = ("capturable", "foreach", "fused")
"""How an optimiser computes on this device; not part of its state."""
BEST = "best"


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        iteration: steps done.
        seconds: spent in them, over all runs.
        loader: state of the loader.
        best: best value of the validation metric so far; None: there is none.
        scaler: state of the gradient scaler of fp16.
    """

    iteration: int
    seconds: float
    loader: Mapping[str, Any]
    best: float | None = None
    scaler: Mapping[str, Any] | None = None


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: where they are; made on the first write.
        plan: of the training.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self._plan = folder, plan
        self._damaged: set[Path] = set()

    def all(self) -> list[Path]:
        """The numbered checkpoints, oldest first."""
        return sorted(self.folder.glob("step-[0-9]*"))

    def write(
        self,
        training: Training,
        average: Average | None,
        progress: Progress,
        facts: Mapping[str, Any],
        keep: int,
        best: bool = False,
    ) -> Path:
        """Writes a checkpoint and removes those that the policy no longer keeps, to which damaged ones do not count.

        Args:
            best: it is the best one so far, of which a copy is kept.

        Raises:
            TrainingError: it cannot be written; the older ones are untouched.
        """
        target = self.folder / f"step-{progress.iteration:08d}"
        temporary = self.folder / f".{target.name}.{os.getpid()}"
        with writing(f"the checkpoint {target}", f"the last good one is {self.newest() or 'none'}"):
            try:
                temporary.mkdir(parents=True, exist_ok=True)
                self._fill(temporary, training, average, progress, facts, best)
                if target.exists():
                    shutil.rmtree(target)
                temporary.rename(target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        with writing(f"the checkpoints in {self.folder}", f"{target} is whole"):
            if best:
                self._keep_best(target)
            self._damaged.discard(target)
            self._remove_before([path for path in self.all() if path not in self._damaged][-keep:][0])
        return target

    def tidy(self) -> None:
        """Removes what a killed process left half written or had to remove, and keeps the best checkpoint where it did
        not get to it.

        Raises:
            TrainingError: the folder cannot be written.
        """
        best, old = self.folder / BEST, self.folder / f".{BEST}.old"
        with writing(f"the checkpoints in {self.folder}"):
            if old.exists() and not best.exists():
                old.rename(best)
            for left in self.folder.glob(".*"):
                shutil.rmtree(left)
            whole = list(islice(self._whole(), self._plan.loop.keep))
            if whole:
                newest, oldest = whole[0], whole[-1]
                if len(whole) == self._plan.loop.keep:
                    self._remove_before(oldest)
                state = _state(newest)
                if state.get("is_best") and (_fault(best) or _state(best)["iteration"] < state["iteration"]):
                    self._keep_best(newest)

    def _keep_best(self, source: Path) -> None:
        target, temporary, old = (self.folder / name for name in (BEST, f".{BEST}.new", f".{BEST}.old"))
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)
        shutil.copytree(source, temporary)
        if target.exists():
            target.rename(old)
        temporary.rename(target)
        shutil.rmtree(old, ignore_errors=True)

    def newest(self) -> Path | None:
        """The newest whole checkpoint; damaged ones are passed over with a notice."""
        return next(self._whole(), None)

    def _whole(self) -> Iterator[Path]:
        """The whole checkpoints, newest first; damaged ones are passed over with a notice."""
        for path in reversed(self.all()):
            fault = _fault(path)
            if not fault:
                yield path
                continue
            self._damaged.add(path)
            log.warning("the checkpoint %s is damaged (%s); going back to the one before", path, fault)

    def _remove_before(self, oldest: Path) -> None:
        for path in self.all():
            if path < oldest:
                shutil.rmtree(path)

    def restore(self, path: Path, training: Training, average: Average | None) -> Progress:
        """Puts `training` into the state of a checkpoint.

        Raises:
            TrainingError: it was written under another plan, or by another version of the program.
            MethodError: its tensors do not fit the networks.
        """
        try:
            state = _state(path)
            tensors = load_file(path / "state.safetensors")
        except (OSError, ValueError, SafetensorError) as error:
            raise TrainingError(f"the checkpoint {path} cannot be read ({error}); remove it, and go on") from error
        if state["plan"] != self._plan.identity:
            raise TrainingError(
                f"{path} was written under another plan ({state['plan']}, this one is {self._plan.identity}). Give the "
                "same settings to go on, or another --out to start anew."
            )
        for name, network in training.networks.items():
            fill(network, _below(tensors, f"network/{name}/"), str(path))
        for name, optimizer in training.optimizers.items():
            _restore_optimizer(optimizer, state["optimizers"][name], _below(tensors, f"optimizer/{name}/"))
        if average is not None:
            for key, value in _below(tensors, "average/").items():
                average.tensors[key].copy_(value)
        return Progress(state["iteration"], state["seconds"], state["loader"], state["best"], state["scaler"])

    def _fill(
        self,
        folder: Path,
        training: Training,
        average: Average | None,
        progress: Progress,
        facts: Mapping[str, Any],
        best: bool,
    ) -> None:
        predictor = training.networks[PREDICTOR].state_dict() if average is None else average.tensors
        save_weights(
            folder / "model.safetensors",
            predictor,
            self._plan.method,
            self._plan.config(),
            {
                "recipe": self._plan.recipe,
                "plan": self._plan.identity,
                "command": self._plan.command,
                "steps": progress.iteration,
                "steps_before": 0 if self._plan.start is None else self._plan.start.steps,
                "seconds": round(progress.seconds, 1),
                **facts,
            },
        )
        tensors: dict[str, Tensor] = {}
        for name, network in training.networks.items():
            tensors |= {f"network/{name}/{key}": value for key, value in network.state_dict().items()}
        groups: dict[str, Any] = {}
        for name, optimizer in training.optimizers.items():
            groups[name], held = _optimizer_state(optimizer)
            tensors |= {f"optimizer/{name}/{key}": value for key, value in held.items()}
        if average is not None:
            tensors |= {f"average/{key}": value for key, value in average.tensors.items()}
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, folder / "state.safetensors")
        state = {
            "version": FORMAT_VERSION,
            "plan": self._plan.identity,
            "iteration": progress.iteration,
            "seconds": progress.seconds,
            "loader": dict(progress.loader),
            "best": progress.best,
            "is_best": best,
            "scaler": progress.scaler,
            "optimizers": groups,
            "sha256": {name: sha256_of(folder / name) for name in ("model.safetensors", "state.safetensors")},
        }
        (folder / "state.json").write_text(json.dumps(sealed(state), indent=1))
        for name in ("model.safetensors", "state.safetensors", "state.json"):
            with (folder / name).open("rb+") as stream:
                os.fsync(stream.fileno())


def _fault(path: Path) -> str:
    """What keeps a checkpoint from being read; "" when nothing does."""
    try:
        state = _state(path)
        if state["version"] != FORMAT_VERSION:
            return f"format version {state['version']}, this program reads {FORMAT_VERSION}"
        for name, digest in state["sha256"].items():
            if sha256_of(path / name) != digest:
                return f"{name} has another sha256 than when it was written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _state(path: Path) -> dict[str, Any]:
    return unsealed(read_json(path / "state.json"))


def _optimizer_state(optimizer: Optimizer) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Param groups as plain values, and the tensors as "index/name"."""
    state = optimizer.state_dict()
    groups = [{key: value for key, value in group.items() if key not in PLACED} for group in state["param_groups"]]
    for group in groups:
        group["lr"] = group.pop("rate", group["lr"])  # of steps that are recorded, whose rate is a tensor
    tensors = {
        f"{index}/{name}": value
        for index, held in state["state"].items()
        for name, value in held.items()
        if isinstance(value, Tensor)
    }
    return groups, tensors


def _restore_optimizer(optimizer: Optimizer, groups: list[dict[str, Any]], tensors: Mapping[str, Tensor]) -> None:
    held: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition("/")
        held.setdefault(int(index), {})[name] = value
    restored = [
        {k: tuple(v) if k == "betas" else v for k, v in group.items()} | {k: own[k] for k in PLACED if k in own}
        for group, own in zip(groups, optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({"state": held, "param_groups": restored})


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
