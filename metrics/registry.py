"""One registry type for metrics, methods, data sets and suites: lazy, typed, open to outside packages."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from metrics.errors import RegistryError

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps names to objects that are imported only when they are asked for.

    Args:
        kind: what the names stand for, used in messages ("method").
        entry_point_group: outside packages join by declaring entry points in this group.
        check: returns what is wrong with a loaded object, or "" when it is what the registry holds.
    """

    def __init__(self, kind: str, entry_point_group: str, check: Callable[[Any], str]) -> None:
        self.kind = kind
        self.entry_point_group = entry_point_group
        self._check = check
        self._references: dict[str, str] = {}
        self._loaded: dict[str, T] = {}
        self._summaries: dict[str, str] = {}
        self._outside_seen = False

    def register(self, name: str, reference: str | T, summary: str = "") -> None:
        """Adds `name` as an object, or as a reference "module:attribute" imported on first use.

        Raises:
            RegistryError: the name is taken, or the object is of the wrong kind.
        """
        if name in self._references or name in self._loaded:
            raise RegistryError(f"the {self.kind} {name!r} is registered twice; choose another name")
        if isinstance(reference, str):
            if ":" not in reference:
                raise RegistryError(f"{self.kind} {name!r}: expected 'module:attribute', found {reference!r}")
            self._references[name] = reference
        else:
            self._loaded[name] = self._checked(name, reference)
        self._summaries[name] = summary

    def names(self) -> list[str]:
        """All names, sorted, without importing anything."""
        self._find_outside()
        return sorted({*self._references, *self._loaded})

    def summary(self, name: str) -> str:
        """One line on `name`, as given when it was registered."""
        self._find_outside()
        return self._summaries.get(name, "")

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: str) -> bool:
        return name in self.names()

    def get(self, name: str) -> T:
        """The object behind `name`.

        Raises:
            RegistryError: no such name (the message lists near matches), its module cannot be imported, or
                the object is of the wrong kind.
        """
        self._find_outside()
        if name not in self._loaded:
            if name not in self._references:
                raise RegistryError(self._unknown(name))
            module, _, attribute = self._references[name].partition(":")
            try:
                found = getattr(importlib.import_module(module), attribute)
            except (ImportError, AttributeError) as error:
                raise RegistryError(
                    f"the {self.kind} {name!r} points to {self._references[name]!r}, which cannot be imported: "
                    f"{error}. Install what is missing, or correct the entry point."
                ) from error
            self._loaded[name] = self._checked(name, found)
        return self._loaded[name]

    def _find_outside(self) -> None:
        if self._outside_seen:
            return
        self._outside_seen = True
        for point in entry_points(group=self.entry_point_group):
            self.register(point.name, point.value, summary=f"from package {point.dist.name if point.dist else '?'}")

    def _checked(self, name: str, found: Any) -> T:
        fault = self._check(found)
        if fault:
            raise RegistryError(f"{name!r} is not a {self.kind}: {fault}")
        return found

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.names(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        return f"unknown {self.kind} {name!r}; {hint}there are: {', '.join(self.names()) or 'none'}"
