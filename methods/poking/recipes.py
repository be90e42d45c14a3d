"""Named ways to train the poking model.

What the full-size recipes change of the released program's training:

- They last 300,000 steps (there: 1,000 epochs), and the weights of the last one count (there also the best by LPIPS).
- Clips are augmented as there, colour and geometry with probability 0.8 each, but vectors of flow turn with the picture
  (`bench/data/augment.py`). The paper names no augmentation, and "paper" has none.
- No recipe draws pokes beside the object, as in the released configuration (custom_sampler: False). The paper trains
  with them, and so do the suites of its tables: data.poke.background=0.125, the released sampler's one in eight.
- Human3.6M: the losses see the whole frame (there: a box around the moving foreground).
"""

from __future__ import annotations

from typing import Any

from methods.poking.config import PokingConfig
from methods.training import Recipe

DATA: dict[str, Any] = {"size": 64, "context": 1, "horizon": 10}
AUGMENTED: dict[str, Any] = {**DATA, "augmentation": {"colour": 0.8, "geometry": 0.8}}
"""The released program's ranges are the defaults of `bench.data.augment.Augmentation`."""

PAPER: dict[str, Any] = {
    "stages_of_training": "two",
    "form": "paper",
    "reconstruction_weight": 1.0,
    "trajectory_weight": 0.1,
    "patch_weight": 0.2,
    "temporal_weight": 1.0,
    "temporal_matching": 0.0,
    "patch_penalty": 0.0,
    "temporal_penalty": 0.0,
    "gan_start": 0,
    "betas": (0.9, 0.99),
    "rate_milestones": (),
}
"""Section 4.1 of the paper, equation 8. It names no other term, schedule or start, so there is none."""

SMALL: dict[str, Any] = {
    "width": 64,
    "hold": 4.0,
    "perceptual": "vgg16",
    "perceptual_form": "lpips",
    "perceptual_frames": 2,
    "gan": False,
    "learning_rate": 1e-3,
    "rate_milestones": (),
    "rate_cooldown": 0.3,
}
"""1,026,723 parameters, for a CPU. LPIPS (VGG) on two frames a clip, no discriminators, states that begin by holding
still, a rate that falls to zero at the end."""

WARP: dict[str, Any] = {"decoder": "warp", "motion_weight": 0.2, "still_weight": 5.0, "poke_weight": 0.6}
"""The variant that moves x0 and leaves alone what does not move. It also learns from the flow that gives its pokes.
With a still_weight of 1 much moves along by mistake (results/README.md)."""

PLUS: dict[str, Any] = {**WARP, "poke_encoder": "plus"}
"""The same with a poke encoder that sees how far one pokes."""

SMALL_WARP: dict[str, Any] = {**WARP, "motion_weight": 0.8, "poke_weight": 1.6, "hold": 0.0}
"""Beside LPIPS the flow needs more weight than beside mean absolute differences, or the poked point lags behind.
Untrained, the decoder shows the still image whatever the states are: they need not begin by holding still."""

SMALL_PLUS: dict[str, Any] = {**PLUS, **SMALL_WARP, "learning_rate": 4e-4}
"""At the rate of the others, trainings with some seeds ended behind copying (results/README.md)."""

ABLATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "rnn-1": ({"predictor": "rnn", "rnn_cells": 1}, "one GRU cell at the bottleneck"),
    "rnn-2": ({"predictor": "rnn", "rnn_cells": 2}, "two GRU cells at the bottleneck"),
    "rnn-3": ({"predictor": "rnn", "rnn_cells": 3}, "three GRU cells at the bottleneck (table 3, RNN)"),
    "levels-1": ({"levels": 1}, "only the lowest level recurs and is drawn from"),
    "levels-2": ({"levels": 2}, "the two lowest levels recur and are drawn from"),
    "no-trajectory": ({"trajectory_weight": 0.0}, "without the trajectory loss (table 3)"),
    "single-stage": ({"stages_of_training": "single"}, "everything from the dynamics losses at once (table 3)"),
}
"""What each ablation changes. They exist at full size, as "rnn-1", at small size, as "small-rnn-1", and of the variant
that sees lengths, as "small-plus-rnn-1"."""

PLUS_ABLATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "no-flow": ({"motion_weight": 0.0, "poke_weight": 0.0}, "without learning from flow"),
}
"""What takes a part of plus away, as "small-plus-no-flow"."""


def _recipe(name: str, summary: str, changes: dict[str, Any], small: bool = False) -> Recipe:
    data = DATA if small or name == "paper" else AUGMENTED
    loop: dict[str, Any] = {"batch_size": 10, "steps": 300_000}
    if small:
        changes = {**SMALL, **changes}
        loop = {"batch_size": 4, "steps": 3000, "ema": 0.995}
    return Recipe(PokingConfig(recipe=name, **changes), data, loop, summary)


def _recipes() -> dict[str, Recipe]:
    recipes = {
        "official": _recipe("official", "the released program: alternating steps, two discriminators", {}),
        "paper": _recipe("paper", "the paper: images first, then dynamics; its weights and losses", PAPER),
        "warp": _recipe("warp", "as official, with a decoder that moves x0 and learns from flow", WARP),
        "plus": _recipe("plus", "as warp, with a poke encoder that sees lengths", PLUS),
        "small": _recipe("small", "1 M parameters, for a CPU, without discriminators", {}, small=True),
        "small-gan": _recipe(
            "small-gan", "as small, with discriminators", {"gan": True, "gan_start": 1000}, small=True
        ),
        "small-warp": _recipe("small-warp", "as small, with the decoder of warp", SMALL_WARP, small=True),
        "small-plus": _recipe("small-plus", "as small-warp, with the poke encoder of plus", SMALL_PLUS, small=True),
    }
    for name, (changes, summary) in ABLATIONS.items():
        recipes[name] = _recipe(name, f"as official: {summary}", changes)
        recipes[f"small-{name}"] = _recipe(f"small-{name}", f"as small: {summary}", changes, small=True)
    for name, (changes, summary) in {**ABLATIONS, **PLUS_ABLATIONS}.items():
        name, changes = f"small-plus-{name}", {**SMALL_PLUS, **changes}
        recipes[name] = _recipe(name, f"as small-plus: {summary}", changes, small=True)
    return recipes


RECIPES = _recipes()
