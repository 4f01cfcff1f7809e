"""A file as bytes that are read when they are used, not before."""

from __future__ import annotations

import mmap
from pathlib import Path


def mapped(path: Path) -> memoryview:
    """Return a read-only view of a file that is not empty; it stays valid as long as something refers to it.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is empty.
    """
    with path.open("rb") as stream:
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
