"""The trainings that a suite asks for: what `bench train --suite` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.protocol import Protocol
from bench.suite_file import SuiteTraining, load_suite
from bench.training.plan import Plan, make_plan
from methods.training import TRAININGS
from metrics.errors import TrainingError

TRAINED = Path("out/train")
"""Where the methods of suites look for what was trained for them: in SUITE/METHOD-RECIPE, or, for a seed N other than
0, in SUITE/METHOD-RECIPE-seedN."""


def chosen_plans(
    suite: str | None,
    method: str | None = None,
    recipe: str | None = None,
    pairs: Sequence[str] = (),
    data: str | None = None,
    start: Path | None = None,
    out: Path | None = None,
) -> list[tuple[Plan, Path]]:
    """What `bench train` is to do: plans, each with its folder.

    Args:
        suite: gives data set, frame size, horizon, frame rate, flow, pokes and tracks, and recipes; each recipe gives
            the rest. None: the method's recipe alone.
        method, recipe: those alone; with a suite, None stands for all of its.
        pairs, data, start: what is replaced beyond that; see `make_plan`.
        out: folder of the one training.

    Raises:
        TrainingError: the suite trains no such method, `out` or `start` for several trainings, no method at all, or a
            plan is not valid.
        ProtocolError: no such suite.
        RegistryError: no such method.
    """
    if suite is None:
        if method is None:
            raise TrainingError(f"say what to train, one of {', '.join(TRAININGS)}, or give a suite with --suite")
        plan = make_plan(method, recipe, pairs, data, start)
        return [(plan, out or TRAINED / f"{method}-{plan.recipe}")]
    found = load_suite(suite)
    chosen = [
        entry
        for entry in found.training
        if (method is None or entry.method == method) and (recipe is None or entry.recipe == recipe)
    ]
    if not chosen:
        wanted = " ".join(filter(None, (method, recipe))) or "anything"
        known = ", ".join(f"{entry.method} ({entry.recipe})" for entry in found.training) or "nothing"
        raise TrainingError(f"the suite {found.name} does not train {wanted}; it trains: {known}")
    seeded = [(entry, seed) for entry in chosen for seed in _seeds(entry, pairs)]
    if len(seeded) > 1 and (out is not None or start is not None):
        names = ", ".join(f"{entry.method} ({entry.recipe}{_mark(seed)})" for entry, seed in seeded)
        raise TrainingError(f"--out and --start are for one training, and these are {len(seeded)}: {names}")
    given = _given(found.protocol)
    return [
        (
            make_plan(
                entry.method,
                entry.recipe,
                (*entry.set, f"loop.seed={seed}", *pairs),
                data,
                start or entry.start,
                given=given,
            ),
            out or TRAINED / found.name / f"{entry.method}-{entry.recipe}{_mark(seed)}",
        )
        for entry, seed in seeded
    ]


def _seeds(entry: SuiteTraining, pairs: Sequence[str]) -> tuple[int, ...]:
    """Those of the suite; where the user gives one, that alone."""
    given = [text for key, _, text in (pair.partition("=") for pair in pairs) if key == "loop.seed"]
    return (int(given[-1]),) if given and given[-1].isdecimal() else entry.seeds


def _mark(seed: int) -> str:
    return f"-seed{seed}" if seed else ""


def _given(protocol: Protocol) -> dict[str, Any]:
    """Fields of a training's data that are as in the protocol. The context is the recipe's: methods differ in it."""
    given: dict[str, Any] = {
        "dataset": protocol.dataset,
        "size": protocol.size,
        "horizon": protocol.horizon,
        "frame_rate": protocol.frame_rate,
        "flow": protocol.flow,
    }
    given |= {} if protocol.poke is None else {"poke": protocol.poke}
    return given | ({} if protocol.tracks is None else {"tracks": protocol.tracks})
