"""The pickles of CIFAR-10's archive, written as Python 2's cPickle wrote them: protocol 2, opcode by opcode.

Source: CPython, Lib/pickletools.py, for the opcodes; the array's are those that NumPy 1 wrote.
"""

from __future__ import annotations

import struct

import numpy as np

from convert.arrays import Array

DTYPE_UINT8 = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
EMPTY_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"


def pickled(value: object) -> bytes:
    """Return the pickle of a value: dicts, lists, text in latin-1, integers and uint8 arrays."""
    return b"\x80\x02" + _opcodes(value) + b"."


def _opcodes(value: object) -> bytes:
    if isinstance(value, dict):
        return b"}q\x00(" + b"".join(_opcodes(part) for item in value.items() for part in item) + b"u"
    if isinstance(value, list):
        return b"]q\x01(" + b"".join(map(_opcodes, value)) + b"e"
    if isinstance(value, str):
        data = value.encode("latin-1")
        return (b"U" + bytes([len(data)]) if len(data) < 256 else b"T" + struct.pack("<i", len(data))) + data
    if isinstance(value, np.ndarray):
        return _array(value)
    if not isinstance(value, int):
        raise TypeError(f"{type(value).__name__} stands in no batch")
    return b"K" + bytes([value]) if 0 <= value < 256 else b"J" + struct.pack("<i", value)


def _array(array: Array) -> bytes:
    shape = b"".join(_opcodes(size) for size in array.shape)
    content = _opcodes(array.tobytes().decode("latin-1"))
    return EMPTY_ARRAY + b"(K\x01" + b"(" + shape + b"t" + DTYPE_UINT8 + b"\x89" + content + b"tb"
