"""Whether a file, the output or the source of a conversion, is still what its manifest describes, by tensor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from convert import files
from convert.arrays import tensor_sha256s
from convert.disk.hashing import file_sha256
from convert.disk.unchanged import unchanged
from convert.errors import BadInput, IOProblem, Unreadable, UsageProblem, printable
from convert.evidence.recorded import End, Recorded, manifest_path, read_recorded
from convert.files.sets import Selection
from convert.sources import tensors_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Integrity:
    """How a file compares with its manifest: each tensor, and the bytes of the file and of its shards.

    unreadable: why its tensors could not be read; they then count as neither equal nor changed.
    """

    file: str
    manifest: str
    side: End
    tensors: int
    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    changed_files: tuple[str, ...] = ()
    unreadable: str | None = None

    @property
    def intact(self) -> bool:
        """Whether every byte and every tensor is as the manifest says, and there is at least one tensor."""
        return self.tensors > 0 and not (self.changed_files or self.differing or self.unreadable)

    @property
    def differing(self) -> int:
        """Number of tensors that changed, are missing or were added."""
        return len(self.changed) + len(self.missing) + len(self.extra)

    def sentences(self) -> list[str]:
        """Return the verdict in words: one line when intact, else a line per difference and a summary."""
        if self.intact:
            return [
                f"{self.file} is the {self.side} that {self.manifest} describes: {self.tensors} tensors, every bit."
            ]
        lines = [f"! {key}: it changed" for key in self.changed]
        lines += [f"- {key}: it is missing" for key in self.missing]
        lines += [f"+ {key}: it was added" for key in self.extra]
        lines += [f"! {name}: its SHA-256 changed" for name in self.changed_files]
        lines = [printable(line) for line in lines]
        return [*lines, f"{self.file} is not the {self.side} that {self.manifest} describes: {self._summary()}."]

    def _summary(self) -> str:
        if self.unreadable:
            return f"it cannot be read any more ({self.unreadable.rstrip('.')})"
        if self.differing:
            return f"{self.differing} tensors differ of {self.tensors}"
        return f"its bytes changed, its {self.tensors} tensors did not"


def verify_file(path: Path, manifest: Path | None = None) -> Integrity:
    """Return how a file compares with a manifest.

    Args:
        path: The output of a conversion or, where the manifest is named, its source.
        manifest: None: the one beside the file.

    Raises:
        IOProblem: There is no manifest.
        Unreadable: The manifest is damaged, or the file cannot be read though its bytes have not changed.
        IntegrityProblem: The file changed while it was being read.
    """
    file = files.locate(path)
    with unchanged(file):
        return _verify(file, manifest)


def _verify(path: Path, manifest: Path | None) -> Integrity:
    if not path.is_file():
        raise Unreadable(path, "it is not a regular file", "Name a checkpoint file.")
    beside = manifest or manifest_path(path)
    if not beside.exists():
        other = "" if manifest else " Name it with --manifest, or give a second checkpoint to compare with."
        raise IOProblem(f"{beside}: there is no such manifest.{other}")
    sides = read_recorded(beside)[: None if manifest else 1]
    sha256 = file_sha256(path)
    meant = next((side for side in sides if side.sha256 == sha256), sides[-1])
    found = _look(path, sha256, meant)
    if found.problem and any(found.files == _expected(path, side) for side in sides):
        raise found.problem
    verdicts = [_compare(path, beside, side, found) for side in sorted(sides, key=lambda side: side.file != path.name)]
    return min(verdicts, key=lambda verdict: (verdict.differing, len(verdict.changed_files)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The SHA-256 of a checkpoint's file and shards, by name, and of each tensor, or why the tensors cannot be read."""

    files: dict[str, str]
    tensors: dict[str, str]
    problem: BadInput | UsageProblem | None = None


def _look(path: Path, sha256: str, meant: Recorded) -> _Found:
    hashes = {path.name: sha256}
    try:
        shards = files.shards_of(path)
        with unchanged(*shards):
            hashes |= {shard.name: file_sha256(shard) for shard in shards}
            selection = Selection(key=meant.weights_key)
            tensors = tensor_sha256s(tensors_of(path, selection, as_named=meant.by_pairing))
    except (BadInput, UsageProblem) as problem:
        return _Found(files=hashes, tensors={}, problem=problem)
    return _Found(files=hashes, tensors=tensors)


def _expected(path: Path, side: Recorded) -> dict[str, str | None]:
    return {path.name: side.sha256, **side.shards}


def _compare(path: Path, manifest: Path, side: Recorded, found: _Found) -> Integrity:
    """Return the verdict on one side of a manifest."""
    expected = _expected(path, side)
    shared = [key for key in side.tensors if key in found.tensors]
    names = sorted(expected.keys() | found.files.keys())
    return Integrity(
        file=path.name,
        manifest=manifest.name,
        side=side.side,
        tensors=len(side.tensors),
        changed=tuple(key for key in shared if found.tensors[key] != side.tensors[key]),
        missing=() if found.problem else tuple(key for key in side.tensors if key not in found.tensors),
        extra=tuple(key for key in found.tensors if key not in side.tensors),
        changed_files=tuple(name for name in names if expected.get(name) != found.files.get(name)),
        unreadable=str(found.problem) if found.problem else None,
    )
