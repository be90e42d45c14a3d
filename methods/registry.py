"""Names of methods, and how "name:key=value,key=value" becomes a built method.

To add a method, write its module and add one `METHODS.register` line here. A package of your own joins without
an edit, by declaring an entry point in the group "pokebench.methods".
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import math
import re
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Union, cast, get_args, get_origin

from methods.interface import Method, TruthMethod, method_fault
from metrics.cache import user_path
from metrics.errors import MethodError
from metrics.registry import Registry

Factory = Callable[..., Method | TruthMethod]
"""Builds a method from keyword options. Their annotations type the values that a spec gives as text."""


_FILE_SPEC = re.compile(r"(?P<file>.+\.py):(?P<attribute>[A-Za-z_]\w*)(:(?P<options>.*))?")


def _factory_fault(found: Any) -> str:
    return "" if callable(found) else "it is not a factory that can be called with options"


METHODS: Registry[Factory] = Registry("method", "pokebench.methods", _factory_fault)
"""Method factories by name."""

METHODS.register("copy-last-frame", "methods.baselines:CopyLastFrame", "repeats the last context frame")
METHODS.register("context-mean", "methods.baselines:ContextMean", "repeats the mean of the context frames")
METHODS.register("flow-warp", "methods.baselines:FlowWarp", "moves x0 on at the velocity of the context")
METHODS.register("noisy-truth", "methods.baselines:NoisyTruth", "the true frames plus Gaussian noise")
METHODS.register("hao", "methods.hao.adapter:Hao", "Hao et al.: warps x0 along sparse trajectories (needs weights)")
METHODS.register("poking", "methods.poking.adapter:Poking", "Blattmann et al.: x0 answers a poke (needs weights)")
METHODS.register(
    "ivrnn", "methods.ivrnn.adapter:IVRNN", "Castrejon et al.: VRNN with levels of latents (needs weights)"
)
METHODS.register("srvp", "methods.srvp.adapter:SRVP", "SRVP: stochastic latent residual dynamics (needs weights)")
METHODS.register("savp", "methods.savp.adapter:Savp", "SAVP: latents, adversarial losses, moved pixels (needs weights)")
METHODS.register("predictions", "methods.predictions:Predictions", "videos that another program wrote to disk")


def build_method(spec: str) -> Method | TruthMethod:
    """Builds the method that `spec` names.

    Args:
        spec: "name" or "name:key=value,key=value", or "file.py:Class" and "file.py:Class:key=value" for a class
            in a Python file of the user's, which is executed. A comma ends a value only where "key=" follows it, so
            that paths may hold commas. Values are read as the factory's annotations say: str, int, float, bool
            (true or false), Path, Literal, or one of these or None ("none").

    Raises:
        RegistryError: no method of that name.
        MethodError: an option is unknown, missing or not of its type, or the factory did not build a method.
    """
    outside = _FILE_SPEC.fullmatch(spec)
    if outside:
        name, text = outside["attribute"], outside["options"] or ""
        factory = _factory_in(user_path(outside["file"]), name)
    else:
        name, _, text = spec.partition(":")
        factory = METHODS.get(name)
    options = _typed_options(name, factory, _split_options(name, text))
    method = factory(**options)
    fault = method_fault(method)
    if fault:
        raise MethodError(f"the factory of {name!r} did not build a method: {fault}. Correct the factory.")
    return method


def _factory_in(file: Path, attribute: str) -> Factory:
    """The factory `attribute` of a Python file.

    Raises:
        MethodError: there is no such file, it fails when it is executed, or it has no such factory.
    """
    if not file.is_file():
        raise MethodError(f"there is no file {file}; expected FILE.py:CLASS with a Python file that exists")
    module_spec = importlib.util.spec_from_file_location(f"pokebench_user_{file.stem}", file)
    if module_spec is None or module_spec.loader is None:
        raise MethodError(f"{file} cannot be imported as a Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module
    try:
        module_spec.loader.exec_module(module)
    except (ImportError, SyntaxError, NameError) as error:
        raise MethodError(f"{file} cannot be imported: {error}. Install what is missing, or correct it.") from error
    found = getattr(module, attribute, None)
    if found is None or _factory_fault(found):
        raise MethodError(f"{file} has no class {attribute!r}; write FILE.py:CLASS with the name of your class")
    return cast(Factory, found)


def _split_options(name: str, text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in re.split(r",(?=[A-Za-z_]\w*=)", text) if text else []:
        key, equals, value = part.partition("=")
        if not equals or not key.isidentifier():
            raise MethodError(f"{name}: expected options as key=value,key=value, found {part!r}")
        if key in options:
            raise MethodError(f"{name}: the option {key!r} is given twice; keep one")
        options[key] = value
    return options


def _typed_options(name: str, factory: Factory, given: Mapping[str, str]) -> dict[str, Any]:
    keywords = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    signature = inspect.signature(factory, eval_str=True)
    known = {key: option for key, option in signature.parameters.items() if option.kind in keywords}
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise MethodError(f"{name} has no option {key!r}; {hint}{_listing(known)}")
    missing = [key for key, option in known.items() if option.default is option.empty and key not in given]
    if missing:
        raise MethodError(f"{name} needs the option {missing[0]!r}: write {name}:{missing[0]}=VALUE. {_listing(known)}")
    return {key: _read(f"{name}: option {key!r}", text, known[key].annotation) for key, text in given.items()}


def _listing(known: Mapping[str, inspect.Parameter]) -> str:
    if not known:
        return "it takes no options"
    options = (
        f"{key} ({_type_name(option.annotation)}"
        + ("" if option.default is option.empty else f", default {option.default}")
        + ")"
        for key, option in known.items()
    )
    return f"its options are: {', '.join(options)}"


def _type_name(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return "str"
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).removeprefix("typing.")


def _read(what: str, text: str, annotation: Any) -> Any:
    """`text` as a value of `annotation`."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        if len(kinds) < len(get_args(annotation)) and text.lower() == "none":
            return None
        if len(kinds) == 1:
            return _read(what, text, kinds[0])
    if origin is Literal:
        choices = {str(choice): choice for choice in get_args(annotation)}
        if text not in choices:
            raise MethodError(f"{what}: expected one of {', '.join(choices)}, found {text!r}")
        return choices[text]
    if annotation is bool:
        if text.lower() not in ("true", "false"):
            raise MethodError(f"{what}: expected true or false, found {text!r}")
        return text.lower() == "true"
    if annotation is int or annotation is float:
        try:
            number = annotation(text)
            finite = math.isfinite(number)
        except (ValueError, OverflowError):
            finite = False
        if not finite:
            raise MethodError(f"{what}: expected a finite {annotation.__name__}, found {text!r}")
        return number
    if annotation is Path:
        if "\0" in text:
            raise MethodError(f"{what}: expected a path, found {text!r}, with a NUL character")
        return user_path(text)
    if annotation in (str, inspect.Parameter.empty):
        return text
    raise MethodError(
        f"{what}: a spec cannot give a value of type {_type_name(annotation)}; "
        "annotate it as str, int, float, bool, Path or Literal, or build the method in Python"
    )
