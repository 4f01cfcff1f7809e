"""What the C library does with memory that was freed."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Give freed memory back to the system, where the C library is glibc.

    It keeps blocks below 32 MB for later; after a cast those are all of a model's float32 weights.

    Source: https://man7.org/linux/man-pages/man3/malloc_trim.3.html.
    """
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
