"""The folder of a rehearsal: its lock, and a record of the finished steps with the hash of every file they left."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convert import files
from convert.arrays import StateDict
from convert.disk.atomic import write_atomically
from convert.disk.hashing import file_sha256
from convert.disk.temporary import sweep
from convert.errors import IntegrityProblem, IOProblem, OutputRefused, UsageProblem
from convert.files import strict_json
from reports.rehearsal.steps import Step

NAME, SCHEMA = "rehearsal.json", "mixer-report/rehearsal-record/1"
PATIENCE = 5.0
"""Seconds to wait for the lock, within which a step whose rehearsal was killed has to end too."""


class Record:
    """The options and the finished steps of a rehearsal, written to disk after every change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._done: dict[str, Any] = {}

    def start(self, asked: dict[str, Any]) -> None:
        """Make the folder and record what is asked.

        Raises:
            OutputRefused: The folder is not empty.
            IOProblem: The disk refused.
        """
        sweep(self.folder)
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise OutputRefused(
                self.folder, "it is not empty", "Pass --resume to go on with it, or choose another --out."
            )
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise IOProblem(f"{self.folder}: cannot be made ({error.strerror}). Choose another --out.") from error
        self._done = {"schema": SCHEMA, "asked": asked, "steps": {}}
        self._write()

    def resume(self, asked: dict[str, Any]) -> None:
        """Load the record in the folder, or start if a rehearsal was killed before it wrote one.

        Raises:
            UsageProblem: It is of another rehearsal than the one asked for, or there is none.
            IntegrityProblem: It is damaged.
        """
        path = self.folder / NAME
        sweep(self.folder)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.start(asked)
            return
        if not path.is_file():
            raise UsageProblem(f"{self.folder}: there is no rehearsal to resume. Leave --resume out.")
        try:
            self._done = strict_json.parse(path.read_bytes())
            before, _ = self._done["asked"], self._done["steps"]
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityProblem(f"{path}: it is damaged ({error}). Start again in another --out.") from error
        if before != asked:
            raise UsageProblem(f"{path}: this rehearsal is of other weights, data or device. Repeat its options.")

    def holds(self, step: Step) -> bool:
        """Return whether a step is finished: it ran with this command, and all that it left is unchanged."""
        done = self._done["steps"].get(step.name)
        return done == self._described(step) if done else False

    def add(self, step: Step) -> None:
        """Record that a step is finished.

        Raises:
            IntegrityProblem: Something that it should have left is missing.
        """
        described = self._described(step)
        if missing := [name for name in step.leaves if not (self.folder / name).exists()]:
            raise IntegrityProblem(f"{self.folder}: {step.name} ended without {', '.join(missing)}. See what it said.")
        self._done["steps"][step.name] = described
        self._write()

    def forget(self, step: Step) -> None:
        """Remove a step from the record and, unless it can resume from them, the files that it left."""
        self._done["steps"].pop(step.name, None)
        self._write()
        if step.resumable and (self.folder / step.resumable).is_file():
            return
        for path in {self.folder / name.partition("/")[0] for name in step.leaves}:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def put(self, name: str, content: bytes) -> None:
        """Write a file that the steps read, whole or not at all."""
        write_atomically(self.folder / name, lambda stream: _write(stream, content))

    def put_weights(self, name: str, state_dict: StateDict) -> None:
        """Write weights that the steps read, in the format of the name's suffix."""
        path = self.folder / name
        write_atomically(path, lambda stream: files.write(path, stream, state_dict))

    def _described(self, step: Step) -> dict[str, Any]:
        left = sorted(file for name in step.leaves for file in _files(self.folder / name))
        hashes = {str(file.relative_to(self.folder)): file_sha256(file) for file in left}
        return {"command": list(step.command), "files": hashes}

    def _write(self) -> None:
        self.put(NAME, json.dumps(self._done, indent=1).encode() + b"\n")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Run the body with the folder's lock, yielding its descriptor: a step that inherits it holds the lock too.

    Raises:
        UsageProblem: Another rehearsal holds the lock.
    """
    handle, until = os.open(folder, os.O_RDONLY | os.O_DIRECTORY), time.monotonic() + PATIENCE
    try:
        while not _taken(handle):
            if time.monotonic() > until:
                raise UsageProblem(
                    f"{folder}: another rehearsal is at work there. Wait for it, or choose another --out."
                )
            time.sleep(0.05)
        yield handle
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path] if path.exists() else []


def _write(stream: Any, content: bytes) -> None:
    stream.write(content)
