"""One array in .npy form, as each member of an .npz is: its header is matched, not evaluated.

Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html; NumPy's own reader evaluates the header
as a Python literal, and its limit of 10,000 bytes per header applies here too.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from convert.arrays import Array
from convert.disk.mapped import mapped
from convert.errors import Unreadable

MAGIC = b"\x93NUMPY"
LENGTH_BYTES = {1: 2, 2: 4, 3: 4}
"""Bytes in the field that holds the header's length, by major version."""
HEADER_LIMIT = 10_000
SIZE_LIMIT = 2**63
SIZE = r"(?:0|[1-9]\d*)L?"
SIZES = rf"|{SIZE},|{SIZE}(?:, {SIZE})+"
"""The items of a tuple, as Python writes them; Python 2 wrote an L after a long integer."""
HEADER = re.compile(
    r"\{'descr': '(?P<dtype>[^']*)', 'fortran_order': (?P<fortran>True|False), 'shape': \((?P<shape>"
    + SIZES
    + r")\), \} *\n",
    re.ASCII,
)
DTYPE = re.compile(r"[<>|=]?(?:[biufcSU][1-9]\d{0,8}|[mM]8(?:\[[\dA-Za-z]+\])?|V2)", re.ASCII)
OBJECTS = re.compile(r"'\|?O\d?'")


def read(path: Path) -> Array:
    """Return the array of a .npy file, as a read-only view of the mapped file.

    Raises:
        Unreadable: It is damaged, or holds anything but numbers, text or times.
    """
    try:
        return array_of(mapped(path))
    except ValueError as error:
        raise Unreadable(path, f"it is truncated, damaged or no NumPy array ({error})") from error


def array_of(data: memoryview) -> Array:
    """Return the array that bytes in .npy form hold: a read-only view if its byte order is native, else a copy.

    Two bytes without a type (V2) are bfloat16, which NumPy does not know by name.
    Source: https://github.com/google-research/big_vision/blob/main/big_vision/utils.py, recover_dtype.

    Raises:
        ValueError: They hold Python objects, the header is not one that is read, or its sizes do not match the data.
    """
    header, begin = _header(data)
    if OBJECTS.search(header):
        raise ValueError("it holds Python objects, which are never unpickled (allow_pickle is off)")
    match = HEADER.fullmatch(header)
    if match is None or DTYPE.fullmatch(match["dtype"]) is None or ("L" in match["shape"] and data[6] > 2):
        raise ValueError(f"a header that is not read here: {header.strip()}")
    dtype, shape = _dtype(match["dtype"]), _shape(match["shape"])
    if math.prod(shape) * dtype.itemsize != len(data) - begin:
        raise ValueError(f"its header says {dtype} {shape}, for which {len(data) - begin} bytes are wrong")
    flat = np.frombuffer(data, np.uint8, offset=begin) if len(data) > begin else np.zeros(0, np.uint8)
    array = flat.view(dtype).reshape(shape, order="F" if match["fortran"] == "True" else "C")
    return array.astype(array.dtype.newbyteorder("="), copy=False) if not array.dtype.isnative else array


def _dtype(text: str) -> np.dtype[Any]:
    try:
        dtype = np.dtype(text)
    except TypeError as error:
        raise ValueError(str(error)) from error
    return np.dtype(ml_dtypes.bfloat16) if dtype.kind == "V" else dtype


def _header(data: memoryview) -> tuple[str, int]:
    """Return the header's text and where the elements begin."""
    if bytes(data[:6]) != MAGIC or len(data) < 8 or data[6] not in LENGTH_BYTES or data[7] != 0:
        raise ValueError("it is no array in a version of .npy that is known")
    begin = 8 + LENGTH_BYTES[data[6]]
    length = int.from_bytes(data[8:begin], "little")
    if length > HEADER_LIMIT:
        raise ValueError(f"a header of {length:,} bytes, {HEADER_LIMIT:,} at most are plausible")
    return bytes(data[begin : begin + length]).decode("latin-1" if data[6] < 3 else "utf-8"), begin + length


def _shape(text: str) -> tuple[int, ...]:
    sizes = tuple(int(size.strip().removesuffix("L")) for size in text.split(",") if size.strip())
    if any(size >= SIZE_LIMIT for size in sizes):
        raise ValueError("sizes that no array has")
    return sizes
