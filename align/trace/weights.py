"""The recorded weights as what a candidate is expected to hold, known by their hashes alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from align.core.weights import Expected
from align.trace.golden import TensorRecord
from convert.arrays import Array, tensor_sha256
from convert.errors import IntegrityProblem


def expected_hashes(recorded: Sequence[TensorRecord]) -> dict[str, Expected]:
    """Return the expected tensors by name; a mismatch names the recorded tensor that was found instead, if any."""
    owners = {tensor.sha256: tensor.name for tensor in recorded}
    return {tensor.name: _by_hash(tensor, owners) for tensor in recorded}


def drawn_again(found: str, recorded: str, what: str, seed: int) -> None:
    """Check that what was drawn is what was recorded.

    Raises:
        IntegrityProblem: Their hashes are not the same.
    """
    if found != recorded:
        raise IntegrityProblem(
            f"seed {seed}: the {what} drawn are not those that were recorded (SHA-256 {found[:16]}… against "
            f"{recorded[:16]}…), so NumPy {np.__version__} draws otherwise. Record the trace again with this NumPy."
        )


def _by_hash(tensor: TensorRecord, owners: dict[str, str]) -> Expected:
    def differs(found: Array) -> str | None:
        sha256 = tensor_sha256(found)
        if sha256 == tensor.sha256:
            return None
        return f"its bits are not the recorded ones{_instead(found, sha256, owners)}"

    return Expected(dtype=tensor.dtype, shape=tensor.shape, differs=differs)


def _instead(array: Array, sha256: str, owners: dict[str, str]) -> str:
    """Return in words whose recorded bits a tensor holds, as it is or transposed; "" when they are nobody's."""
    if owner := owners.get(sha256):
        return f", they are those of {owner}"
    if array.ndim == 2 and (owner := owners.get(tensor_sha256(array.T))):
        return f", they are those of {owner} transposed"
    return ""
