"""A stream that reads back what it has written."""

from __future__ import annotations

import hashlib
import os
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from convert.errors import IntegrityProblem

PIECE_BYTES = 512 << 10
"""Bytes written, read back and hashed at a time; few enough to stay in a core's second-level cache meanwhile."""
FLUSH_BYTES = 16 << 20
"""Bytes written before the disk is asked to begin. If that is left to fsync, the disk idles first and we wait later."""


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class _Meant:
    """Data that has to be in the file, a digest to update with what is read back, and a function to call after that."""

    data: memoryview
    digest: hashlib._Hash | None = None
    done: Callable[[], None] = _nothing


class Proofread:
    """A writer to a file: a thread reads each piece back, compares it with what was meant, and hashes it for the file.

    A second thread hashes it for the tensor it is a part of, so that neither the writer nor the file waits for that.

    Once `finish` has returned, what was meant is in the file, byte for byte. What is read back are the kernel's pages
    of the file, which is what any reader gets; only fsync tells that the disk took them. Use it in a `with` statement,
    which ends the threads.
    """

    def __init__(self, stream: BinaryIO, output: Path) -> None:
        """Take an empty stream that is open for reading too; output is its name in an error."""
        self.position = 0
        self._stream, self._output = stream, output
        self._expected: _Meant | None = None
        self._digest = hashlib.sha256()
        self._pending: queue.SimpleQueue[_Meant | None] = queue.SimpleQueue()
        self._compared: queue.SimpleQueue[_Meant | None] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="proofread")
        self._reading = self._pool.submit(self._read_all)
        self._hashing = self._pool.submit(self._hash_all)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._reading.done():
            self._pending.put(None)
        self._pool.shutdown()

    def expect(self, data: memoryview, digest: hashlib._Hash, done: Callable[[], None]) -> int:
        """Declare what the next write has to put into the file, and return the position where it will begin.

        Args:
            data: A flat byte view, which must not change until done is called.
            digest: Updated with what is read back.
            done: Called, in another thread, when data is no longer needed.
        """
        self._expected = _Meant(data, digest, done)
        return self.position

    def write(self, data: bytes | memoryview) -> int:
        """Write the data, a flat byte view, and return its length.

        Raises:
            IntegrityProblem: Its length is not that of what was meant.
        """
        view = memoryview(data)
        meant, self._expected = self._expected or _Meant(view), None
        if len(view) != len(meant.data):
            raise self._problem()
        for start in range(0, len(view), PIECE_BYTES):
            piece = slice(start, start + PIECE_BYTES)
            self._stream.write(view[piece])
            self._stream.flush()
            self._pending.put(_Meant(meant.data[piece], meant.digest))
        self._pending.put(_Meant(view[:0], None, meant.done))
        self.position += len(view)
        return len(view)

    def finish(self) -> str:
        """Return the SHA-256 of all that was read back, in hex.

        Raises:
            IntegrityProblem: It is not what was meant.
        """
        self._pending.put(None)
        self._reading.result()
        self._hashing.result()
        return self._digest.hexdigest()

    def _read_all(self) -> None:
        """Read back what is pending; after a problem only drain the queue, so that the writer never waits in vain."""
        position, buffer = 0, bytearray(PIECE_BYTES)
        meant = self._pending.get()
        try:
            while meant:
                position = self._read(meant, buffer, position)
                self._compared.put(meant)
                meant = self._pending.get()
        finally:
            while meant:
                meant.done()
                meant = self._pending.get()
            self._compared.put(None)

    def _hash_all(self) -> None:
        """Hash what has been compared, which equals what was read back."""
        while meant := self._compared.get():
            if meant.digest is not None:
                meant.digest.update(meant.data)
            meant.done()

    def _read(self, meant: _Meant, buffer: bytearray, position: int) -> int:
        """Read one piece back from a position, and return where the next begins."""
        back = memoryview(buffer)[: len(meant.data)]
        count = os.preadv(self._stream.fileno(), [back], position)
        if count != len(back) or not buffer.startswith(meant.data):
            raise self._problem()
        self._digest.update(back)
        before, position = position, position + count
        if position // FLUSH_BYTES > before // FLUSH_BYTES:
            _begin_flush(self._stream.fileno(), position // FLUSH_BYTES * FLUSH_BYTES - FLUSH_BYTES)
        return position

    def _problem(self) -> IntegrityProblem:
        return IntegrityProblem(f"{self._output}: what was read back is not what was written. Check the disk.")


def _begin_flush(descriptor: int, offset: int) -> None:
    """Ask the disk to start taking FLUSH_BYTES from the offset on, without waiting; macOS has no way to."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, offset, FLUSH_BYTES, os.POSIX_FADV_DONTNEED)
