"""State dicts as they are used here, and the one byte form of a tensor that hashes and files share.

Tensors are hashed rather than files, so that the hashes are equal across .pth, .safetensors and .pdparams.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]
StateDict = Mapping[str, Array]
BLOCK_BYTES = 512 << 10
"""Bytes in a block of rows: the block and a copy of it fit together into a core's second-level cache."""


BAND = 64
"""Rows of a matrix that are transposed at a time, so that whole cache lines are read and written."""


@runtime_checkable
class Stored(Protocol):
    """The bytes of a file, which arrays are views of, and which can also be read without touching the views."""

    path: Path

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill the buffer, a flat byte view, with the bytes from the offset on."""


def canonical_bytes(array: Array) -> memoryview:
    """Return the array's elements in C order and native byte order, as a flat byte view, copied only if necessary.

    Args:
        array: Any shape, zero-size and 0-d included, any strides, any byte order. Native means little-endian wherever
            Paddle has wheels.
    """
    dtype = array.dtype
    if dtype.byteorder != "|" and not dtype.isnative:
        array = array.astype(dtype.newbyteorder("="))
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).data


def contiguous(array: Array) -> Array:
    """Return the array in C order; the array itself if it already is.

    A transposed matrix is copied in bands that stay in a core's cache, which takes a tenth of NumPy's time (1.3 instead
    of 15 ms for (3072, 768) in float32, NumPy 2.4.6).
    """
    if array.flags.c_contiguous or not array.flags.f_contiguous or array.ndim != 2:
        return np.asarray(array, order="C")  # ascontiguousarray would make a 0-d array 1-d
    copied = np.empty(array.shape, array.dtype)
    for start in range(0, array.shape[1], BAND):
        copied[:, start : start + BAND] = array[:, start : start + BAND]
    return copied


def same_bits(left: Array, right: Array) -> bool:
    """Return whether dtype, shape and bits are the same (so NaN equals itself and 0.0 differs from -0.0)."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    return bool(np.array_equal(_bits(left), _bits(right)))


def describe_difference(a: Array, b: Array) -> str:
    """Return in words how two tensors with different bits differ."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return f"{a.dtype.name} {a.shape} against {b.dtype.name} {b.shape}"
    mask = np.asarray(_bits(a) != _bits(b))
    index = first_index(mask)
    return (
        f"{np.count_nonzero(mask)} of {mask.size} elements differ, first at {index}: {a[index]!s} against {b[index]!s}"
    )


def first_index(mask: Array) -> tuple[int, ...]:
    """Return the index of the first true element of a mask that has one, in C order."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(mask)), mask.shape))


def total_bytes(arrays: Iterable[Array]) -> int:
    """Return the summed size of the arrays, in bytes."""
    return sum(array.nbytes for array in arrays)


def row_blocks(array: Array) -> Iterator[Array]:
    """Yield the array's rows (its elements, if it has one axis or none), in blocks of about BLOCK_BYTES.

    A view of something `Stored` is read into a single buffer, so a block is valid only until the next is asked for.

    Raises:
        IntegrityProblem: The file became shorter.
    """
    array = np.atleast_1d(array)
    row_bytes = math.prod(array.shape[1:]) * array.itemsize
    count = max(1, BLOCK_BYTES // max(1, row_bytes))
    location = location_of(array)
    if location is None:
        yield from (array[start : start + count] for start in range(0, len(array), count))
        return
    stored, offset = location
    buffer = np.empty((min(count, len(array)), *array.shape[1:]), array.dtype)
    for start in range(0, len(array), count):
        block = buffer[: len(array) - start]
        stored.read_into(block.reshape(-1).view(np.uint8).data, offset + start * row_bytes)
        yield block


def location_of(array: Array) -> tuple[Stored, int] | None:
    """Return the `Stored` that a C-contiguous array is a view of and the array's offset in it; None for any other."""
    base: Any = array
    while base is not None and not hasattr(base, "read_into"):  # takes 0.1 µs; isinstance(base, Stored) takes 11
        # as_strided puts an object of its own between two arrays
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    if base is None or not array.flags.c_contiguous:
        return None
    return base, _address(array) - _address(np.frombuffer(cast("memoryview", base), np.uint8))


def tensor_sha256(array: Array) -> str:
    """Return the tensor's canonical SHA-256, in hex.

    What is hashed: the dtype's name, a space, the dimensions joined by `x`, a newline, then the elements in C order,
    little-endian. So dtype and shape matter, but not the file format, the strides or the key.
    """
    digest = tensor_digest(array)
    for block in row_blocks(array):
        digest.update(canonical_bytes(block))
    return digest.hexdigest()


def tensor_digest(array: Array) -> hashlib._Hash:
    """Return the tensor's canonical SHA-256 begun: dtype and shape are hashed, the elements are still to come."""
    return hashlib.sha256(f"{array.dtype.name} {'x'.join(map(str, array.shape))}\n".encode())


def tensor_sha256s(state_dict: StateDict) -> dict[str, str]:
    """Return the canonical SHA-256 of every tensor, by key."""
    return {key: tensor_sha256(array) for key, array in state_dict.items()}


def fingerprint(sha256s: Mapping[str, str]) -> str:
    """Return one SHA-256 for a whole state dict: that of its sorted `<sha256>  <key>` lines."""
    lines = "".join(f"{sha256s[key]}  {key}\n" for key in sorted(sha256s))
    return hashlib.sha256(lines.encode()).hexdigest()


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _bits(array: Array) -> Array:
    """Return the elements as unsigned integers, or as raw bytes if there is no integer type of their size."""
    kind = "u" if array.dtype.itemsize in (1, 2, 4, 8) else "V"
    return contiguous(array).view(f"{kind}{array.dtype.itemsize}").reshape(array.shape)
