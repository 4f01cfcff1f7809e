"""A stream that reads back what it has written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from convert.errors import IntegrityProblem

PIECE_BYTES = 512 << 10
"""Written, read back and hashed at a time; small enough to stay in a core's second-level cache meanwhile."""
FLUSH_BYTES = 16 << 20
"""Written before the disk is asked to begin. Where it is left to fsync, the disk idles first and we wait later."""


class Proofread:
    """Writes to a file, reads each piece back, compares it with what was meant, and hashes it.

    So what was meant is in the file, byte for byte. Read back are the kernel's pages of the file, which is what any
    reader gets; that the disk took them is for fsync to say.
    """

    def __init__(self, stream: BinaryIO, output: Path) -> None:
        """Begin with an empty stream, open for reading too; output is what to call it in an error."""
        self.position = 0
        self._stream, self._output, self._flushed = stream, output, 0
        self._meant: memoryview | None = None
        self._back, self._digest = bytearray(PIECE_BYTES), hashlib.sha256()

    @property
    def sha256(self) -> str:
        """The SHA-256 of all that was read back, in hex."""
        return self._digest.hexdigest()

    def expect(self, meant: memoryview) -> int:
        """Say what the next write has to put into the file (a flat view of bytes), and return where it will begin."""
        self._meant = meant
        return self.position

    def write(self, data: bytes | memoryview) -> int:
        """Write the data, a flat view of bytes.

        Raises:
            IntegrityProblem: What was read back is not what was meant.
        """
        view = memoryview(data)
        meant, self._meant = view if self._meant is None else self._meant, None
        self._require(len(view) == len(meant))
        for start in range(0, len(view), PIECE_BYTES):
            piece = slice(start, start + PIECE_BYTES)
            self._write(view[piece], meant[piece])
        return len(view)

    def _write(self, piece: memoryview, meant: memoryview) -> None:
        self._stream.write(piece)
        self._stream.flush()
        back = memoryview(self._back)[: len(piece)]
        count = os.preadv(self._stream.fileno(), [back], self.position)
        self._require(count == len(piece) and self._back.startswith(meant))
        self._digest.update(back)
        self.position += len(piece)
        if self.position - self._flushed >= FLUSH_BYTES:
            _begin_flush(self._stream.fileno(), self._flushed)
            self._flushed = self.position

    def _require(self, right: bool) -> None:
        if not right:
            raise IntegrityProblem(f"{self._output}: what was read back is not what was written. Check the disk.")


def _begin_flush(descriptor: int, offset: int) -> None:
    """Ask the disk to take what was written from the offset on, without waiting; macOS has no way to."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, offset, FLUSH_BYTES, os.POSIX_FADV_DONTNEED)
