"""The SHA-256 of files, computed without NumPy, so that a large file can be hashed while NumPy is imported."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from convert.disk.unchanged import Snapshot, unchanged

READ_BYTES = 8 << 20
"""Bytes that a thread beside others reads and hashes at a time. While one of those runs Python code, this one may
continue only every few milliseconds, so that small reads would mostly wait."""

NICENESS = 10


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def give_way() -> None:
    """Leave this thread only the processor time that others do not use; only Linux has a priority for each thread.

    A thread whose priority is lower already keeps it: only the administrator may raise one.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))


class EarlyHash:
    """The SHA-256 of a file, computed in a thread that starts at once; use it in a `with` statement, which ends it."""

    def __init__(self, path: Path) -> None:
        """Start hashing, if it is a regular file: reading a pipe would consume what it holds."""
        self._path, self._sha256 = path, ""
        self._snapshot: Snapshot | None = None
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="early-hash")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._given_up.set()
        self._thread.join()

    def among(self, snapshots: Iterable[Snapshot]) -> str | None:
        """Wait for the hash; return it, in hex, if the file matched one of the snapshots throughout, else None."""
        self._thread.join()
        return self._sha256 if self._sha256 and any(self._snapshot == one for one in snapshots) else None

    def _run(self) -> None:
        """Hash the file. What goes wrong here goes wrong again, and is reported, where the hash is needed."""
        give_way()
        with contextlib.suppress(Exception):
            if not self._path.is_file():
                return
            digest, buffer = hashlib.sha256(), memoryview(bytearray(READ_BYTES))
            with unchanged(self._path) as (self._snapshot,), self._path.open("rb", buffering=0) as stream:
                while (count := stream.readinto(buffer)) and not self._given_up.is_set():
                    digest.update(buffer[:count])
            if not count:
                self._sha256 = digest.hexdigest()
