"""What a pickle machine reads from: bytes in memory or of a mapped file, in the form pickletools wants."""

from __future__ import annotations

import io

LINE_LIMIT = 1024
"""Bytes to read of a line, which in a pickle holds a module's or a class's name."""


class PickleBytes:
    """The part of a file object that pickletools needs, over bytes; large reads may be views instead of copies."""

    COPY_BELOW = 4096

    def __init__(self, data: memoryview, *, views: bool = True) -> None:
        self._data, self._views, self._at = data, views, 0

    def read(self, size: int) -> bytes | memoryview:
        """Return the next bytes, fewer at the end."""
        data = self._data[self._at : self._at + size]
        self._at += len(data)
        return data if self._views and size >= self.COPY_BELOW else bytes(data)

    def readline(self) -> bytes:
        """Return the bytes up to and including the next newline, or the first LINE_LIMIT of a line too long for a name.

        Raises:
            ValueError: There is a backslash, which pickletools reads as an escape and an unpickler as itself.
        """
        line = io.BytesIO(self._data[self._at : self._at + LINE_LIMIT]).readline()
        if b"\\" in line:
            raise ValueError("a name with a backslash")
        self._at += len(line)
        return line

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def __len__(self) -> int:
        return len(self._data)
