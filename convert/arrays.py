"""What a state dict is here, and the one byte form of a tensor that hashes and files agree on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]
StateDict = Mapping[str, Array]


def canonical_bytes(array: Array) -> memoryview:
    """Return the array's elements in C order, little-endian, as a flat byte view; copies only where it must.

    Args:
        array: Any shape, zero-size and 0-d included, any strides, any byte order.
    """
    dtype = array.dtype
    if dtype.byteorder != "|" and not dtype.isnative:
        array = array.astype(dtype.newbyteorder("="))
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).data


def same_bits(left: Array, right: Array) -> bool:
    """Return whether dtype, shape and bits are the same (so NaN equals itself and 0.0 differs from -0.0)."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    return bool(np.array_equal(_bits(left), _bits(right)))


def describe_difference(a: Array, b: Array) -> str:
    """Return in words how two tensors that are not the same bits differ."""
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


def _bits(array: Array) -> Array:
    """Return the elements as unsigned integers, or as bytes where there is no integer of their size."""
    kind = "u" if array.dtype.itemsize in (1, 2, 4, 8) else "V"
    return np.ascontiguousarray(array).view(f"{kind}{array.dtype.itemsize}").reshape(array.shape)
