"""The folder of a fine-tuning run: its description and its logs. A kill at any moment leaves it usable."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from convert.disk.atomic import write_atomically
from convert.disk.temporary import sweep
from convert.errors import IntegrityProblem, IOProblem, OutputRefused, UsageProblem
from convert.files import strict_json
from reports.train import run_file
from reports.train.checkpoints import Checkpoint, Checkpoints
from reports.train.run_file import ADVICE

RUN, LOG, TIMING, CURVES = "run.json", "log.jsonl", "timing.jsonl", "curves.png"
FINAL, EVALUATION, PREDICTIONS = "final.pdparams", "evaluation.json", "predictions.npz"
CHECKPOINTS = "checkpoints"


class RunFolder:
    """The files of a run; checkpoints is its folder of checkpoints."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = Checkpoints(path / CHECKPOINTS)

    def refuse_used(self) -> None:
        """Check that a run can start in the folder, which need not exist yet.

        Raises:
            OutputRefused: The folder is not empty.
        """
        sweep(self.path)
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise OutputRefused(
                self.path, "it is not empty", "Pass --resume to go on with it, or choose another --out."
            )

    def start(self, about: dict[str, Any]) -> None:
        """Make the folder and write the run's description.

        Raises:
            OutputRefused: The folder is not empty.
            IOProblem: The disk refused.
        """
        self.refuse_used()
        try:
            self.checkpoints.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise IOProblem(f"{self.path}: cannot be made ({error.strerror}). Choose another --out.") from error
        self.write_json(RUN, about)

    def resume(self, about: dict[str, Any]) -> dict[str, Any]:
        """Return the description of the run in the folder, which has to be the run asked for.

        Raises:
            UsageProblem: There is no run, or it is not the one asked for.
            BadInput: Its description is not valid.
        """
        run = self.path / RUN
        if not run.is_file():
            raise UsageProblem(f"{self.path}: there is no run to resume ({RUN} is missing). Leave --resume out.")
        recorded = run_file.parse(str(run), run.read_bytes())
        run_file.check_same(str(run), recorded, about)
        self.checkpoints.path.mkdir(exist_ok=True)
        return recorded

    def sha256_of(self, name: str) -> str:
        """Return the SHA-256 of one of the folder's files."""
        return sha256((self.path / name).read_bytes()).hexdigest()

    def write_json(self, name: str, data: dict[str, Any]) -> None:
        """Write one of the folder's JSON files, whole or not at all."""
        text = json.dumps(data, indent=1).encode() + b"\n"
        write_atomically(self.path / name, lambda stream: _write(stream, text))

    def log(self, checkpoint: Checkpoint | None, *, cut: bool) -> list[dict[str, Any]]:
        """Return the log's lines up to a checkpoint, one for each step.

        Args:
            checkpoint: The newest checkpoint; None if there is none yet.
            cut: Whether to cut off what comes after it in the logs.

        Raises:
            IntegrityProblem: Lines are missing, or they or run.json are not what they were at the checkpoint.
        """
        done = checkpoint.step if checkpoint else 0
        kept = b"".join(_read_lines(self.path / LOG)[:done])
        if checkpoint is not None:
            self._check_beside(checkpoint, {LOG: kept, RUN: (self.path / RUN).read_bytes()})
        for name in (LOG, TIMING) if cut else ():
            _cut(self.path / name, sum(map(len, _read_lines(self.path / name)[:done])))
        return [strict_json.parse(line) for line in kept.splitlines()]

    def _check_beside(self, checkpoint: Checkpoint, contents: dict[str, bytes]) -> None:
        missing = checkpoint.step - contents[LOG].count(b"\n")
        if missing:
            raise IntegrityProblem(
                f"{self.path / LOG}: of the steps 1 to {checkpoint.step} the last {missing} are missing. {ADVICE}"
            )
        for name, content in contents.items():
            if checkpoint.sha256s.get(name) != sha256(content).hexdigest():
                lines = f", steps 1 to {checkpoint.step}," if name == LOG else ""
                raise IntegrityProblem(
                    f"{self.path / name}: its SHA-256{lines} is not the one that the checkpoint of step "
                    f"{checkpoint.step} holds: it was changed. {ADVICE}"
                )


class Lines:
    """A JSON-lines file to append to, each line in one write. To be used in a `with`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = path.open("ab", buffering=0)
        self._digest = sha256(path.read_bytes())

    @property
    def sha256(self) -> str:
        """The SHA-256 of all that is in the file."""
        return self._digest.hexdigest()

    def add(self, entry: dict[str, Any]) -> None:
        """Append an entry. Floats keep all their digits."""
        line = json.dumps(entry).encode() + b"\n"
        try:
            written = self._stream.write(line)
        except OSError as error:
            raise IOProblem(f"{self.path}: cannot be written ({error.strerror}). Is the disk full?") from error
        if written != len(line):
            raise IOProblem(f"{self.path}: a line was cut short. Is the disk full?")
        self._digest.update(line)

    def sync(self) -> None:
        """Wait until the file is safely on disk."""
        os.fsync(self._stream.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def _read_lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def _cut(path: Path, size: int) -> None:
    if path.exists():
        os.truncate(path, size)


def _write(stream: Any, text: bytes) -> None:
    stream.write(text)
