"""The weights' way into the output file, and what is known once they are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from convert import files
from convert.arrays import Array, canonical_bytes
from convert.errors import IntegrityProblem
from convert.files.proofread import Proofread
from convert.fingerprint import tensor_sha256
from convert.manifest import describe_output, write_with_manifest
from convert.mapped import location_of
from convert.mapping import Conversion
from convert.sources import Source, with_sha256
from convert.stream import carried


@dataclass(slots=True, kw_only=True, eq=False)
class Written:
    """What the manifest says of weights that were written.

    source: With the SHA-256 of its files. described: The entry of the output. The others are by key: the canonical
    SHA-256 of the source's and of the output's tensors, and where in the output their bytes begin.
    """

    source: Source
    described: dict[str, Any] = field(default_factory=dict)
    source_sha256s: dict[str, str] = field(default_factory=dict)
    target_sha256s: dict[str, str] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)


def write_weights(
    output: Path, source: Source, conversion: Conversion, describe: Callable[[Written], dict[str, Any]], *, force: bool
) -> dict[str, Any]:
    """Write a conversion's tensors, which are read, checked and laid out on the way, and return their manifest.

    Args:
        output: Where the file is to appear, and the manifest beside it.
        source: Where the tensors come from; its files are hashed at the same time.
        conversion: What becomes of them.
        describe: Gives the manifest.
        force: Whether to replace what is there.

    Raises:
        NonFinite: A weight is NaN or infinite; nothing is written.
        IntegrityProblem: What was read back is not what was written, or the source changed; nothing is written.
        IOProblem: The folder or the disk refused.
        OutputRefused: Something is there and force is off.
    """
    written, sha256 = Written(source=source), ""

    def fill(stream: BinaryIO) -> None:
        nonlocal sha256
        proofread = Proofread(stream, output)
        files.write(output, cast("BinaryIO", proofread), conversion.state_dict, contents(proofread))
        sha256 = proofread.sha256

    def contents(proofread: Proofread) -> Iterator[Array]:
        for rule, passed in tensors:
            written.source_sha256s[rule.source] = passed.source_sha256
            written.target_sha256s[rule.target] = passed.target_sha256
            written.offsets[rule.target] = proofread.expect(canonical_bytes(passed.tensor))
            yield passed.tensor

    def check(path: Path) -> None:
        if not _finds_all(path, conversion, written):
            raise IntegrityProblem(f"{output}: what was read back is not what was written. Check the disk.")
        written.described = describe_output(output, path, sha256, written.target_sha256s, conversion.state_dict)
        written.source = hashed.result()
        source.check_unchanged()

    with ThreadPoolExecutor(1) as beside, closing(carried(source.state_dict, conversion, source.name)) as tensors:
        hashed = beside.submit(with_sha256, source)
        return write_with_manifest(output, fill, check, lambda: describe(written), force=force)


def _finds_all(path: Path, conversion: Conversion, written: Written) -> bool:
    """Return whether a reader finds every tensor in the file.

    That a tensor's bytes are in the file, and where, is known since they were written (`Proofread`). What is left is
    that the reader has the tensor's name, dtype and shape, and takes it from that place, for which no data is read.
    Where it hands out a copy instead, as of small arrays, the hash has to be right.
    """
    found = files.read(path)
    return found.keys() == conversion.state_dict.keys() and all(
        array.dtype == conversion.state_dict[key].dtype
        and array.shape == conversion.state_dict[key].shape
        and (_offset(array, path) == written.offsets[key] or tensor_sha256(array) == written.target_sha256s[key])
        for key, array in found.items()
    )


def _offset(array: Array, path: Path) -> int | None:
    """Return where in a file the array lies; None where it does not."""
    mapped, offset = location_of(array) or (None, None)
    return offset if mapped is not None and mapped.path == path else None
