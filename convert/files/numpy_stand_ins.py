"""What stands in for NumPy when a pickle of arrays is interpreted: data in, arrays out, no NumPy unpickling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from convert.arrays import Array
from convert.files.pickle_machine import Buildable, Call, Machine, Refused, StandIns, Token
from convert.files.pickle_source import Reader

DTYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1", "c8", "c16"}
DIMENSIONS = 64
"""The most that an array of NumPy 2 or a tensor of torch has."""


def check_sizes(sizes: tuple[object, ...]) -> None:
    """Check that a shape, or strides, are a few whole numbers: to multiply many large ones would take hours.

    Raises:
        ValueError: They are not.
    """
    if len(sizes) > DIMENSIONS or not all(type(size) is int and size >= 0 for size in sizes):
        raise ValueError("sizes that no array has")


class PendingArray(Buildable):
    """Stands in for an array; `array` is None until BUILD brings shape, dtype and bytes."""

    def __init__(self, *_: object) -> None:
        self.array: Array | None = None

    def build(self, state: Any) -> None:
        """Take what numpy.ndarray.__setstate__ takes."""
        _, shape, dtype, fortran_order, data = state
        if not isinstance(dtype, _PendingDtype) or type(shape) is not tuple:
            raise TypeError("an array without dtype or shape")
        check_sizes(shape)
        data = data.encode("latin-1") if isinstance(data, str) else data
        if math.prod(shape) * dtype.dtype.itemsize != len(data):
            raise ValueError(f"an array of shape {shape} in {len(data)} bytes")
        flat = np.frombuffer(data, dtype.dtype).astype(dtype.dtype.newbyteorder("="), copy=False)
        self.array = flat.reshape(shape, order="F" if fortran_order else "C")


class _PendingDtype(Buildable):
    """Stands in for numpy.dtype."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str):
            raise TypeError("a dtype that is not text")
        if code not in DTYPES:
            raise Refused(f"it holds an array of dtype {code!r}, which is not read here")
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        """Take the byte order from what numpy.dtype.__setstate__ takes."""
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError("a byte order that is none")
        self.dtype = self.dtype.newbyteorder(order)


def encode(text: object, encoding: object) -> bytes:
    """Stand in for _codecs.encode, by which protocol 2 spells bytes."""
    if not (isinstance(text, str) and isinstance(encoding, str)):
        raise TypeError("something to encode that is not text")
    if encoding != "latin1":
        raise Refused(f"it asks for the codec {encoding!r}")
    return text.encode("latin-1")


def empty_bytes() -> bytes:
    """Stand in for bytes, by which protocol 2 spells those of an empty array."""
    return b""


def pair(items: object) -> tuple[Any, ...]:
    """Stand in for tuple, by which paddle.save spells a tensor in a nest: (its name, the array)."""
    if not isinstance(items, tuple):
        raise TypeError("a tuple of something else")
    return items


def ordered_dict() -> dict[Any, Any]:
    """Stand in for collections.OrderedDict; its items are set later."""
    return {}


NUMPY: StandIns = {
    ("numpy", "dtype"): Call(_PendingDtype),
    ("numpy", "ndarray"): Token("numpy.ndarray"),
    ("_codecs", "encode"): Call(encode),
    ("__builtin__", "bytes"): Call(empty_bytes),
    **{(f"numpy.{core}.multiarray", "_reconstruct"): Call(PendingArray) for core in ("core", "_core")},
}
PADDLE: StandIns = {
    **NUMPY,
    ("collections", "OrderedDict"): Call(ordered_dict),
    ("builtins", "tuple"): Call(pair),
    ("__builtin__", "tuple"): Call(pair),
    **{(f"numpy.{core}.multiarray", "scalar"): Call(lambda *_: Token("a NumPy scalar")) for core in ("core", "_core")},
}


def interpret(data: memoryview) -> object:
    """Return what a pickle by paddle.save describes; arrays are views of the data where they can be, still wrapped.

    Raises:
        Refused, Damaged: As `Machine.run` does.
    """
    return Machine(Reader(data), PADDLE, room=2 * len(data)).run()


def interpret_python2(data: bytes) -> object:
    """Return what a pickle of plain data by Python 2 describes, text as latin-1; its arrays are still wrapped.

    Raises:
        Refused, Damaged: As `Machine.run` does.
    """
    return Machine(Reader(memoryview(data), views=False), NUMPY, room=2 * len(data), python2=True).run()
