"""Files mapped into memory, so that arrays can be views of them."""

from __future__ import annotations

import mmap
import os
import weakref
from pathlib import Path
from typing import Self

from convert.disk.unchanged import cut_short
from convert.errors import IOProblem


class MappedFile(mmap.mmap):
    """A whole file, mapped read-only. Arrays that are views of it can also be read from it.

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
