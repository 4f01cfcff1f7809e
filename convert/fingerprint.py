"""Fingerprints of tensors rather than of files, so that they are equal across .pth, .safetensors and .pdparams."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from convert.arrays import Array, StateDict, canonical_bytes
from convert.disk.mapped import row_blocks


def tensor_sha256(array: Array) -> str:
    """Return the tensor's canonical SHA-256, in hex.

    What is hashed: the dtype's name, a space, the dimensions joined by `x`, a newline, then the elements in C order,
    little-endian. So neither the file format, the strides nor the key's name matter, but dtype and shape do.
    """
    digest = tensor_digest(array)
    for block in row_blocks(array):
        digest.update(canonical_bytes(block))
    return digest.hexdigest()


def tensor_digest(array: Array) -> hashlib._Hash:
    """Return the beginning of the tensor's canonical SHA-256, before its elements."""
    return hashlib.sha256(f"{array.dtype.name} {'x'.join(map(str, array.shape))}\n".encode())


def tensor_sha256s(state_dict: StateDict) -> dict[str, str]:
    """Return the canonical SHA-256 of every tensor, by key."""
    return {key: tensor_sha256(array) for key, array in state_dict.items()}


def fingerprint(sha256s: Mapping[str, str]) -> str:
    """Return one SHA-256 for a whole state dict: that of its sorted `<sha256>  <key>` lines."""
    lines = "".join(f"{sha256s[key]}  {key}\n" for key in sorted(sha256s))
    return hashlib.sha256(lines.encode()).hexdigest()
