"""How properties are fuzzed: the same examples on every run, and no example for ever."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metrics.errors import PokeBenchError

QUICK, LONG = 40, 1500
"""Examples of a quick run, and of a slow one."""
WATCHDOG = 20.0
"""Seconds after which an example counts as one that never ends; ordinary ones take milliseconds."""


class Hang(BaseException):
    """An example did not end. No handler of ordinary exceptions may swallow it."""


@contextmanager
def watched() -> Iterator[None]:
    """Raises `Hang` in the block when it does not end."""
    assert threading.current_thread() is threading.main_thread()

    def stop(*_: Any) -> None:
        raise Hang(f"not done after {WATCHDOG:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, WATCHDOG)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fuzz(
    use: Callable[[Any], Any], values: st.SearchStrategy[Any], examples: int, *admitted: type[Exception]
) -> tuple[int, int]:
    """Gives `examples` values to `use`, which must return, or raise a PokeBenchError (or one of `admitted`) that says
    something. Returns how many were accepted and how many refused."""
    counts = [0, 0]

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(values)
    def check(value: Any) -> None:
        try:
            with watched():
                use(value)
            counts[0] += 1
        except (PokeBenchError, *admitted) as error:
            said = str(error)
            counts[1] += 1
        else:
            said = "a value"
        assert said.strip(), "an error without a message"

    check()
    return counts[0], counts[1]


SPECIAL = st.sampled_from(
    [
        *(None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63), 10**30, 1e308, -0.0, 1e-320),
        *(float("nan"), float("inf"), -float("inf"), "", "none", "nan", "\0", "../..", "~nobody/x", "é" * 3, "\ud800"),
        *("1" * 5000, [], {}, [[]], {"": None}, [None] * 50, {"a": {"b": {"c": []}}}),
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = SPECIAL | st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


def _places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*before, key)
        yield from _places(inner, (*before, key))


def _changed(value: Any, place: tuple[Any, ...], change: tuple[str, Any]) -> Any:
    """A copy of `value` in which something is changed at `place`."""
    what, new = change
    if not place:
        return new
    key, *rest = place
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    if rest:
        copy[key] = _changed(value[key], tuple(rest), change)
    elif what == "delete":
        del copy[key]
    elif what == "add" and isinstance(copy, dict):
        copy[f"{key} more"] = new
    else:
        copy[key] = new
    return copy


def mutated(value: Any, most: int = 3) -> st.SearchStrategy[Any]:
    """`value` with one to `most` entries deleted, added or replaced, anywhere in it."""

    @st.composite
    def strategy(draw: st.DrawFn) -> Any:
        found = value
        for _ in range(draw(st.integers(1, most))):
            places = list(_places(found))
            if not places:
                return found
            change = draw(st.sampled_from(["replace", "replace", "delete", "add"])), draw(JSON)
            found = _changed(found, draw(st.sampled_from(places)), change)
        return found

    return strategy()


def mutated_bytes(content: bytes, most: int = 6) -> st.SearchStrategy[bytes]:
    """`content` with bytes changed, cut out, put in or doubled; most often near the beginning, where headers are.

    The strategy keeps `content` under that name, for fuzzing of other kinds to begin with.
    """

    @st.composite
    def strategy(draw: st.DrawFn) -> bytes:
        found = bytearray(content)
        for _ in range(draw(st.integers(1, most))):
            limit = draw(st.sampled_from([64, 512, len(found)]))
            place = draw(st.integers(0, max(min(limit, len(found)) - 1, 0)))
            what = draw(st.sampled_from(["flip", "flip", "set", "cut", "put", "end", "double"]))
            if what == "flip" and found:
                found[place] ^= 1 << draw(st.integers(0, 7))
            elif what == "set":
                found[place : place + 4] = draw(
                    st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x01"])
                )
            elif what == "cut":
                del found[place : place + draw(st.integers(1, 64))]
            elif what == "put":
                found[place:place] = draw(st.binary(max_size=16))
            elif what == "end":
                del found[place:]
            elif what == "double":
                found[place:place] = found[place : place + 200]
        return bytes(found)

    made = strategy()
    made.content = content  # type: ignore[attr-defined]
    return made
