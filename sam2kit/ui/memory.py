"""Keeps an app that runs for days as small as the work that it holds.

The C library of Linux keeps freed memory in a heap for each thread, and an app has many: left alone, it stays as
large as it ever was. Elsewhere this does next to nothing.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # names of malloc.h
_HEAPS = 4
_LARGE = 2**18  # bytes; blocks from this size go back to the system as soon as they are freed


def use_few_heaps() -> None:
    """Share a few heaps among all threads; before they begin."""
    set_option = _of_libc("mallopt")
    if set_option is not None:
        set_option(_M_ARENA_MAX, _HEAPS)
        set_option(_M_MMAP_THRESHOLD, _LARGE)


def give_back_memory() -> None:
    """Collect what nobody refers to, and hand free memory back to the system."""
    gc.collect()
    trim = _of_libc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_libc(name: str) -> Callable[..., int] | None:
    """A function of the C library; None where it has none of this name, as musl."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
