"""The checkpoints of a run: written whole or not at all, each sealed with the fingerprint of what is in it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convert import files
from convert.arrays import Array, StateDict, fingerprint, tensor_sha256s
from convert.disk.atomic import write_atomically
from convert.errors import BadInput, IntegrityProblem

KEPT = 2
"""Checkpoints to keep: the newest, and the one before it in case the disk damages the newest. More of them would fill
disks: one of B/16 with Adam's two moments has 710 MB."""
MINUTES = 10.0
"""Default minutes from one checkpoint to the next. It is what a kill costs at most, and the seconds that writing 710 MB
takes are little beside it on any machine; a number of steps is too often on one and too rare on another."""
STEP, DIGEST, BESIDE = "step", "fingerprint", "sha256|"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """All that the step after `step` depends on, and the SHA-256s of the run's other files at that time, by name."""

    step: int
    tensors: StateDict
    sha256s: Mapping[str, str]


class Due:
    """When a checkpoint is due: every `steps` steps or, if steps is None, `minutes` minutes after the last one."""

    def __init__(self, *, steps: int | None, minutes: float) -> None:
        self.steps, self.seconds = steps, 60 * minutes
        self._since = time.monotonic()

    def after(self, step: int) -> bool:
        """Return whether a checkpoint is due after a step."""
        if self.steps is not None:
            return step % self.steps == 0
        return time.monotonic() - self._since >= self.seconds

    def written(self) -> None:
        """Note that a checkpoint was written just now."""
        self._since = time.monotonic()


class Checkpoints:
    """The folder of a run's checkpoints."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, whole or not at all, and delete all but the newest KEPT.

        Raises:
            IOProblem, IntegrityProblem: The disk refused, or did not keep what was written; the earlier checkpoints
                are untouched.
        """
        beside = {BESIDE + name: _as_array(sha256) for name, sha256 in checkpoint.sha256s.items()}
        content = {**checkpoint.tensors, **beside, STEP: np.array([checkpoint.step], np.int64)}
        sealed = {**content, DIGEST: _as_array(fingerprint(tensor_sha256s(content)))}
        path = self.path / f"step-{checkpoint.step:07}.safetensors"

        def check(written: Path) -> None:
            if _unsealed(written) is None:
                raise IntegrityProblem(f"{path}: what was read back is not what was written. Check the disk.")

        write_atomically(path, lambda stream: files.write(path, stream, sealed), check)
        for old in self._paths()[:-KEPT]:
            old.unlink(missing_ok=True)

    def newest(self) -> tuple[Checkpoint, Path] | None:
        """Return the newest checkpoint and its path, or None if there is none yet.

        Raises:
            IntegrityProblem: It is not what was written.
        """
        paths = self._paths()
        if not paths:
            return None
        found = _unsealed(paths[-1])
        if found is None:
            goes_on = f"goes on from {paths[-2].name}, the one before it" if paths[1:] else "begins at step 1 again"
            raise IntegrityProblem(
                f"{paths[-1]}: it is truncated or altered, not what was written. Remove it; then --resume {goes_on}."
            )
        return found, paths[-1]

    def _paths(self) -> list[Path]:
        return sorted(self.path.glob("step-*.safetensors"))


def _unsealed(path: Path) -> Checkpoint | None:
    """Return a file's checkpoint, or None if it cannot be read or its content does not match its fingerprint."""
    try:
        content = dict(files.read(path))
    except BadInput:
        return None
    digest = content.pop(DIGEST, None)
    if digest is None or STEP not in content or bytes(digest).hex() != fingerprint(tensor_sha256s(content)):
        return None
    step = int(content.pop(STEP)[0])
    beside = {name: content.pop(name) for name in list(content) if name.startswith(BESIDE)}
    sha256s = {name.removeprefix(BESIDE): bytes(array).hex() for name, array in beside.items()}
    return Checkpoint(step=step, tensors=content, sha256s=sha256s)


def _as_array(digest: str) -> Array:
    return np.frombuffer(bytes.fromhex(digest), np.uint8)
