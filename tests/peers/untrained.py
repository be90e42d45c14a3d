"""Methods with the weights that their training begins with, narrower than their small recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from methods.training import TRAININGS
from methods.weights_file import save_weights

TRAINED = sorted(TRAININGS)
NARROWER: dict[str, dict[str, Any]] = {
    "poking": {"width": 32, "min_side": 32},
    "ivrnn": {"widths": (16, 16, 16, 16, 16, 32)},
    "hao": {"width": 4},
    "savp": {"generator_width": 6, "encoder_width": 8},
    "srvp": {"filters": 8},
}
"""What is smaller than in the small recipe of a training."""


def narrow_config(name: str) -> Any:
    """The configuration of the first small recipe at 64 px, with these widths."""
    recipes = TRAININGS.get(name).recipes
    names = [key for key, recipe in recipes.items() if recipe.data.get("size", 64) == 64]
    recipe = recipes[next(key for key in names if key.startswith("small"))]
    return type(recipe.model)(**{**recipe.model.model_dump(), **NARROWER.get(name, {})})


def untrained_method(name: str, folder: Path) -> str:
    """Writes weights into `folder`; returns the specification of the method with these."""
    path, config = folder / f"{name}.safetensors", narrow_config(name)
    save_weights(path, TRAININGS.get(name)(config, seed=1).networks["predictor"].state_dict(), name, config)
    return f"{name}:checkpoint={path}"
