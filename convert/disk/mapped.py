"""Arrays that lie in a file, read a block of rows at a time."""

from __future__ import annotations

import math
import mmap
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np

from convert.arrays import Array
from convert.disk.unchanged import cut_short
from convert.errors import IOProblem

BLOCK_BYTES = 512 << 10
"""Of a block, which with a copy of it fits into a core's second-level cache."""


class MappedFile(mmap.mmap):
    """A whole file, mapped read-only. Arrays that are views of it can also be read from it, by `row_blocks`.

    A page of a mapping counts as the process's memory once it was touched, and touching one that the file has lost
    since then kills the process. Reading does neither.
    """

    path: Path
    descriptor: int

    def __new__(cls, path: Path) -> Self:
        """Map the file.

        Raises:
            OSError: It cannot be opened.
            ValueError: It is empty.
        """
        descriptor = os.open(path, os.O_RDONLY)
        try:
            mapped = super().__new__(cls, descriptor, 0, access=mmap.ACCESS_READ)
        except BaseException:
            os.close(descriptor)
            raise
        mapped.path, mapped.descriptor = path, descriptor
        weakref.finalize(mapped, os.close, descriptor)
        return mapped

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill the buffer, a flat one of bytes, from the file.

        Raises:
            IntegrityProblem: The file ends before that.
            IOProblem: The disk refused.
        """
        while buffer:
            try:
                count = os.preadv(self.descriptor, [buffer], offset)
            except OSError as error:
                raise IOProblem(f"{self.path}: cannot be read ({error.strerror}). Check the disk.") from error
            if not count:
                raise cut_short(self.path)
            buffer, offset = buffer[count:], offset + count


def mapped(path: Path) -> memoryview:
    """Return a read-only view of a file that is not empty; it stays valid as long as something refers to it.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is empty.
    """
    return memoryview(MappedFile(path))


def row_blocks(array: Array) -> Iterator[Array]:
    """Yield the array's rows (its elements, if it has one axis or none), in blocks of about BLOCK_BYTES.

    What lies in a `MappedFile` is read into one buffer, so a block is valid only until the next is asked for.

    Raises:
        IntegrityProblem: The file became shorter.
    """
    array = np.atleast_1d(array)
    row_bytes = math.prod(array.shape[1:]) * array.itemsize
    count = max(1, BLOCK_BYTES // max(1, row_bytes))
    location = location_of(array)
    if location is None:
        yield from (array[start : start + count] for start in range(0, len(array), count))
        return
    mapped, offset = location
    buffer = np.empty((min(count, len(array)), *array.shape[1:]), array.dtype)
    for start in range(0, len(array), count):
        block = buffer[: len(array) - start]
        mapped.read_into(block.reshape(-1).view(np.uint8).data, offset + start * row_bytes)
        yield block


def location_of(array: Array) -> tuple[MappedFile, int] | None:
    """Return the mapped file that a C-contiguous array is a view of, and where in the file it begins; else None."""
    base: object = array
    while isinstance(base, (np.ndarray, memoryview)):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    if not isinstance(base, MappedFile) or not array.flags.c_contiguous:
        return None
    return base, _address(array) - _address(np.frombuffer(base, np.uint8))


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])
