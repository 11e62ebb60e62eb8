"""How much memory the C library keeps to itself.

glibc learns from what is freed: after a few messages of some MiB it takes such blocks from its heap, too, where
whatever small is left behind them keeps all below it from the system for good. And each thread has a heap of its own. A
gateway that once passed on large messages would look twice as large for ever, and come the closer to its pod's limit
the longer it runs. So the thresholds are fixed (mallopt(3)), and what is free is given back in quiet moments
(malloc_trim(3)).

Another C library is left as it is.
"""

from __future__ import annotations

import ctypes
from typing import Final

BLOCK: Final = 128 * 1024
"""Bytes of a block from which on it is the system's, and goes back to it at once: what glibc begins with."""
_FREE_TOP: Final = 1024 * 1024
"""Free bytes at the end of the heap from which on they are given back."""
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

_libc: Final = ctypes.CDLL(None)


def settle() -> None:
    """Fix the thresholds, and one heap for all threads, one at a time runs Python. Call it before any start."""
    if not hasattr(_libc, "mallopt") or not hasattr(_libc, "gnu_get_libc_version"):
        return
    for option, value in ((_M_MMAP_THRESHOLD, BLOCK), (_M_TRIM_THRESHOLD, _FREE_TOP), (_M_ARENA_MAX, 1)):
        _libc.mallopt(option, value)


def give_back() -> None:
    """Return free memory to the system: glibc keeps what lies between two pieces that are in use."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
