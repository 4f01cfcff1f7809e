"""Let a command finish when nobody reads its output any more: the text is dropped, and the exit code stays its own."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

STANDARD = 3
"""Number below which descriptors belong to the standard streams; another file there would be printed into."""


class _Unbroken:
    """A text stream that drops what it is given once its reader, such as `head`, has gone away."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._letting_go():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._letting_go():
            self._stream.flush()

    @contextlib.contextmanager
    def _letting_go(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def unbroken() -> Iterator[None]:
    """Run the body so that printing works even if the standard streams are closed or their reader is gone."""
    with contextlib.suppress(OSError):
        while (nowhere := os.open(os.devnull, os.O_RDWR)) < STANDARD:
            pass  # it takes the place of a closed stream, and keeps it
        os.close(nowhere)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, "w", closefd=False))
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", _Unbroken(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
