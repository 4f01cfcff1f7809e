"""Stand-ins for NumPy in the interpretation of a pickle of arrays: data in, arrays out, no NumPy unpickling.

Exactly what NumPy 1 and 2 write is accepted. An unpickler accepts more, some of which does not mean what it seems to:
a dtype that is made with `copy=False` ignores the state that it is given. Such a pickle is refused.
Source: NumPy 2.4, numpy/_core/src/multiarray/methods.c (array_reduce) and descriptor.c (arraydescr_reduce).
"""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from convert.arrays import Array
from convert.files.pickles.inert_pickle import InertMachine
from convert.files.pickles.inert_stand_ins import BUILTINS, OF_PADDLE
from convert.files.pickles.pickle_machine import Machine
from convert.files.pickles.pickle_source import PickleBytes
from convert.files.pickles.pickle_values import Buildable, Call, Foreign, Interpreted, Refused, StandIns, Token

DTYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1", "c8", "c16"}
INERT_DTYPES = re.compile(r"O8|[USV]\d{1,9}|[Mm]8|f16|c32", re.ASCII)
"""Objects, text, records, times, long doubles: not read, but a training checkpoint may hold them too."""
COPIES = (True, 1)
"""Values of a dtype's `copy`. Without a copy it would be NumPy's own, which ignores the state that it is given."""
DIMENSIONS = 64
"""The most dimensions that an array of NumPy 2 or a tensor of torch has."""
SIZE_LIMIT = 2**63
SHARING = 200
"""Bytes up to which NumPy copies the data an array is made from. Arrays made from the same longer data share it."""


def check_sizes(sizes: tuple[object, ...]) -> None:
    """Check that a shape, or strides, are a few whole numbers: multiplying many large ones would take hours.

    Raises:
        ValueError: They are not.
    """
    if len(sizes) > DIMENSIONS or not all(type(size) is int and 0 <= size < SIZE_LIMIT for size in sizes):
        raise ValueError("sizes that no array has")


def is_just(value: object, expected: object) -> bool:
    """Return whether a value equals a constant, or a tuple of constants, in type too; True is not 1 here."""
    if type(value) is not type(expected):
        return False
    if isinstance(value, tuple) and isinstance(expected, tuple):
        return len(value) == len(expected) and all(map(is_just, value, expected))
    return value == expected


class PendingDtype(Buildable):
    """Stands in for numpy.dtype; `dtype` is None for one that is not read here."""

    HASHABLE = True

    def __init__(self, code: object, align: object, copy: object) -> None:
        if type(code) is not str:
            raise TypeError("a dtype that is not text")
        if not any(is_just(align, no) for no in (False, 0)) or not any(is_just(copy, yes) for yes in COPIES):
            raise Refused("it makes a dtype otherwise than NumPy does")
        self.name, self.built = f"a dtype {code!r}", False
        self.dtype = self._known(code)

    def _known(self, code: str) -> np.dtype[Any] | None:
        if code not in DTYPES:
            raise Refused(f"it holds an array of dtype {code!r}, which is not read here")
        return np.dtype(code)

    def build(self, state: Any) -> None:
        """Take the byte order from the state that NumPy passes to numpy.dtype.__setstate__."""
        if self.built:
            raise Refused("it gives a dtype its state twice")
        self.built = True
        if self.dtype is None:
            return
        orders: tuple[Literal["|", "<", ">"], ...] = ("|",) if self.dtype.itemsize == 1 else ("<", ">")
        found = next((order for order in orders if is_just(state, _dtype_state(order))), None)
        if found is None:
            raise Refused("it gives a dtype a state, such as a byte order, that NumPy does not")
        self.dtype = self.dtype.newbyteorder(found)


class _AnyDtype(PendingDtype):
    """A dtype of a training checkpoint, which may hold arrays other than weights."""

    def _known(self, code: str) -> np.dtype[Any] | None:
        return None if INERT_DTYPES.fullmatch(code) else super()._known(code)


def _dtype_state(order: str) -> tuple[object, ...]:
    return (3, order, None, None, None, -1, -1, 0)


