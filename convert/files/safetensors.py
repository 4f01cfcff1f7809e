"""The .safetensors format: checked by the safetensors library, read as views of the mapped file, written in one order.

Source: https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from convert.arrays import Array, StateDict, canonical_bytes
from convert.errors import Unreadable
from convert.mapped import MappedFile

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
HEADER_LENGTH_BYTES = 8


def read(path: Path) -> StateDict:
    """Return the tensors as read-only views of the mapped file; no data is read before it is used.

    Raises:
        Unreadable: The library refuses the header, or a dtype is not one we read.
    """
    _validate(path)
    mapped = MappedFile(path)
    data_start = HEADER_LENGTH_BYTES + int.from_bytes(mapped[:HEADER_LENGTH_BYTES], "little")
    header = json.loads(mapped[HEADER_LENGTH_BYTES:data_start])
    header.pop("__metadata__", None)
    return {key: _view(path, mapped, data_start, key, entry) for key, entry in header.items()}


def write(stream: BinaryIO, state_dict: StateDict, contents: Iterable[Array]) -> None:
    """Write the tensors in the state dict's order, which fixes the bytes; the library orders its header at random.

    Args:
        stream: Where to.
        state_dict: The names, dtypes and shapes.
        contents: The arrays themselves, in the same order; each is asked for when its bytes are next to be written.
    """
    header: dict[str, object] = {}
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


def _validate(path: Path) -> None:
    """Let the library check the header: its size, the dtypes, and that the tensors fill the file without overlap."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, ValueError) as error:
        raise Unreadable(path, f"it is truncated or damaged ({error})") from error


def _view(path: Path, mapped: MappedFile, data_start: int, key: str, entry: dict[str, Any]) -> Array:
    dtype = DTYPES.get(entry["dtype"])
    if dtype is None:
        raise Unreadable(path, f"{key} has dtype {entry['dtype']}, which is not read here", "Save it as float32.")
    begin, end = entry["data_offsets"]
    flat = np.frombuffer(mapped, dtype, count=(end - begin) // dtype.itemsize, offset=data_start + begin)
    return flat.reshape(entry["shape"])
