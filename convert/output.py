"""Write the mapped weights to the output file, and a manifest of what is then known of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from convert import files
from convert.arrays import Array, StateDict, canonical_bytes, location_of, tensor_digest, tensor_sha256, total_bytes
from convert.disk.atomic import Fill, write_atomically
from convert.disk.hashing import EarlyHash, give_way
from convert.disk.proofread import Proofread
from convert.disk.unchanged import files_of_ours
from convert.disk.underway import tell
from convert.engine import laid_out, source_sha256s
from convert.errors import IntegrityProblem
from convert.evidence.manifest import Written, build_manifest, describe_output
from convert.evidence.recorded import manifest_path
from convert.family import Port
from convert.identity import as_metadata
from convert.sources import with_sha256


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a file and its manifest are to appear, what they say of it, and whether to replace existing files."""

    output: Path
    said: Mapping[str, Any]
    command_line: list[str]
    force: bool


def write_weights(destination: Destination, port: Port, *, early: EarlyHash | None = None) -> dict[str, Any]:
    """Write a port's tensors, checking, hashing and laying them out on the way; return their manifest.

    Args:
        destination: Where to write them.
        port: The tensors, and where they come from; the source's files and tensors are hashed at the same time.
        early: May have the hash of the source's file already.

    Raises:
        NonFinite: A weight is NaN or infinite; nothing is written.
        IntegrityProblem: What was read back is not what was written, or the source changed; nothing is written.
        IOProblem: The folder or the disk refused.
        OutputRefused: Something is there and force is off.
    """
    with ThreadPoolExecutor(2, initializer=give_way) as beside:
        writing = _Writing(destination, port, beside, early)
        output, force = destination.output, destination.force
        return write_with_manifest(output, writing.fill, writing.check, writing.described, force=force)


def write_with_manifest(
    output: Path, fill: Fill, check: Callable[[Path], None], describe: Callable[[], dict[str, Any]], *, force: bool
) -> dict[str, Any]:
    """Write a file and, last, its manifest, both or neither; return the manifest.

    Args:
        output: Where the file is to appear.
        fill: Writes its content to a binary stream.
        check: Reads the complete file, still under another name, and raises if it is not as it should be.
        describe: Returns the manifest; called once the file is complete and checked, before it takes its place.
        force: Whether to replace existing files.

    Raises:
        OutputRefused, IntegrityProblem, IOProblem: As `write_atomically` says.
    """
    manifest: dict[str, Any] = {}

    def content() -> bytes:
        manifest.update(describe())
        return json.dumps(manifest, indent=1).encode() + b"\n"

    write_atomically(output, fill, check, force=force, beside=(manifest_path(output), content))
    return manifest


class _Writing:
    """The writing of one port. Threads that only read the source give way to those that the output waits for."""

    def __init__(
        self, destination: Destination, port: Port, beside: ThreadPoolExecutor, early: EarlyHash | None
    ) -> None:
        source, conversion = port.source, port.conversion
        self._destination, self._port, self._output = destination, port, destination.output
        self._written, self._conversion, self._sha256 = Written(source=source), conversion, ""
        self._tensors_hashed = beside.submit(
            source_sha256s, {**source.state_dict, **source.dropped}, conversion, source.name
        )
        self._files_hashed = beside.submit(with_sha256, source, early)

    def fill(self, stream: BinaryIO) -> None:
        """Write the file, and keep the hashes of what was read back."""
        digests: dict[str, hashlib._Hash] = {}
        with Proofread(stream, self._output) as proofread:
            contents = self._contents(proofread, digests)
            stream = cast("BinaryIO", proofread)
            metadata = as_metadata(self._destination.said)
            files.write(self._output, stream, self._conversion.state_dict, contents, metadata)
            self._sha256 = proofread.finish()
        targets = {key: digest.hexdigest() for key, digest in digests.items()}
        unchanged = {source: targets[target] for source, target in self._conversion.unchanged().items()}
        self._written.source_sha256s = unchanged | self._tensors_hashed.result()
        self._written.target_sha256s = targets

    def check(self, path: Path) -> None:
        """Check that a reader finds the tensors in the complete file, and that the source has not changed."""
        written, state_dict = self._written, self._conversion.state_dict
        with files_of_ours():
            whole = _finds_all(path, state_dict, written)
        if not whole:
            raise IntegrityProblem(f"{self._output}: what was read back is not what was written. Check the disk.")
        total = total_bytes(state_dict.values())
        written.described = describe_output(self._output, path, self._sha256, written.target_sha256s, total)
        written.source = self._files_hashed.result()
        written.source.check_unchanged()

    def described(self) -> dict[str, Any]:
        """Return the manifest; called once the file is complete."""
        port, destination = self._port, self._destination
        return build_manifest(
            self._written,
            self._conversion,
            layout=port.layout,
            said=destination.said,
            notes=port.notes,
            command_line=destination.command_line,
        )

    def _contents(self, proofread: Proofread, digests: dict[str, hashlib._Hash]) -> Iterator[Array]:
        total, done = total_bytes(self._conversion.state_dict.values()), 0
        for laid in laid_out(self._written.source.state_dict, self._conversion):
            key = laid.key
            digests[key] = tensor_digest(laid.tensor)
            self._written.offsets[key] = proofread.expect(canonical_bytes(laid.tensor), digests[key], laid.done)
            tell(f"writing {self._output.name}", done, total)
            done += laid.tensor.nbytes
            yield laid.tensor


def _finds_all(path: Path, state_dict: StateDict, written: Written) -> bool:
    """Return whether a reader finds every tensor in the file.

    That a tensor's bytes are in the file, and where, is known since they were written (`Proofread`). It remains to
    check that the reader finds the tensor's name, dtype and shape, and takes it from that place, which reads no data.
    If the reader returns a copy instead, as of small arrays, the hash has to be right.
    """
    found = files.read(path)
    return found.keys() == state_dict.keys() and all(
        array.dtype == state_dict[key].dtype
        and array.shape == state_dict[key].shape
        and (_offset(array, path) == written.offsets[key] or tensor_sha256(array) == written.target_sha256s[key])
        for key, array in found.items()
    )


def _offset(array: Array, path: Path) -> int | None:
    """Return the offset of the array in a file; None if it is not a view of that file."""
    mapped, offset = location_of(array) or (None, None)
    return offset if mapped is not None and mapped.path == path else None
