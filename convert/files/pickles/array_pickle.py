"""The opcodes of an array and its name in a pickle, chosen so that the same arrays always give the same bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import BinaryIO

import ml_dtypes
import numpy as np

from convert.arrays import Array, StateDict, canonical_bytes

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

MINUS_ONE = b"J" + struct.pack("<i", -1)
EMPTY_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
"""Opcodes of an array yet to be filled. They name numpy.core.multiarray, which NumPy 1 and 2 keep for old pickles."""


def text(string: str) -> bytes:
    """Return the opcodes of a string."""
    data = string.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def write_items(stream: BinaryIO, arrays: StateDict, contents: Iterable[Array]) -> None:
    """Write each name and array, as the items of a dict whose mark is already on the stack.

    Args:
        stream: Where to write.
        arrays: The names, dtypes and shapes.
        contents: The arrays themselves, in the same order; each is requested only when its bytes are to be written.
    """
    content = iter(contents)
    for key, array in arrays.items():
        stream.write(text(key) + _array_head(array))
        stream.write(canonical_bytes(next(content)))
        stream.write(b"tb")


def write_object_npy(stream: BinaryIO, arrays: StateDict) -> None:
    """Write what `numpy.save(path, dict)` would: a 0-d object array in .npy form, whose element is the dict."""
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
    objects = b"cnumpy\ndtype\n" + text("O8") + b"\x89\x88\x87R(K\x03" + text("|") + b"NNN" + 2 * MINUS_ONE + b"K\x3ftb"
    stream.write(b"\x80\x04" + EMPTY_ARRAY + b"(K\x01)" + objects + b"\x89](}(")
    write_items(stream, arrays, arrays.values())
    stream.write(b"uetb.")


def _array_head(array: Array) -> bytes:
    """Return the opcodes of an array up to its bytes; `tb` after them builds it."""
    code = "u2" if array.dtype == BFLOAT16 else array.dtype.str[1:]
    order = b"|" if array.dtype.itemsize == 1 else b"<"
    shape = b"(" + b"".join(b"J" + struct.pack("<i", size) for size in array.shape) + b"t"
    dtype = b"cnumpy\ndtype\n" + text(code) + b"\x89\x88\x87R(K\x03" + text(order.decode()) + b"NNN"
    dtype += 2 * MINUS_ONE + b"K\x00tb"
    return EMPTY_ARRAY + b"(K\x01" + shape + dtype + b"\x89\x8e" + struct.pack("<Q", array.nbytes)
