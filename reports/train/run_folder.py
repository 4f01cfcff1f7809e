"""The folder of a fine-tuning run: what it is, its logs, its checkpoints. A kill at any moment leaves it usable."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Self

import numpy as np

from convert import files
from convert.arrays import Array, StateDict, fingerprint, tensor_sha256s
from convert.disk.atomic import write_atomically
from convert.disk.temporary import sweep
from convert.errors import IntegrityProblem, IOProblem, OutputRefused, UsageProblem
from convert.files import strict_json

RUN, LOG, TIMING, CURVES = "run.json", "log.jsonl", "timing.jsonl", "curves.png"
FINAL, EVALUATION, PREDICTIONS = "final.pdparams", "evaluation.json", "predictions.npz"
CHECKPOINTS = "checkpoints"
KEPT = 2
"""Checkpoints that stay: the newest, and the one before it."""
STEP, DIGEST = "step", "fingerprint"
SAME = ("recipe", "weights", "data", "processes", "device")
"""What of run.json a resumed run has to have in common with the one it goes on with."""


class RunFolder:
    """The files of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, about: dict[str, Any]) -> None:
        """Make the folder and write what the run is.

        Raises:
            OutputRefused: There is something in it.
            IOProblem: The disk refused.
        """
        sweep(self.path)
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise OutputRefused(
                self.path, "it is not empty", "Pass --resume to go on with it, or choose another --out."
            )
        try:
            (self.path / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise IOProblem(f"{self.path}: cannot be made ({error.strerror}). Choose another --out.") from error
        self.write_json(RUN, about)

    def resume(self, about: dict[str, Any]) -> dict[str, Any]:
        """Return what the run is that lies there.

        Raises:
            UsageProblem: There is none, or it is another than the one asked for.
            IntegrityProblem: Its description is damaged.
        """
        run = self.path / RUN
        if not run.is_file():
            raise UsageProblem(f"{self.path}: there is no run to resume ({RUN} is missing). Leave --resume out.")
        try:
            there: dict[str, Any] = strict_json.parse(run.read_bytes())
            for name in SAME:
                if there[name] != strict_json.parse(json.dumps(about[name])):
                    raise UsageProblem(
                        f"{run}: this run has another {name} than the one asked for. Repeat its options."
                    )
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityProblem(f"{run}: it is damaged ({error}). Start again in another --out.") from error
        (self.path / CHECKPOINTS).mkdir(exist_ok=True)
        return there

    def write_json(self, name: str, data: dict[str, Any]) -> None:
        """Write one of the folder's JSON files, whole or not at all."""
        text = json.dumps(data, indent=1).encode() + b"\n"
        write_atomically(self.path / name, lambda stream: _write(stream, text))

    def write_checkpoint(self, step: int, tensors: StateDict) -> None:
        """Write all that the step after `step` depends on, whole or not at all, and drop what is older than KEPT.

        Raises:
            IOProblem, IntegrityProblem: The disk refused, or keeps something else; the checkpoints that were there
                still are.
        """
        content = {**tensors, STEP: np.array([step], np.int64)}
        digest = fingerprint(tensor_sha256s(content))
        sealed = {**content, DIGEST: np.frombuffer(bytes.fromhex(digest), np.uint8)}
        path = self.path / CHECKPOINTS / f"step-{step:07}.safetensors"

        def check(written: Path) -> None:
            if _unsealed(written) is None:
                raise IntegrityProblem(f"{path}: what was read back is not what was written. Check the disk.")

        write_atomically(path, lambda stream: files.write(path, stream, sealed), check)
        for old in self._checkpoints()[:-KEPT]:
            old.unlink(missing_ok=True)

    def read_checkpoint(self) -> tuple[int, StateDict, str] | None:
        """Return the newest checkpoint's step, tensors and name, or None where there is none yet.

        Raises:
            IntegrityProblem: It is not what was written.
        """
        paths = self._checkpoints()
        if not paths:
            return None
        content = _unsealed(paths[-1])
        if content is None:
            raise IntegrityProblem(f"{paths[-1]}: it was altered. Remove it to go on from the checkpoint before it.")
        return int(content.pop(STEP)[0]), content, str(paths[-1])

    def log(self, done: int, *, cut: bool) -> list[dict[str, Any]]:
        """Return the log's lines up to a step, of which there is one for each.

        Args:
            done: The step.
            cut: Whether to cut off what comes after it.

        Raises:
            IntegrityProblem: A line is missing or damaged: the log says less than the checkpoint has seen.
        """
        lines = _read_lines(self.path / LOG)
        kept = lines[:done]
        try:
            entries = [strict_json.parse(line) for line in kept]
            whole = [entry["step"] for entry in entries] == list(range(1, done + 1))
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            raise IntegrityProblem(
                f"{self.path / LOG}: it does not hold steps 1 to {done}. Start again in another --out."
            )
        for name in (LOG, TIMING) if cut else ():
            _cut(self.path / name, sum(map(len, _read_lines(self.path / name)[:done])))
        return entries

    def _checkpoints(self) -> list[Path]:
        return sorted((self.path / CHECKPOINTS).glob("step-*.safetensors"))


class Lines:
    """A JSON-lines file that grows; a line is written in one piece. To be used in a `with`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = path.open("ab", buffering=0)

    def add(self, entry: dict[str, Any]) -> None:
        """Append an entry. Floats keep all their digits."""
        line = json.dumps(entry).encode() + b"\n"
        try:
            written = self._stream.write(line)
        except OSError as error:
            raise IOProblem(f"{self.path}: cannot be written ({error.strerror}). Is the disk full?") from error
        if written != len(line):
            raise IOProblem(f"{self.path}: a line was cut short. Is the disk full?")

    def sync(self) -> None:
        """Wait until the disk has it."""
        os.fsync(self._stream.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def _unsealed(path: Path) -> dict[str, Array] | None:
    """Return a checkpoint's step and tensors, or None where they do not give the fingerprint that is with them."""
    content = dict(files.read(path))
    digest = content.pop(DIGEST, None)
    if digest is None or STEP not in content or bytes(digest).hex() != fingerprint(tensor_sha256s(content)):
        return None
    return content


def _read_lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def _cut(path: Path, size: int) -> None:
    if path.exists():
        os.truncate(path, size)


def _write(stream: Any, text: bytes) -> None:
    stream.write(text)
