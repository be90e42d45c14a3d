"""How this process gets memory from a Linux system."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Numbers of glibc's `mallopt`."""
_NEVER, _AT_LEAST, _LARGEST = 2**31 - 1, 2**28, 2**30
"""Bytes."""


def keep_memory() -> bool:
    """Lets the process keep what it frees, for a step of training on a CPU needs the same again, and the system clears
    every page that it hands out. A step at the paper's size took 0.8 of the time on an AMD EPYC.

    Returns:
        Whether it took effect: it is glibc's doing, elsewhere nothing happens.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    asked = ((_MMAP_THRESHOLD, _LARGEST), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _AT_LEAST))
    taken = [mallopt(name, value) == 1 for name, value in asked]
    return all(taken)
