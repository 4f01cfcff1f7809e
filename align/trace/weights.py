"""The recorded weights as what is expected of a candidate, told by their hashes alone."""

from __future__ import annotations

from collections.abc import Sequence

from align.core.weights import Expected
from align.trace.trace_file import TensorRecord
from convert.arrays import Array, tensor_sha256


def expected_hashes(recorded: Sequence[TensorRecord]) -> dict[str, Expected]:
    """Return what is expected; a tensor that is another says whose it is instead, where that is recorded."""
    owners = {tensor.sha256: tensor.name for tensor in recorded}
    return {tensor.name: _by_hash(tensor, owners) for tensor in recorded}


def _by_hash(tensor: TensorRecord, owners: dict[str, str]) -> Expected:
    def differs(found: Array) -> str | None:
        sha256 = tensor_sha256(found)
        if sha256 == tensor.sha256:
            return None
        return f"its bits are not the recorded ones{_instead(found, sha256, owners)}"

    return Expected(dtype=tensor.dtype, shape=tensor.shape, differs=differs)


def _instead(array: Array, sha256: str, owners: dict[str, str]) -> str:
    """Say whose recorded bits a tensor holds, as it is or transposed; nothing when they are nobody's."""
    if owner := owners.get(sha256):
        return f", they are those of {owner}"
    if array.ndim == 2 and (owner := owners.get(tensor_sha256(array.T))):
        return f", they are those of {owner} transposed"
    return ""