class PendingArray(Buildable):
    """Stands in for an array; `array` is None until BUILD brings shape, dtype and bytes, and for a dtype not read."""

    TEXT: ClassVar[bool] = False
    """Whether the bytes may be Python 2's text."""

    def __init__(self) -> None:
        self.array: Array | None = None
        self.data: bytes | memoryview = b""
        self.name, self.built = "an array without data", False

    def build(self, state: Any) -> None:
        """Take shape, dtype and bytes from the state that NumPy passes to numpy.ndarray.__setstate__."""
        if self.built:
            raise Refused("it gives an array its data twice")
        self.built = True
        version, shape, dtype, fortran_order, data = state if type(state) is tuple else ()
        if not isinstance(dtype, PendingDtype) or type(shape) is not tuple:
            raise TypeError("an array without dtype or shape")
        if not dtype.built or not is_just(version, 1) or type(fortran_order) is not bool:
            raise Refused("it makes an array otherwise than NumPy does")
        check_sizes(shape)
        if dtype.dtype is None:
            self.name = f"an array of {dtype.name.removeprefix('a ')}"
        else:
            self._fill(shape, dtype.dtype, data, "F" if fortran_order else "C")

    def _fill(self, shape: tuple[int, ...], dtype: np.dtype[Any], data: object, order: Any) -> None:
        if self.TEXT and type(data) is str:
            data = data.encode("latin-1")
        if not isinstance(data, (bytes, memoryview)):
            raise TypeError("an array whose data is not bytes")
        if math.prod(shape) * dtype.itemsize != len(data):
            raise ValueError(f"an array of shape {shape} in {len(data)} bytes")
        flat = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="), copy=False)
        self.array, self.data = flat.reshape(shape, order=order), data


class _Python2Array(PendingArray):
    TEXT = True


def _reconstruct(kind: object, shape: object, code: object) -> PendingArray | Foreign:
    """Stand in for numpy's _reconstruct; an array of an unknown class becomes inert."""
    if isinstance(kind, Foreign):
        return Foreign(kind.name)
    if kind is not NDARRAY or not is_just(shape, (0,)) or not is_just(code, b"b"):
        raise Refused("it makes an array otherwise than NumPy does")
    return PendingArray()


def _reconstruct_python2(kind: object, shape: object, code: object) -> PendingArray:
    if kind is not NDARRAY or not is_just(shape, (0,)) or not (is_just(code, b"b") or is_just(code, "b")):
        raise Refused("it makes an array otherwise than NumPy does")
    return _Python2Array()


def _scalar(dtype: object, data: object) -> Token:
    """Stand in for numpy's scalar, which is never a weight."""
    if not isinstance(dtype, PendingDtype) or not dtype.built:
        raise TypeError("a scalar without dtype")
    if dtype.dtype is not None and not (isinstance(data, bytes) and len(data) == dtype.dtype.itemsize):
        raise ValueError("a scalar whose data has not the size of its dtype")
    return Token("a NumPy scalar")


def encode(text: object, encoding: object) -> bytes:
    """Stand in for _codecs.encode, with which protocol 2 writes bytes."""
    if not (isinstance(text, str) and isinstance(encoding, str)):
        raise TypeError("something to encode that is not text")
    if encoding != "latin1":
        raise Refused(f"it asks for the codec {encoding!r}")
    return text.encode("latin-1")


def empty_bytes() -> bytes:
    """Stand in for bytes, with which protocol 2 writes those of an empty array."""
    return b""


def pair(items: object) -> tuple[Any, ...]:
    """Stand in for tuple, with which paddle.save writes a tensor in a nested container: (its name, the array)."""
    if not isinstance(items, tuple):
        raise TypeError("a tuple of something else")
    return items


def ordered_dict() -> collections.OrderedDict[Any, Any]:
    """Stand in for collections.OrderedDict; its items are set later."""
    return collections.OrderedDict()


NDARRAY = Token("numpy.ndarray")
CORES: Sequence[str] = ("numpy.core.multiarray", "numpy._core.multiarray")
NUMPY: StandIns = {
    ("numpy", "dtype"): Call(PendingDtype),
    ("numpy", "ndarray"): NDARRAY,
    ("_codecs", "encode"): Call(encode),
    ("__builtin__", "bytes"): Call(empty_bytes),
    **{(core, "_reconstruct"): Call(_reconstruct_python2) for core in CORES},
}
PADDLE: StandIns = {
    **NUMPY,
    ("numpy", "dtype"): Call(_AnyDtype),
    ("collections", "OrderedDict"): Call(ordered_dict),
    **{(builtins, "tuple"): Call(pair) for builtins in BUILTINS},
    **OF_PADDLE,
    **{(core, "_reconstruct"): Call(_reconstruct) for core in CORES},
    **{(core, "scalar"): Call(_scalar) for core in CORES},
}


def interpret(data: memoryview) -> Interpreted:
    """Return what a pickle by paddle.save describes; its arrays are views of the data where possible, still wrapped.

    Raises:
        Refused, Damaged: As `InertMachine.interpreted` does.
    """
    return InertMachine(PickleBytes(data), PADDLE, room=2 * len(data)).interpreted(_parts)


def interpret_python2(data: bytes) -> object:
    """Return what a pickle of plain data by Python 2 describes, with text as latin-1 and arrays still wrapped.

    Raises:
        Refused, Damaged: As `Machine.run` does.
    """
    return Machine(PickleBytes(memoryview(data), views=False), NUMPY, room=2 * len(data), python2=True).run()


def _parts(value: object) -> Iterable[object]:
    """Return the bytes that an array shares with others made from them, if they are long enough to be shared."""
    return (value.data,) if isinstance(value, PendingArray) and len(value.data) > SHARING else ()
