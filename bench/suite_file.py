"""A suite is one table: a .toml file of `bench/suites/` or of the user's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.protocol import Protocol
from bench.text import faults
from metrics.errors import ProtocolError
from metrics.parsing import parse_toml

ROOT = Path(__file__).resolve().parent.parent
SUITES = Path(__file__).resolve().parent / "suites"
PUBLISHED = "results/"
"""How the suites that come with the program name files of `results/`, from wherever the program is run."""


class SuiteTraining(BaseModel):
    """How one of a suite's methods is trained: `bench train METHOD --suite SUITE`.

    Attributes:
        method: name of a trainable method.
        recipe: one of its recipes. The suite gives data, size and horizon.
        set: what else differs from the recipe, as `bench train --set` takes it.
        seeds: it is trained once with each; rows of several seeds are followed by their spread.
        start: weights file that it begins from; None: anew.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    recipe: str
    set: tuple[str, ...] = ()
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    start: str | None = None


class Suite(BaseModel):
    """One table: a protocol, the methods on it, and how these are trained.

    A file may begin with `base = "OTHER"`: what it leaves out is as in that suite, also in `[protocol]`. In its
    methods, "{suite}" stands for its own name.

    Attributes:
        name: of the file, without its ending, below `bench/suites/`.
        title: heading of the table.
        protocol: what is shown and scored.
        methods: specifications "name" or "name:option=value,...", in the order of the rows.
        training: one entry for each method that has to be trained, at most one of a method and recipe.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    protocol: Protocol
    methods: tuple[str, ...] = Field(min_length=1)
    training: tuple[SuiteTraining, ...] = ()


def suite_names() -> list[str]:
    """The suites that come with the program; those of the paper's own data begin with "paper/"."""
    return sorted(path.relative_to(SUITES).with_suffix("").as_posix() for path in SUITES.rglob("*.toml"))


def load_suite(name_or_path: str, overrides: Mapping[str, Any] | None = None) -> Suite:
    """Reads a suite by name, or from a .toml file of the user's.

    Args:
        name_or_path: a name of `suite_names()`, or a path that ends in ".toml".
        overrides: protocol fields that replace those of the file; they change the hash.

    Raises:
        ProtocolError: no such suite, not valid TOML, or a field that is unknown or out of range.
    """
    content = _read(name_or_path, ())
    content["protocol"] = {**content.get("protocol", {}), **(overrides or {})}
    name = Path(name_or_path).stem if name_or_path.endswith(".toml") else name_or_path
    try:
        suite = Suite(name=name, **content)
    except ValidationError as error:
        raise ProtocolError(f"suite {name_or_path}: {faults(error, 'suite')}") from error
    except TypeError as error:
        raise ProtocolError(f"suite {name_or_path}: {error}") from error
    return suite.model_copy(update={"methods": tuple(spec.replace("{suite}", name) for spec in suite.methods)})


def _located(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a suite that comes with the program, with whole paths to its files of `results/`."""
    located = dict(content)
    if "methods" in content:
        located["methods"] = [spec.replace(f"={PUBLISHED}", f"={ROOT / PUBLISHED}/") for spec in content["methods"]]
    if "training" in content:
        located["training"] = [
            entry | {"start": str(ROOT / entry["start"])} if entry.get("start", "").startswith(PUBLISHED) else entry
            for entry in content["training"]
        ]
    return located


def _read(name_or_path: str, above: tuple[str, ...]) -> dict[str, Any]:
    """The content of a suite file over that of its base; `above`: the suites that this one is the base of."""
    if name_or_path in above:
        raise ProtocolError(f"suite {name_or_path} is its own base: {' -> '.join((*above, name_or_path))}")
    if name_or_path.endswith(".toml"):
        path = Path(name_or_path)
        if not path.is_file():
            raise ProtocolError(f"there is no suite file {path}")
    elif name_or_path in suite_names():
        path = SUITES / f"{name_or_path}.toml"
    else:
        raise ProtocolError(
            f"unknown suite {name_or_path!r}; there are: {', '.join(suite_names())}; or give the path of a .toml file"
        )
    try:
        content = parse_toml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ProtocolError(f"the suite file {path} cannot be read as text ({error}); write it in UTF-8") from error
    except OSError as error:
        raise ProtocolError(f"the suite file {path} cannot be read ({error}); make it readable") from error
    except ValueError as error:
        raise ProtocolError(f"suite {name_or_path} is not valid TOML: {error}") from error
    if not name_or_path.endswith(".toml"):
        content = _located(content)
    base = content.pop("base", None)
    stated = content.get("protocol", {})
    if not isinstance(stated, dict):
        raise ProtocolError(f"suite {name_or_path}: expected a table [protocol], found {stated!r}")
    if base is None:
        return content
    if not isinstance(base, str):
        raise ProtocolError(f"suite {name_or_path}: expected the name of a suite as base, found {base!r}")
    below = _read(base, (*above, name_or_path))
    return {**below, **content, "protocol": {**below.get("protocol", {}), **stated}}
