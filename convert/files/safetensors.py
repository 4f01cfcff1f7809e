"""The .safetensors format: checked by the safetensors library, read as views of the mapped file, written in one order.

Source: https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from convert.arrays import Array, StateDict, canonical_bytes
from convert.disk.mapped import mapped
from convert.errors import Unreadable
from convert.files import strict_json
from convert.files.content import Content

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "C64": np.dtype(np.complex64),
    "BOOL": np.dtype(np.bool_),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
HELD = tuple(dtype.name for dtype in NAMES)
DESCRIPTORS = Path("/proc/self/fd")
HEADER_LENGTH_BYTES = 8
HEADER_LIMIT = 4 * 2**20
"""Bytes of a header; a Mixer of 24 blocks has 60,000. The format allows 100 million, gigabytes as Python objects."""


def load(path: Path) -> Content:
    """Return the metadata and the tensors, read-only views of the mapped file whose data is read only when it is used.

    Raises:
        Unreadable: The header is damaged or refused by the library, or a dtype is not one we read.
    """
    data = mapped(path)
    header, begin = _header(path, data)
    _validate(path, data[:begin], len(data))
    metadata = header.pop("__metadata__", None) or {}
    try:
        tensors = {key: _view(path, data[begin:], key, entry) for key, entry in header.items()}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise Unreadable(path, f"it is truncated or damaged ({error})") from error
    return Content(tree=tensors, metadata=metadata)


def write(stream: BinaryIO, state_dict: StateDict, contents: Iterable[Array], metadata: Mapping[str, str]) -> None:
    """Write the tensors in the state dict's order, for reproducible bytes; the library orders its header at random.

    Args:
        stream: Where to write.
        state_dict: The names, dtypes and shapes.
        contents: The arrays themselves, in the same order; each is requested only when its bytes are to be written.
        metadata: Text by name, for the format's `__metadata__`.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for key, array in state_dict.items():
        begin, end = end, end + array.nbytes
        name = NAMES[array.dtype.newbyteorder("=")]
        header[key] = {"dtype": name, "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % HEADER_LENGTH_BYTES)
    stream.write(len(text).to_bytes(HEADER_LENGTH_BYTES, "little") + text)
    for array in contents:
        stream.write(canonical_bytes(array))


def _header(path: Path, data: memoryview) -> tuple[dict[str, Any], int]:
    """Return what the header says and where the tensors begin."""
    length = int.from_bytes(data[:HEADER_LENGTH_BYTES], "little")
    begin = HEADER_LENGTH_BYTES + length
    if length > HEADER_LIMIT:
        raise Unreadable(path, f"its header would have {length:,} bytes, {HEADER_LIMIT:,} at most are plausible")
    if len(data) < begin:
        raise Unreadable(path, f"it is truncated or damaged (a header of {length:,} bytes in a file of {len(data):,})")
    try:
        header = strict_json.parse(bytes(data[HEADER_LENGTH_BYTES:begin]))
    except ValueError as error:
        raise Unreadable(path, f"it is truncated or damaged: its header: {error}") from error
    if not isinstance(header, dict):
        raise Unreadable(path, "its header is no mapping of names to tensors")
    return header, begin


def _validate(path: Path, header: memoryview, size: int) -> None:
    """Check the header with the library: the dtypes, and that the tensors fill the file without overlap.

    It maps what it checks, so it gets a file in memory, which nobody can truncate: the same header, then a hole.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with _alone(path, header, size) as name, safe_open(name, framework="numpy"):
            pass
    except (SafetensorError, ValueError) as error:
        raise Unreadable(path, f"it is truncated or damaged ({error})") from error


@contextlib.contextmanager
def _alone(path: Path, header: memoryview, size: int) -> Iterator[Path]:
    """Yield the path of a file in memory with this header and size, or the file's own where that is impossible."""
    if sys.platform != "linux" or not DESCRIPTORS.is_dir():
        yield path
        return
    descriptor = os.memfd_create("header")
    try:
        yield DESCRIPTORS / str(descriptor) if _filled(descriptor, header, size) else path
    finally:
        os.close(descriptor)


def _filled(descriptor: int, header: memoryview, size: int) -> bool:
    """Return whether a file in memory could get this header and size; a limit on file sizes applies to it too."""
    try:
        os.ftruncate(descriptor, size)
        return os.pwrite(descriptor, header, 0) == len(header)
    except OSError:
        return False


def _view(path: Path, data: memoryview, key: str, entry: dict[str, Any]) -> Array:
    dtype = DTYPES.get(entry["dtype"])
    if dtype is None:
        raise Unreadable(path, f"{key} has dtype {entry['dtype']}, which is not read here", "Save it as float32.")
    begin, end = entry["data_offsets"]
    if math.prod(entry["shape"]) * dtype.itemsize != end - begin or not 0 <= begin <= end <= len(data):
        raise ValueError(f"{key}: {end - begin} bytes are wrong for {dtype} {tuple(entry['shape'])}")
    flat = np.frombuffer(data, dtype, count=(end - begin) // dtype.itemsize, offset=begin)
    return flat.reshape(entry["shape"])
