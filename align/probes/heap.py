"""What the C library does with memory that was freed."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Give freed memory back to the system, where the C library is glibc.

    It keeps freed blocks below 32 MB, in a heap per thread, for what the same thread asks for next.

    Source: https://man7.org/linux/man-pages/man3/malloc_trim.3.html.
    """
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
