"""What the C library does with freed memory, if it is glibc."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Source: glibc, malloc/malloc.h."""
MOST_FROM_THE_HEAP = 2**25
"""The greatest M_MMAP_THRESHOLD that glibc accepts on 64-bit systems; larger blocks are always given back."""


def keep_freed_memory() -> None:
    """Make glibc keep up to 2 GB of freed memory for reuse by this process, unless the user configured malloc.

    Memory given back to the system is zeroed page by page when it is next allocated, and layers allocate and free tens
    of megabytes each: a twentieth of the time of `mixer-align --variant b16_in21k` and of fine-tuning s32.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return
    if mallopt := _glibc("mallopt"):
        mallopt(M_MMAP_THRESHOLD, MOST_FROM_THE_HEAP)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def give_back() -> None:
    """Give freed memory back to the system.

    glibc keeps freed blocks below 32 MB, in a heap per thread, for what the same thread asks for next.

    Source: https://man7.org/linux/man-pages/man3/malloc_trim.3.html.
    """
    if trim := _glibc("malloc_trim"):
        trim(0)


def _glibc(function: str) -> Any:
    """Return a function that only glibc has; None elsewhere."""
    return getattr(ctypes.CDLL(None), function, None) if sys.platform == "linux" else None
