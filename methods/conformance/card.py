"""Items on what a method says of itself, and on what it costs."""

from __future__ import annotations

import re
import time
from typing import Any

import torch
from torch import nn

from methods.conformance.base import Check, Result
from methods.conformance.outcome import named
from methods.conformance.subject import Subject
from methods.interface import PROMISES, MethodCard, method_fault


class Card(Check):
    """The card is complete and sensible, and every build has the same."""

    name = "card"

    def run(self, subject: Subject) -> Result:
        card = subject.card
        cure = "Correct the MethodCard."
        fault = method_fault(subject.method)
        if fault:
            return self.failed("a method", fault, cure)
        for expected, found in _card_faults(card):
            return self.failed(expected, found, cure)
        again = subject.build().card
        if again != card:
            return self.failed("the same card from every build", "another one", "Let it depend on the options alone.")
        held = _held_parameters(subject.method)
        if held and not card.parameters:
            return self.failed(
                "the number of trained parameters", f"0, and networks with {held:,}", "Set `parameters` in the card."
            )
        sizes = "any size" if card.sizes is None else f"{named(card.sizes)} px"
        horizons = "any horizon" if card.horizons is None else f"{named(card.horizons)} frames"
        inputs = ", ".join(sorted(card.inputs)) or "no input"
        kind = "stochastic" if card.stochastic else "deterministic"
        return self.passed(
            f"{card.name}, revision {card.revision}: {inputs}; {kind}; {card.min_context} or more context frames, "
            f"{sizes}, {horizons}"
        )


class Cost(Check):
    """Seconds a clip, memory, parameters."""

    name = "cost"

    def run(self, subject: Subject) -> Result:
        cuda = subject.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats(subject.device)
            torch.cuda.synchronize(subject.device)
        started = time.perf_counter()
        subject.predict(subject.usual, samples=1)
        if cuda:
            torch.cuda.synchronize(subject.device)
        clips = len(subject.usual.conditioning.clip_ids)
        seconds = (time.perf_counter() - started) / clips
        if cuda:
            memory = f"at most {torch.cuda.max_memory_allocated(subject.device) / 1e6:.0f} MB on the device"
        else:
            memory = f"at most {_peak_bytes() / 1e6:.0f} MB resident in the whole process"
        return self.measured(
            f"{seconds:.3g} s a clip ({clips} at once, {subject.device}, threads: {torch.get_num_threads()}), "
            f"{memory}, {subject.card.parameters:,} parameters"
        )


def _card_faults(card: MethodCard) -> list[tuple[str, str]]:
    """What is wrong with a card, as what was expected and what was found."""
    faults = [
        (f"a {name} without spaces around it", repr(value))
        for name, value in (("name", card.name), ("title", card.title), ("revision", card.revision))
        if not isinstance(value, str) or not value or value != value.strip()
    ]
    for name, value in (("sizes", card.sizes), ("horizons", card.horizons)):
        if value is not None and (not value or not all(_is_count(number, 1) for number in value)):
            faults.append((f"{name} as whole numbers from 1, or None for any", repr(value)))
    for name, number, least in (("min_context", card.min_context, 1), ("parameters", card.parameters, 0)):
        if not _is_count(number, least):
            faults.append((f"{name} as a whole number from {least}", repr(number)))
    if not isinstance(card.stochastic, bool):
        faults.append(("stochastic as True or False", repr(card.stochastic)))
    for file, digest in card.weights.items():
        if not re.fullmatch("[0-9a-f]{64}", digest):
            faults.append((f"the sha256 of the weights {file}", repr(digest)))
    unknown = card.promises - set(PROMISES)
    if unknown or (card.promises and "poke" not in card.inputs):
        faults.append((f"promises of {', '.join(PROMISES)}, of a method that takes pokes", repr(set(card.promises))))
    return faults


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _held_parameters(method: Any) -> int:
    """Parameters of the networks that a method holds as attributes."""
    networks = [value for value in vars(method).values() if isinstance(value, nn.Module)]
    return sum(parameter.numel() for network in networks for parameter in network.parameters())


def _peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
